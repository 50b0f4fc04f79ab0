//! What the log of a rollout says of one host: each step, how long it took, why it was not done. Words only; nothing depends on them.

use std::{sync::Arc, time::Instant};

use parking_lot::Mutex;

use super::{context::DeploymentContext, failure::StepError, host_ref::HostRef};
use crate::{
    effects::{clock, logs::LogError, rollout_logs::RolloutLogs},
    model::rollout::{HostFailure, RolloutAttempt},
    plan::deployment::{Assignment, Goal, Step, outdated_attempts},
};

/// The log of one task on one host.
pub struct RolloutLog<'a> {
    logs: &'a RolloutLogs,
    host_ref: &'a HostRef,
    attempt: Option<RolloutAttempt>,
    goal: &'a Goal,
    /// Whether the task has said what it is for.
    purpose_written: Mutex<bool>,
}

impl<'a> RolloutLog<'a> {
    pub fn new(logs: &'a RolloutLogs, host_ref: &'a HostRef, assignment: &'a Assignment) -> Self {
        let attempt = RolloutAttempt::new(&assignment.key.rollout, assignment.key.attempt);
        Self { logs, host_ref, attempt, goal: &assignment.goal, purpose_written: Mutex::new(false) }
    }

    fn write(&self, text: &str) {
        if let Some(attempt) = self.attempt {
            self.logs.write(&self.host_ref.uid, attempt, &self.host_ref.host, text);
        }
    }

    /// A task that finds nothing to do says nothing.
    fn write_purpose(&self) {
        let mut purpose_written = self.purpose_written.lock();
        if !std::mem::replace(&mut *purpose_written, true) {
            self.write(&purpose(self.goal));
        }
    }

    pub fn begins(&self, step: &Step) -> Instant {
        if !matches!(step, Step::Died | Step::Reached) {
            self.write_purpose();
            self.write(&format!("{} …", step_name(step)));
        }
        clock::monotonic()
    }

    pub fn done(&self, step: &Step, began: Instant) {
        let took = clock::monotonic().saturating_duration_since(began);
        self.write(&format!("{}: done in {:.1} s", step_name(step), took.as_secs_f64()));
    }

    pub fn error(&self, step: &Step, error: &StepError) {
        match error {
            StepError::Superseded => {
                self.write(&format!("{}: left off, the host has another goal by now", step_name(step)))
            }
            StepError::Host(error) => self.write(&format!("{}: not done: {error}", step_name(step))),
            // The verdict says it.
            StepError::Failed(_) => {}
        }
    }

    /// Readiness was asked for and the answer was another one than before.
    pub fn not_yet(&self, why: &str) {
        self.write(&format!("not ready yet: {why}"));
    }

    pub fn lost(&self) {
        self.write_purpose();
        self.write("no connection to the host; goes on when there is one");
    }

    pub fn reached(&self, goal: &Goal) {
        if *self.purpose_written.lock() {
            self.write(match goal {
                Goal::Stage(_) => "staged",
                Goal::Run { .. } => "ready",
                Goal::Release => "given up; what runs goes on",
                Goal::Remove => "removed",
                Goal::Adopt => "taken over",
                Goal::Prune(_) => "pruned",
            });
        }
    }

    pub fn failed(&self, verdict: &HostFailure) {
        self.write(&format!("FAILED: {}: {}", verdict.reason, verdict.message));
    }
}

/// What older attempts had to say goes into the store, in the background.
pub fn seal(context: &Arc<DeploymentContext>, uid: &str) {
    let (then, of) = (context.clone(), uid.to_owned());
    let _ = context.tasks.start(format!("rollout-log/{uid}"), async move {
        if let Err(error) = then.rollout_logs.seal(&then.shared.gate, &then.store, &of).await {
            tracing::warn!(uid = of, %error, "the log of an older rollout is not in the store yet");
        }
    });
}

/// Removes the logs of older rollouts, in the background. What is left of them goes when the next one begins.
pub fn limit(context: &Arc<DeploymentContext>, uid: &str, current: RolloutAttempt, rollouts: usize) {
    let (then, of) = (context.clone(), uid.to_owned());
    let _ = context.tasks.start(format!("rollout-log/{uid}/limit"), async move {
        if let Err(error) = remove_outdated(&then, &of, current, rollouts).await {
            tracing::warn!(uid = of, %error, "logs of old rollouts are removed later");
        }
    });
}

async fn remove_outdated(
    context: &DeploymentContext,
    uid: &str,
    current: RolloutAttempt,
    rollouts: usize,
) -> Result<(), LogError> {
    let (logs, gate, store) = (&context.rollout_logs, &context.shared.gate, &context.store);
    let all = logs.attempts(store, uid).await?.into_iter().chain([current]);
    for attempt in outdated_attempts(all, rollouts).into_iter().filter(|attempt| *attempt < current) {
        logs.remove_attempt(gate, store, uid, attempt).await?;
    }
    Ok(())
}

fn purpose(goal: &Goal) -> String {
    match goal {
        Goal::Stage(target) => format!("{} is to be staged", target.version),
        Goal::Run { target, heal: false, .. } => format!("{} is to run here", target.version),
        Goal::Run { target, heal: true, .. } => format!("{} ran here and ended; it is to run again", target.version),
        Goal::Release => "the claim is to be given up".to_owned(),
        Goal::Remove => "everything is to be removed".to_owned(),
        Goal::Adopt => "the host is to be taken over".to_owned(),
        Goal::Prune(_) => "releases that are too many are to be removed".to_owned(),
    }
}

fn step_name(step: &Step) -> &'static str {
    match step {
        Step::Attach(_) => "wait for what is under way",
        Step::Stage => "stage",
        Step::Update => "stop, switch, start",
        Step::Stop => "stop",
        Step::Switch => "switch",
        Step::Start => "start",
        Step::Verify { .. } => "verify",
        Step::Mark { .. } => "mark as ready",
        Step::Prune { .. } => "prune old releases",
        Step::Release => "give up the claim",
        Step::Remove => "remove",
        Step::Adopt => "take over",
        Step::Died => "start",
        Step::Reached => "check",
    }
}
