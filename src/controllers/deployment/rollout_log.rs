//! Log of a rollout for one host: each step, its duration, its error. Display only; no decision rests on it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use landfall_host_protocol::{Event, EventKind, StepName};
use parking_lot::Mutex;

use super::{context::DeploymentContext, failure::StepError, host_ref::HostRef};
use crate::{
    effects::{clock, logs::LogError, rollout_logs::RolloutLogs},
    model::rollout::{HostFailure, RolloutAttempt},
    plan::deployment::{Assignment, Goal, Step, outdated_attempts},
};

/// The log of one task on one host.
pub(crate) struct RolloutLog<'a> {
    logs: &'a RolloutLogs,
    host_ref: &'a HostRef,
    attempt: Option<RolloutAttempt>,
    goal: &'a Goal,
    /// Whether the purpose of the task is written.
    purpose_written: Mutex<bool>,
    told: Mutex<Told>,
}

/// What the lines so far say.
#[derive(Default)]
struct Told {
    /// The step of the plan is told as one, so those of its task are not: bytes are sent before it, or its task says nothing.
    whole: bool,
    /// Milliseconds of the task at which its step began.
    step_began: u64,
}

impl<'a> RolloutLog<'a> {
    pub fn new(logs: &'a RolloutLogs, host_ref: &'a HostRef, assignment: &'a Assignment) -> Self {
        let attempt = RolloutAttempt::new(&assignment.key.rollout, assignment.key.attempt);
        Self {
            logs,
            host_ref,
            attempt,
            goal: &assignment.goal,
            purpose_written: Mutex::new(false),
            told: Mutex::default(),
        }
    }

    fn write(&self, text: &str) {
        if let Some(attempt) = self.attempt {
            self.logs.write(&self.host_ref.uid, attempt, &self.host_ref.host, text);
        }
    }

    /// A task without any step writes nothing.
    fn write_purpose(&self) {
        let mut purpose_written = self.purpose_written.lock();
        if !std::mem::replace(&mut *purpose_written, true) {
            self.write(&purpose(self.goal));
        }
    }

    pub fn begins(&self, step: &Step) -> Instant {
        let whole = matches!(step, Step::Stage | Step::Claim);
        self.told.lock().whole = whole;
        if !matches!(step, Step::Died | Step::Failed(_) | Step::Overtaken | Step::Reached) {
            self.write_purpose();
        }
        if whole || matches!(step, Step::Attach(_)) {
            self.write(&format!("{} …", step_name(step)));
        }
        clock::monotonic()
    }

    pub fn done(&self, step: &Step, began: Instant) {
        if self.told.lock().whole {
            let took = clock::monotonic().saturating_duration_since(began);
            self.write(&format!("{}: done in {:.1} s", step_name(step), took.as_secs_f64()));
        }
    }

    pub fn error(&self, step: &Step, error: &StepError) {
        match error {
            StepError::Superseded => self.write(&format!("{}: stopped, the host has a new goal", step_name(step))),
            StepError::Host(error) => self.write(&format!("{}: not done: {error}", step_name(step))),
            StepError::Delta { version, why } => self.write(&format!(
                "{}: not done with what the host has of {version}: {why}; the whole release is sent",
                step_name(step)
            )),
            StepError::Values(failure) => self.write(&format!("{}: not begun: {}", step_name(step), failure.message)),
            StepError::Unreached => self.lost(),
            // Written with the recorded failure.
            StepError::Failed(_) | StepError::Task(_) => {}
        }
    }

    /// Something about the step under way.
    pub(crate) fn note(&self, text: &str) {
        self.write(text);
    }

    /// What a task on the host tells.
    pub(crate) fn event(&self, event: &Event) {
        let name = task_step_name(event.step);
        let text = {
            let mut told = self.told.lock();
            let took = Duration::from_millis(event.after_millis.saturating_sub(told.step_began)).as_secs_f64();
            match &event.kind {
                EventKind::Begun => {
                    told.step_began = event.after_millis;
                    (!told.whole).then(|| format!("{name} …"))
                }
                EventKind::Skipped => (!told.whole).then(|| format!("{name}: nothing to do")),
                EventKind::Ended => (!told.whole).then(|| format!("{name}: done in {took:.1} s")),
                EventKind::Progress { text } | EventKind::Line { text, .. } => Some(format!("{name}: {text}")),
                EventKind::Cut { bytes } => Some(format!("{name}: {bytes} bytes of output are left out")),
                // Written with the recorded failure.
                EventKind::Failed { .. } => None,
                EventKind::Unknown(later) => Some(format!("{name}: {later}")),
            }
        };
        if let Some(text) = text {
            self.write(&text);
        }
    }

