//! Background task of one host: it checks the host, takes the next step by the planner's rule, and repeats, until the goal is reached, the
//! host failed or was lost, or another goal was given. Killed at any point it leaves no state but the host's.

use std::{sync::Arc, time::Duration};

use tracing::Instrument;

use super::{
    context::DeploymentContext,
    failure::{Recovery, StepError, recovery},
    host_ref::HostRef,
    observe, records,
    rollout_log::{self, RolloutLog},
    step,
};
use crate::{
    api::deployment::Phase,
    controllers::hosts::{self, HostKey, HostWorkerKey, HostWorkers, Link},
    effects::{clock, host::HostError},
    model::{
        Class, Failure,
        facts::{HostFacts, ProcessFacts},
        rollout::{HostFailure, ProcessId},
    },
    plan::{
        deployment::{Assignment, Goal, Step, StepProgress, next_step},
        hostgroup::HostCheck,
    },
};

/// How one goal ended.
enum End {
    Reached,
    /// Another goal was given.
    Changed,
    /// The host could not be reached: no act was done.
    NotReached,
    /// The host was lost, or may not be acted on: the planner decides again.
    Yielded,
    /// The start for healing failed; tried again later.
    NotHealed(Failure),
    Failed(HostFailure),
}

/// Retries for errors expected to be transient.
const MAX_RETRIES: u32 = 3;
/// Pause after a goal that was not reached and has no recorded failure, so that it is not tried in a hot loop.
const FAILURE_PAUSE: Duration = Duration::from_secs(3);

/// Follows the goals of a host until there is none.
pub async fn run(context: Arc<DeploymentContext>, host_ref: HostRef, number: u64) {
    let span = host_ref.span();
    follow_goals(context, host_ref, number).instrument(span).await;
}

async fn follow_goals(context: Arc<DeploymentContext>, host_ref: HostRef, number: u64) {
    let key = host_ref.worker_key();
    let _guard = Guard(context.fleet.hosts.workers.clone(), key.clone(), number);
    let acts = context.fleet.hosts.acts(&host_ref.host_key());
    while let Some((assignment, version)) = context.fleet.hosts.workers.goal(&key) {
        let log = RolloutLog::new(&context.rollout_logs, &host_ref, &assignment);
        match follow(&context, &host_ref, &assignment, version, &log).await {
            End::Changed => continue,
            End::Reached => {
                log.reached(&assignment.goal);
                context.fleet.hosts.workers.heal_succeeded(&key);
            }
            End::NotReached => {
                context.fleet.hosts.workers.heal_undone(&key);
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
            End::NotHealed(failure) => {
                context.fleet.hosts.workers.heal_failed(&key, failure);
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
            End::Yielded => tokio::time::sleep(FAILURE_PAUSE).await,
            End::Failed(failure) => {
                tracing::warn!(reason = %failure.reason, phase = ?failure.phase, "the host failed: {}", failure.message);
                log.failed(&failure);
                record(&context, &host_ref, &failure).await;
            }
        }
        // The planner needs a check that is newer than the last act.
        if matches!(context.fleet.hosts.check(&host_ref.host_key()), HostCheck::Unknown) {
            let _ = hosts::probe(&context.fleet, &host_ref.host_key()).await;
        }
        if context.fleet.hosts.workers.end(&key, version) {
            break;
        }
    }
    context.shared.requeue.deployment(&host_ref.namespace, &host_ref.deployment);
    if context.fleet.hosts.acts(&host_ref.host_key()) != acts {
        context.shared.requeue.deployments_in(&host_ref.namespace);
        context.shared.requeue.host_group(&host_ref.namespace, &host_ref.group);
    }
    rollout_log::seal(&context, &host_ref.uid);
}

/// Removes the task from the list however it ends, also by a panic.
struct Guard(HostWorkers, HostWorkerKey, u64);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.stop(&self.1, self.2);
    }
}

