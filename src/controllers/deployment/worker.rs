//! Background task of one host: it takes the next step by the planner's rule as an order for the host's worker in the fleet, and repeats,
//! until the goal is reached, the host failed or was lost, or another goal was given. Killed at any point it leaves no state but the host's.

use std::{sync::Arc, time::Duration};

use tracing::Instrument;

use super::{
    context::DeploymentContext,
    failure::{Recovery, StepError, recovery},
    host_ref::HostRef,
    observe, records,
    rollout_log::{self, RolloutLog},
    step::{self, StepContext},
};
use crate::{
    api::deployment::Phase,
    controllers::hosts::{HostKey, HostWorkerKey, HostWorkers},
    effects::clock,
    model::{
        Class, Failure,
        facts::HostFacts,
        rollout::{HostFailure, ProcessId},
    },
    plan::deployment::{Assignment, AssignmentId, Goal, Step, StepProgress, next_step},
};

/// How one goal ended.
enum End {
    Reached,
    /// Another goal was given.
    Changed,
    /// The host could not be reached, or a person acted on it first: no process was touched.
    NotReached,
    /// The host was lost, or may not be acted on: the planner decides again.
    Yielded,
    /// The start for healing failed; tried again later.
    NotHealed(Failure),
    /// The goal is tried again until it is reached.
    TriedAgain(Failure),
    Failed(HostFailure),
}