    pub fn lost(&self) {
        self.write_purpose();
        self.write("no connection to the host; continues when it is back");
    }

    pub fn reached(&self, goal: &Goal) {
        if *self.purpose_written.lock() {
            self.write(match goal {
                Goal::Stage(_) => "staged",
                Goal::Run { .. } => "ready",
                Goal::Release => "claim given up; the application keeps running",
                Goal::Remove { .. } => "removed",
                Goal::Adopt => "adopted",
                Goal::Prune(_) => "pruned",
                Goal::Claim(_) => "claimed",
            });
        }
    }

    pub fn failed(&self, failure: &HostFailure) {
        self.write(&format!("FAILED: {}: {}", failure.reason, failure.message));
    }
}

/// Moves the logs of older attempts to the store, in the background; one that comes there too late to be kept is removed again.
pub fn seal(context: &Arc<DeploymentContext>, uid: &str) {
    let (then, of) = (context.clone(), uid.to_owned());
    let _ = context.tasks.start(format!("rollout-log/{uid}"), async move {
        if let Err(error) = then.rollout_logs.seal(&then.shared.gate, &then.store, &of).await {
            tracing::warn!(uid = of, %error, "the log of an older rollout is not in the store yet");
        }
        remove_outdated(&then, &of).await;
    });
}

/// Removes the logs of older rollouts, in the background, now and whenever one comes to the store.
pub fn limit(context: &Arc<DeploymentContext>, uid: &str, current: RolloutAttempt, rollouts: usize) {
    context.log_limits.lock().insert(uid.to_owned(), (current, rollouts));
    let (then, of) = (context.clone(), uid.to_owned());
    let _ = context.tasks.start(format!("rollout-log/{uid}/limit"), async move { remove_outdated(&then, &of).await });
}

async fn remove_outdated(context: &DeploymentContext, uid: &str) {
    let limit = context.log_limits.lock().get(uid).copied();
    let Some((current, rollouts)) = limit else { return };
    if let Err(error) = try_remove_outdated(context, uid, current, rollouts).await {
        tracing::warn!(uid, %error, "logs of old rollouts are removed later");
    }
}

async fn try_remove_outdated(
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
        Goal::Stage(target) => format!("goal: stage {}", target.version),
        Goal::Run { target, skipped_drain: Some(why), .. } => {
            format!("goal: run {}; what runs is stopped without its drain: {why}", target.version)
        }
        Goal::Run { target, heal: false, .. } => format!("goal: run {}", target.version),
        Goal::Run { target, heal: true, .. } => format!("goal: start {} again, its process ended", target.version),
        Goal::Release => "goal: give up the claim".to_owned(),
        Goal::Remove { skipped_drain: Some(why), .. } => format!("goal: stop without its drain, and remove: {why}"),
        Goal::Remove { skipped_drain: None, .. } => "goal: stop and remove".to_owned(),
        Goal::Adopt => "goal: adopt the host".to_owned(),
        Goal::Prune(_) => "goal: prune old releases".to_owned(),
        Goal::Claim(_) => "goal: claim the host again".to_owned(),
    }
}

fn step_name(step: &Step) -> &'static str {
    match step {
        Step::Attach(_) => "wait for the task under way",
        Step::Stage => "stage",
        Step::StageAgain => "stop, stage again what was changed on the host",
        Step::Update => "stop, switch, start",
        Step::Stop => "stop",
        Step::Switch => "switch",
        Step::Verify => "verify",
        Step::Prune => "prune old releases",
        Step::Claim => "claim",
        Step::Release => "give up the claim",
        Step::Remove => "remove",
        Step::Adopt => "adopt",
        Step::Died => "start",
        Step::Failed(_) => "what the host says of its last task",
        Step::Overtaken | Step::Reached => "check",
    }
}

/// A step of a task, as people read it.
fn task_step_name(step: StepName) -> &'static str {
    match step {
        StepName::WaitReady => "wait until ready",
        StepName::MinReady => "stay ready",
        StepName::GiveUp => "give up the claim",
        StepName::Prune => "prune old releases",
        other => other.as_str(),
    }
}