/// A failure that can't be recorded does not count: the next task finds and records it.
async fn record(context: &DeploymentContext, host_ref: &HostRef, failure: &HostFailure) {
    if let Err(error) = records::write_failure(context, &host_ref.uid, failure).await {
        tracing::warn!(%error, "the failure of a host could not be recorded; tried again");
        tokio::time::sleep(FAILURE_PAUSE).await;
    }
}

async fn follow(
    context: &Arc<DeploymentContext>,
    host_ref: &HostRef,
    assignment: &Assignment,
    version: u64,
    log: &RolloutLog<'_>,
) -> End {
    let (key, host_key) = (host_ref.worker_key(), host_ref.host_key());
    let wanted = || context.fleet.hosts.workers.is_goal(&key, version);
    let (mut done, mut retries) = (StepProgress::default(), 0);
    let Some(link) = connect(context, &host_key).await else {
        log.lost();
        return End::NotReached;
    };
    // Checked over this connection, so in this boot, and no act was done since: the host refuses acts that are planned on an old view.
    // An act under way then may be over.
    let at_rest = |facts: &HostFacts| facts.folders.get(&host_ref.folder()).is_none_or(|folder| folder.open.is_none());
    let mut known = match context.fleet.hosts.check(&host_key) {
        HostCheck::Facts(facts) if link.is_verified() && at_rest(&facts) => Some(*facts),
        _ => None,
    };
    loop {
        if !wanted() {
            return End::Changed;
        }
        // An act returns the facts after it; else the host is checked.
        let facts = match known.take() {
            Some(facts) => facts,
            None => match hosts::probe_over(&context.fleet, &host_key, &link).await {
                Ok(facts) => facts,
                Err(_) => {
                    log.lost();
                    return End::Yielded;
                }
            },
        };
        let observed = observe::folder_view(&facts, &host_ref.folder());
        let step = next_step(&observed, &assignment.goal, done);
        if step == Step::Reached {
            return End::Reached;
        }
        if context.fleet.hosts.workers.pass(&key, step.phase()) {
            context.shared.requeue.deployment(&host_ref.namespace, &host_ref.deployment);
        }
        if !matches!(step, Step::Verify { .. } | Step::Died) {
            context.fleet.hosts.begin_act(&host_key);
        }
        let step_context = step::StepContext {
            controller: context,
            host_ref,
            assignment,
            observed: &observed,
            free_bytes: facts.free_bytes,
            host: &link.host,
            log,
        };
        let began = log.begins(&step);
        let error = match step::perform(&step_context, &step, &mut done, wanted).await {
            Ok(Some(folder)) => {
                log.done(&step, began);
                known = Some(hosts::after(&context.fleet, &host_key, facts, &host_ref.folder(), folder));
                continue;
            }
            // No act was done: the known facts still hold.
            Ok(None) if matches!(step, Step::Verify { .. }) => {
                log.done(&step, began);
                known = Some(facts);
                continue;
            }
            Ok(None) => continue,
            Err(error) => error,
        };
        log.error(&step, &error);
        match next_after(error, &step, host_ref, assignment, &mut retries) {
            Next::Again => tokio::time::sleep(Duration::from_millis(200)).await,
            Next::Changed => return End::Changed,
            Next::Yield => return End::Yielded,
            Next::Failed(failure, phase) => {
                let process = observed.folder.process.as_ref().filter(|_| matches!(step, Step::Verify { .. }));
                return failed(assignment, host_ref, phase, failure, process.map(ProcessFacts::id));
            }
        }
    }
}

/// One connection for the whole task. A failure to connect is kept for the planner.
async fn connect(context: &Arc<DeploymentContext>, key: &HostKey) -> Option<Arc<Link>> {
    if let Ok(link) = hosts::link(&context.fleet, key).await {
        return Some(link);
    }
    let _ = hosts::probe(&context.fleet, key).await;
    None
}

enum Next {
    Again,
    Changed,
    Yield,
    Failed(Failure, Phase),
}

