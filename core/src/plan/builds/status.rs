//! A Build's next status in the making, and the ways in which a decision can end.

use std::time::Duration;

use jiff::Timestamp;

use super::{Action, Observed};
use crate::{
    api::{
        Reason, Verdict,
        build::{Attempt, BuildStatus, SUCCEEDED, TAGGED},
        conditions::{self, Extra, READY, STALLED},
        verbs::{self, RETRY},
    },
    model::retry_state::RetryState,
    plan::{EventDraft, NEW_VALUE, Plan, project::Denied, requester, verb_command},
};

/// How many attempts a status shows.
const ATTEMPTS: usize = 20;
/// Background work requeues the Build when it ends; this covers the case that it can't.
const REQUEUE_AFTER: Duration = Duration::from_secs(30);

pub(super) struct StatusBuilder<'a> {
    pub(super) observed: &'a Observed,
    pub(super) now: Timestamp,
    pub(super) status: BuildStatus,
    pub(super) extras: Vec<Extra>,
    actions: Vec<Action>,
    retried: bool,
}

impl<'a> StatusBuilder<'a> {
    /// Command for another attempt.
    pub(super) fn retry_command(&self) -> String {
        let object = &self.observed.object;
        verb_command("builds", &object.namespace, &object.name, RETRY, NEW_VALUE)
    }

    pub(super) fn new(observed: &'a Observed, now: Timestamp) -> Self {
        let before = observed.object.status.clone().unwrap_or_default();
        let first = observed.object.status.is_none();
        let retried = verbs::asked(RETRY, &observed.object.annotations, &before.last_handled, first).is_some();
        // A version is only what can be deployed; an earlier version put the tag there from the grant on.
        let published = conditions::status_of(&before.conditions, READY) == Some(true);
        // A later generation is a cancellation, maybe by somebody else.
        let requester = || requester::of_build(&observed.object.annotations, observed.operator.as_deref());
        let requested_by =
            before.requested_by.clone().or_else(|| requester().filter(|_| observed.object.generation == 1));
        let status = BuildStatus {
            requested_by,
            tag: before.tag.or_else(|| before.version.clone()),
            version: before.version.filter(|_| published),
            observed_generation: observed.object.generation,
            last_handled: verbs::handled(&[RETRY], &observed.object.annotations, &before.last_handled),
            attempts: merged(&before.attempts, &observed.ends),
            backoff: None,
            queue: None,
            superseded_by: before.superseded_by.filter(|_| !retried),
            ..before
        };
        let actions = if retried { vec![Action::ClearFailures] } else { vec![] };
        Self { observed, now, status, extras: vec![], actions, retried }
    }

    /// Whether a person just asked for another try.
    pub(super) fn retried(&self) -> bool {
        self.retried
    }

    /// Who asked for the attempt that comes next: who set `retry` last, or who created the Build.
    pub(super) fn requester(&self) -> Option<String> {
        match self.status.last_handled.contains_key(RETRY) {
            true => requester::of_verb(RETRY, &self.observed.object.annotations),
            false => self.status.requested_by.clone(),
        }
    }

    /// Whether nothing is left to do without a retry. Every failed verdict is kept until a retry: what failed weeks ago
    /// must not start by itself.
    pub(super) fn ended(&self) -> bool {
        let is = |kind| conditions::status_of(&self.status.conditions, kind) == Some(true);
        is(STALLED) || is(READY)
    }