/// The longest wait for a session to begin with: the planner decides without it. The host's worker keeps its place among those that wait.
const SESSION_PATIENCE: Duration = Duration::from_secs(30);
/// The same for a look at the end.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);
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
    let _guard = Guard(context.hosts.workers.clone(), key.clone(), number);
    let host_key = host_ref.host_key();
    let mut acted = false;
    while let Some((assignment, version)) = context.hosts.workers.goal(&key) {
        let log = RolloutLog::new(&context.rollout_logs, &host_ref, &assignment);
        let end = follow(&context, &host_ref, &assignment, version, &log, &mut acted).await;
        // What an act that was not heard to its end left there is not known.
        let is_known = matches!(end, End::Reached);
        match end {
            End::Changed => continue,
            End::Reached => {
                log.reached(&assignment.goal);
                context.hosts.workers.reached(&key);
            }
            End::NotReached => {
                context.hosts.workers.heal_undone(&key);
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
            End::NotHealed(failure) => {
                context.hosts.workers.heal_failed(&key, failure);
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
            // The planner says when.
            End::TriedAgain(failure) => context.hosts.workers.try_failed(&key, assignment.key.kind, failure),
            End::Yielded => tokio::time::sleep(FAILURE_PAUSE).await,
            End::Failed(failure) => {
                tracing::warn!(reason = %failure.reason, phase = ?failure.phase, "the host failed: {}", failure.message);
                log.failed(&failure);
                record(&context, &host_ref, &failure).await;
            }
        }
        // The planner needs a look that is newer than the last act; where the host is lost, the next session begins with one.
        if !is_known && !context.hosts.is_lost(&host_key) {
            let _ = context.hosts.look(&host_key, LOOK_PATIENCE).await;
        }
        if context.hosts.workers.end(&key, version) {
            break;
        }
    }
    context.shared.requeue.deployment(&host_ref.namespace, &host_ref.deployment);
    if acted {
        context.hosts.wake_users(&host_key, &host_ref.folder());
        context.shared.requeue.host_group_later(&host_ref.namespace, &host_ref.group);
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

/// `acted`: something was begun there.
async fn follow(
    context: &Arc<DeploymentContext>,
    host_ref: &HostRef,
    assignment: &Assignment,
    version: u64,
    log: &RolloutLog<'_>,
    acted: &mut bool,
) -> End {
    let (key, host_key) = (host_ref.worker_key(), host_ref.host_key());
    let wanted = || context.hosts.workers.is_goal(&key, version);
    let (mut done, mut retries) = (StepProgress::default(), 0);
    // One session for all orders of the goal.
    let _hold = context.hosts.hold(&host_key);
    // What the host told over its session is so; an act that was under way may be over.
    let at_rest = |facts: &HostFacts| facts.folders.get(&host_ref.folder()).is_none_or(|folder| folder.open.is_none());
    let mut known = context.hosts.facts(&host_key).filter(|facts| at_rest(facts));
    let mut has_begun = false;
    loop {
        if !wanted() {
            return End::Changed;
        }
        let facts = match known.take() {
            Some(facts) => facts,
            None => match look(context, &host_key, has_begun).await {
                Some(facts) => facts,
                None => {
                    log.lost();
                    return if has_begun { End::Yielded } else { End::NotReached };
                }
            },
        };
        let observed = observe::folder_view(&facts, &host_ref.folder());
        let step = next_step(&observed, &assignment.goal, done);
        match step {
            Step::Reached => return End::Reached,
            Step::Overtaken => return End::NotReached,
            _ => {}
        }
        if context.hosts.workers.pass(&key, step.phase()) {
            context.shared.requeue.deployment_later(&host_ref.namespace, &host_ref.deployment);
        }
        if !matches!(step, Step::Died | Step::Failed(_)) {
            (has_begun, *acted) = (true, true);
        }
        let step_context = StepContext { controller: context, host_ref, assignment, observed: &observed, log };
        let began = log.begins(&step);
        let pass = |phase| {
            if context.hosts.workers.pass(&key, phase) {
                context.shared.requeue.deployment_later(&host_ref.namespace, &host_ref.deployment);
            }
        };
        let error = match step::perform(&step_context, &step, &mut done, wanted, pass).await {
            Ok(()) => {
                log.done(&step, began);
                if matches!(step, Step::Stage | Step::StageAgain) {
                    context.hosts.workers.upload_succeeded(&key);
                }
                // The host told what is so after its task; of one that was attached to, more may have come.
                known = context.hosts.facts(&host_key).filter(|_| !matches!(step, Step::Attach(_)));
                continue;
            }
            Err(error) => error,
        };
        log.error(&step, &error);
        match next_after(error, &step, &mut retries) {
            Next::Again => tokio::time::sleep(Duration::from_millis(200)).await,
            Next::Changed => return End::Changed,
            Next::Yield => return End::Yielded,
            Next::SetAside(failure) => {
                let AssignmentId { rollout, attempt, .. } = &assignment.key;
                context.hosts.workers.upload_was_slow(&key, rollout, *attempt, failure);
                return End::Yielded;
            }
            Next::NoValue(failure) => return no_value(assignment, failure),
            Next::Failed(failure, phase, process) => return failed(assignment, host_ref, phase, failure, process),
        }
    }
}

/// A host that is lost is not waited for long: it is dialled all the time, and the planner is told when it answers.
async fn look(context: &DeploymentContext, key: &HostKey, has_begun: bool) -> Option<Arc<HostFacts>> {
    let is_brief = has_begun || context.hosts.is_lost(key);
    let patience = if is_brief { LOOK_PATIENCE } else { SESSION_PATIENCE };
    context.hosts.look(key, patience).await.ok()
}

enum Next {
    Again,
    Changed,
    Yield,
    /// Its line is too slow.
    SetAside(Failure),
    /// A value of a Secret can't be had, or is another by now.
    NoValue(Failure),
    Failed(Failure, Phase, Option<ProcessId>),
}

fn next_after(error: StepError, step: &Step, retries: &mut u32) -> Next {
    let error = match error {
        StepError::Superseded => return Next::Changed,
        StepError::Delta { .. } => return Next::Again,
        StepError::Values(failure) => return Next::NoValue(failure),
        StepError::Failed(failure) => return Next::Failed(failure, step.phase(), None),
        StepError::Task(failed) => return Next::Failed(failed.failure, failed.phase, failed.process),
        StepError::Unreached => return Next::Yield,
        StepError::Host(error) => error,
    };
    tracing::info!(%error, ?step, "a step on a host failed");
    match recovery(&error) {
        Recovery::Again => Next::Again,
        Recovery::RetryLimited(failure) => {
            *retries += 1;
            if *retries < MAX_RETRIES { Next::Again } else { Next::Failed(failure, step.phase(), None) }
        }
        Recovery::Disconnected | Recovery::Yield => Next::Yield,
        Recovery::SetAside(failure) => Next::SetAside(failure),
        Recovery::Fail(failure) => Next::Failed(failure, step.phase(), None),
    }
}

/// No host fails for it. An update waits, and the planner names the cause; a start for healing is tried again.
fn no_value(assignment: &Assignment, failure: Failure) -> End {
    tracing::info!(reason = %failure.reason, "a value of a Secret can't be had: {}", failure.message);
    match assignment.goal {
        Goal::Run { heal: true, .. } => End::NotHealed(Failure::new(failure.reason, Class::Transient, failure.message)),
        _ => End::Yielded,
    }
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
        Goal::Release | Goal::Remove { .. } | Goal::Adopt | Goal::Prune(_) | Goal::Claim(_) => {
            tracing::warn!(reason = %failure.reason, "tried again on the host later: {}", failure.message);
            return End::TriedAgain(failure);
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