fn next_after(error: StepError, step: &Step, host_ref: &HostRef, assignment: &Assignment, retries: &mut u32) -> Next {
    let error = match error {
        StepError::Superseded => return Next::Changed,
        StepError::Failed(failure) => return Next::Failed(failure, step.phase()),
        StepError::Host(error) => error,
    };
    tracing::info!(%error, ?step, "a step on a host failed");
    if is_failure_of_other_act(step, &error, host_ref, assignment) {
        return Next::Again;
    }
    let (reason, phase) = step::reason_and_phase(step, &error);
    match recovery(&error, reason) {
        Recovery::Again => Next::Again,
        Recovery::RetryLimited(failure) => {
            *retries += 1;
            if *retries < MAX_RETRIES { Next::Again } else { Next::Failed(failure, phase) }
        }
        Recovery::Disconnected | Recovery::Yield => Next::Yield,
        Recovery::Fail(failure) => Next::Failed(failure, phase),
    }
}

/// An act of another Deployment, rollout or attempt was waited for and failed: no failure of this one.
fn is_failure_of_other_act(step: &Step, error: &HostError, host_ref: &HostRef, assignment: &Assignment) -> bool {
    let Step::Attach(open) = step else { return false };
    let own =
        open.uid == host_ref.uid && open.rollout == assignment.key.rollout && open.attempt == assignment.key.attempt;
    !own && matches!(error, HostError::StepFailed { .. } | HostError::DiskFull { .. } | HostError::PortInUse { .. })
}

/// An update can fail for good. Healing and releasing are tried again as the planner decides.
fn failed(
    assignment: &Assignment,
    host_ref: &HostRef,
    phase: Phase,
    failure: Failure,
    process: Option<ProcessId>,
) -> End {
    match assignment.goal {
        Goal::Stage(_) | Goal::Run { heal: false, .. } => {}
        Goal::Run { heal: true, .. } => {
            return End::NotHealed(Failure::new(failure.reason, Class::Transient, failure.message));
        }
        Goal::Release | Goal::Remove | Goal::Adopt | Goal::Prune(_) | Goal::Claim(_) => {
            tracing::warn!(
                reason = %failure.reason,
                message = failure.message,
                "a host is tried again later"
            );
            return End::Yielded;
        }
    }
    End::Failed(HostFailure {
        rollout: assignment.key.rollout.clone(),
        attempt: assignment.key.attempt,
        host: host_ref.host.clone(),
        reason: failure.reason,
        phase,
        message: failure.message,
        at: clock::now(),
        process,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::Reason, model::facts::OpenAct};

    #[test]
    fn a_failed_act_of_another_rollout_fails_no_host() {
        let assignment = Assignment::new("web-01", Goal::Release, "3.0", 2, None);
        let [namespace, deployment, uid, project, group, host] =
            ["team", "shop", "u", "shop", "prod", "web-01"].map(str::to_owned);
        let host_ref = HostRef { namespace, deployment, uid, project, group, host };
        let next_of = |uid: &str, rollout: &str, attempt, part: &str| {
            let (uid, step) = (uid.to_owned(), "turn".to_owned());
            let open = OpenAct { uid, rollout: rollout.to_owned(), attempt, n: 7, step, running: true };
            let error =
                HostError::StepFailed { step: part.to_owned(), why: "it died".to_owned(), last_lines: Vec::new() };
            next_after(StepError::Host(error), &Step::Attach(open), &host_ref, &assignment, &mut 0)
        };
        let own_act = |rollout: &str, attempt, part: &str| next_of("u", rollout, attempt, part);
        assert!(matches!(next_of("of the one before", "3.0", 2, "start"), Next::Again));
        assert!(matches!(own_act("2.0", 2, "start"), Next::Again));
        assert!(matches!(own_act("3.0", 1, "start"), Next::Again));
        for (part, reason, phase) in [
            ("start", Reason::StartFailed, Phase::Starting),
            ("switch", Reason::SwitchFailed, Phase::Switching),
            ("turn", Reason::StopFailed, Phase::Stopping),
        ] {
            let Next::Failed(failure, at) = own_act("3.0", 2, part) else { panic!("{part}: a verdict") };
            assert_eq!((failure.reason, at), (reason, phase), "{part}");
        }
    }
}