    /// The last failure that still counts.
    pub(super) fn retry_state(&self) -> Option<&'a RetryState> {
        self.observed.retry_state.as_ref().filter(|_| !self.retried)
    }

    /// Whether the cancellation that the spec wishes is for the attempt that runs now or comes next. It may not be taken back, so
    /// one that was carried out does not touch a retry.
    pub(super) fn cancelled(&self) -> bool {
        let done = |attempt: &Attempt| {
            let superseded = attempt.reason.as_ref().is_some_and(|reason| *reason == Reason::Superseded.as_str());
            attempt.outcome == Some(crate::api::build::Outcome::Cancelled) && !superseded
        };
        self.observed.object.spec.cancelled && !self.status.attempts.iter().any(done)
    }

    /// What the project's policy says against it. A retry asks the project again.
    pub(super) fn denied(&self) -> Option<&'a Denied> {
        self.observed.denied.as_ref().filter(|_| !self.retried)
    }

    /// Whether a newer build takes its place; the status names it then, before anything is ended.
    pub(super) fn superseded(&mut self) -> bool {
        if let Some(Denied::SupersededBy(newer)) = self.denied() {
            self.status.superseded_by = Some(newer.clone());
        }
        self.status.superseded_by.is_some()
    }

    /// Whether a running script has to end: by `spec.cancelled`, or by a newer build.
    pub(super) fn unwanted(&mut self) -> bool {
        // Both are asked: the status names the newer build in any case.
        self.superseded() | self.cancelled()
    }

    pub(super) fn add(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) fn succeeded(&mut self, message: impl Into<String>) {
        self.extras.push(Extra {
            kind: SUCCEEDED,
            status: Some(true),
            reason: Reason::Succeeded,
            message: message.into(),
        });
    }

    pub(super) fn tagged(&mut self, status: bool, reason: Reason, message: impl Into<String>) {
        self.extras.push(Extra { kind: TAGGED, status: Some(status), reason, message: message.into() });
    }

    /// Under way; the finalizer holds it.
    pub(super) fn working(
        self,
        reason: Reason,
        message: impl Into<String>,
        actions: Vec<Action>,
    ) -> Plan<BuildStatus, Action> {
        self.held(Verdict::working(reason, message), actions, Some(REQUEUE_AFTER))
    }

    pub(super) fn held(
        mut self,
        verdict: Verdict,
        actions: Vec<Action>,
        next: Option<Duration>,
    ) -> Plan<BuildStatus, Action> {
        self.actions.extend(actions);
        self.with_verdict(true, &verdict, next)
    }

    /// The step failed before: a verdict, or the wait until it is tried again. `None`: go on and do it.
    pub(super) fn held_up(&self, finalizer: bool) -> Option<Plan<BuildStatus, Action>> {
        let retry_state = self.retry_state()?;
        if retry_state.terminal {
            return Some(self.copy().fail(retry_state.reason, retry_state.message.clone()));
        }
        let backoff = retry_state.backoff();
        if self.observed.working || backoff.is_over(self.now) {
            return None;
        }
        let wait = backoff.retry_at.0.duration_since(self.now);
        let mut draft = self.copy();
        draft.status.backoff = Some(backoff);
        let verdict = Verdict::waiting(retry_state.reason, retry_state.message.clone());
        Some(draft.with_verdict(finalizer, &verdict, Duration::try_from(wait).ok().or(Some(REQUEUE_AFTER))))
    }

    /// While a failed step is retried the status keeps its failure; otherwise it would flicker with every retry.
    pub(super) fn trying(mut self, finalizer: bool, verdict: Verdict) -> Plan<BuildStatus, Action> {
        let verdict = match self.retry_state() {
            Some(retry_state) if !retry_state.terminal => {
                self.status.backoff = Some(retry_state.backoff());
                Verdict::waiting(retry_state.reason, retry_state.message.clone())
            }
            _ => verdict,
        };
        self.with_verdict(finalizer, &verdict, Some(REQUEUE_AFTER))
    }

    /// Ended; a person must act.
    pub(super) fn fail(mut self, reason: Reason, message: impl Into<String>) -> Plan<BuildStatus, Action> {
        let message = message.into();
        if !self.extras.iter().any(|extra| extra.kind == SUCCEEDED) {
            self.extras.push(Extra { kind: SUCCEEDED, status: Some(false), reason, message: message.clone() });
        }
        self.with_verdict(false, &Verdict::failed(reason, message), None)
    }

    /// The verdict stays; only what needs no decision is brought up to date.
    pub(super) fn unchanged(mut self) -> Plan<BuildStatus, Action> {
        for condition in &mut self.status.conditions {
            condition.observed_generation = Some(self.observed.object.generation);
        }
        let last = self.status.attempts.last();
        if let Some(end) =
            last.filter(|last| self.observed.plan.is_some() && last.outcome.is_some() && !self.recorded(last))
        {
            self.actions.push(Action::Record(Box::new(end.clone())));
        }
        Plan { finalizer: false, status: self.status, actions: self.actions, events: vec![], next: None }
    }

    /// Deleted, and nothing of it runs.
    pub(super) fn deleted(mut self) -> Plan<BuildStatus, Action> {
        if self.status.conditions.is_empty() {
            let verdict = Verdict::working(Reason::Pending, "is deleted");
            self.status.conditions =
                conditions::conditions(&[], self.observed.object.generation, self.now, &verdict, &[]);
        }
        Plan { finalizer: false, status: self.status, actions: vec![Action::CancelTasks], events: vec![], next: None }
    }

    /// Whether an attempt's end is in the store.
    pub(super) fn recorded(&self, attempt: &Attempt) -> bool {
        self.observed.ends.iter().any(|end| end.number == attempt.number)
    }

    pub(super) fn with_verdict(
        mut self,
        finalizer: bool,
        verdict: &Verdict,
        next: Option<Duration>,
    ) -> Plan<BuildStatus, Action> {
        let before = std::mem::take(&mut self.status.conditions);
        let events = self.events_for(&before, verdict);
        self.status.conditions =
            conditions::conditions(&before, self.observed.object.generation, self.now, verdict, &self.extras);
        let surplus = self.status.attempts.len().saturating_sub(ATTEMPTS);
        self.status.attempts.drain(..surplus);
        Plan { finalizer, status: self.status, actions: self.actions, events, next }
    }

    /// An event where the reason changed to one that is worth an event.
    fn events_for(
        &self,
        before: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
        verdict: &Verdict,
    ) -> Vec<EventDraft> {
        let reason = verdict.reason();
        let same = before.iter().any(|old| old.type_ == READY && old.reason == reason.as_str());
        let warning = match verdict {
            Verdict::Failed { .. } | Verdict::InProgress { known_bad: true, .. } => true,
            Verdict::Done { .. } => false,
            _ if matches!(reason, Reason::Queued | Reason::Granted | Reason::Building) => false,
            _ => return vec![],
        };
        match same {
            true => vec![],
            false => {
                vec![EventDraft { warning, reason, action: "Build", note: verdict.message().to_owned(), host: None }]
            }
        }
    }

    fn copy(&self) -> Self {
        Self { status: self.status.clone(), extras: self.extras.clone(), actions: self.actions.clone(), ..*self }
    }
}

/// The attempts that the status names, with what the store knows of their ends. The status' own word on an end stands: it may know
/// more (a script that succeeded, with artifacts that can't be packed).
fn merged(named: &[Attempt], ends: &[Attempt]) -> Vec<Attempt> {
    let mut all = named.to_vec();
    for end in ends {
        match all.iter_mut().find(|attempt| attempt.number == end.number) {
            Some(attempt) if attempt.outcome.is_none() => *attempt = end.clone(),
            Some(_) => {}
            None => all.push(end.clone()),
        }
    }
    all.sort_by_key(|attempt| attempt.number);
    all
}
