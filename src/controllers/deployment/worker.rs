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
    step::{self, StepContext},
};
use crate::{
    api::deployment::Phase,
    controllers::hosts::{self, HostKey, HostWorkerKey, HostWorkers, Link},
    effects::clock,
    model::{
        Class, Failure,
        facts::HostFacts,
        rollout::{HostFailure, ProcessId},
    },
    plan::{
        deployment::{Assignment, AssignmentId, Goal, Step, StepProgress, next_step},
        hostgroup::HostCheck,
    },
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
    Failed(HostFailure),
}

/// The longest wait for the right to a connection, and for a check at the end: the planner decides without it.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(30);
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
            let host_key = host_ref.host_key();
            let check = hosts::probe(&context.fleet, &host_key);
            if tokio::time::timeout(CONNECTION_PATIENCE, check).await.is_err() {
                context.fleet.hosts.request_check(&host_ref.namespace, &host_ref.group, [&host_ref.host]);
            }
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
        match step {
            Step::Reached => return End::Reached,
            Step::Overtaken => return End::NotReached,
            _ => {}
        }
        if context.fleet.hosts.workers.pass(&key, step.phase()) {
            context.shared.requeue.deployment(&host_ref.namespace, &host_ref.deployment);
        }
        if !matches!(step, Step::Died | Step::Failed(_)) {
            context.fleet.hosts.begin_act(&host_key);
        }
        let step_context =
            StepContext { controller: context, host_ref, assignment, observed: &observed, host: &link.host, log };
        let began = log.begins(&step);
        let pass = |phase| {
            if context.fleet.hosts.workers.pass(&key, phase) {
                context.shared.requeue.deployment(&host_ref.namespace, &host_ref.deployment);
            }
        };
        let error = match step::perform(&step_context, &step, &mut done, wanted, pass).await {
            Ok(Some(folder)) => {
                log.done(&step, began);
                if matches!(step, Step::Stage | Step::StageAgain) {
                    context.fleet.hosts.workers.upload_succeeded(&key);
                }
                known = Some(hosts::after(&context.fleet, &host_key, facts, &host_ref.folder(), folder));
                continue;
            }
            Ok(None) => continue,
            Err(error) => error,
        };
        // What the host told during the task, as of a process that lived then, is older than its end.
        if let StepError::Task(failed) = &error
            && let Some(folder) = failed.folder.clone()
        {
            hosts::after(&context.fleet, &host_key, facts, &host_ref.folder(), folder);
        }
        log.error(&step, &error);
        match next_after(error, &step, &mut retries) {
            Next::Again => tokio::time::sleep(Duration::from_millis(200)).await,
            Next::Changed => return End::Changed,
            Next::Yield => return End::Yielded,
            Next::SetAside(failure) => {
                let AssignmentId { rollout, attempt, .. } = &assignment.key;
                context.fleet.hosts.workers.upload_was_slow(&key, rollout, *attempt, failure);
                return End::Yielded;
            }
            Next::NoValue(failure) => return no_value(assignment, failure),
            Next::Failed(failure, phase, process) => return failed(assignment, host_ref, phase, failure, process),
        }
    }
}

/// One connection for the whole task. A failure to connect is kept for the planner; where none is free, the others go on.
async fn connect(context: &Arc<DeploymentContext>, key: &HostKey) -> Option<Arc<Link>> {
    if let Ok(link) = hosts::link_soon(&context.fleet, key, CONNECTION_PATIENCE).await? {
        return Some(link);
    }
    let _ = tokio::time::timeout(CONNECTION_PATIENCE, hosts::probe(&context.fleet, key)).await;
    None
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
