//! A Build's next status in the making, and the ways in which a decision can end.

use std::time::Duration;

use jiff::Timestamp;

use super::{Act, Seen};
use crate::{
    api::{
        Reason, Verdict,
        build::{Attempt, BuildStatus, SUCCEEDED, TAGGED},
        conditions::{self, Extra, READY, STALLED},
        verbs::{self, RETRY},
    },
    plan::{Happened, Plan, fault::Fault, project::Denied},
};

/// How many attempts a status shows.
const ATTEMPTS: usize = 20;
/// Background work wakes the Build when it is over; this is for the case that it can't.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

pub(super) struct Draft<'a> {
    pub(super) seen: &'a Seen,
    pub(super) now: Timestamp,
    pub(super) status: BuildStatus,
    pub(super) extras: Vec<Extra>,
    acts: Vec<Act>,
    retried: bool,
}

impl<'a> Draft<'a> {
    pub(super) fn new(seen: &'a Seen, now: Timestamp) -> Self {
        let before = seen.status.clone().unwrap_or_default();
        let first = seen.status.is_none();
        let retried = verbs::asked(RETRY, &seen.annotations, &before.last_handled, first).is_some();
        let status = BuildStatus {
            observed_generation: seen.generation,
            last_handled: verbs::handled(&[RETRY], &seen.annotations, &before.last_handled),
            attempts: merged(&before.attempts, &seen.ends),
            backoff: None,
            queue: None,
            superseded_by: before.superseded_by.filter(|_| !retried),
            ..before
        };
        let acts = if retried { vec![Act::Forget] } else { vec![] };
        Self { seen, now, status, extras: vec![], acts, retried }
    }

    /// Whether a person just asked for another try.
    pub(super) fn retried(&self) -> bool {
        self.retried
    }

    /// Whether there is nothing more to do unless somebody asks. Every failed verdict is kept until a retry: what failed weeks ago
    /// must not start by itself.
    pub(super) fn ended(&self) -> bool {
        let is = |kind| conditions::status_of(&self.status.conditions, kind) == Some(true);
        is(STALLED) || is(READY)
    }

    /// The last failure that still counts.
    pub(super) fn fault(&self) -> Option<&'a Fault> {
        self.seen.fault.as_ref().filter(|_| !self.retried)
    }

    /// Whether the cancellation that the spec wishes is for the attempt that runs now or comes next. It may not be taken back, so
    /// one that was carried out does not touch a retry.
    pub(super) fn cancelled(&self) -> bool {
        let done = |attempt: &Attempt| {
            let superseded = attempt.reason.as_ref().is_some_and(|reason| *reason == Reason::Superseded.as_str());
            attempt.outcome == Some(crate::api::build::Outcome::Cancelled) && !superseded
        };
        self.seen.spec.cancelled && !self.status.attempts.iter().any(done)
    }

    /// What the project's policy says against it. A person who asks for another try asks the project anew.
    pub(super) fn denied(&self) -> Option<&'a Denied> {
        self.seen.denied.as_ref().filter(|_| !self.retried)
    }

    /// Whether a newer build takes its place; the status names it then, before anything is ended.
    pub(super) fn superseded(&mut self) -> bool {
        if let Some(Denied::SupersededBy(newer)) = self.denied() {
            self.status.superseded_by = Some(newer.clone());
        }
        self.status.superseded_by.is_some()
    }

    /// Whether a script that runs has to end: a person's wish, or a newer build.
    pub(super) fn unwanted(&mut self) -> bool {
        // Both are asked: the status names the newer build in any case.
        self.superseded() | self.cancelled()
    }

    pub(super) fn add(&mut self, act: Act) {
        self.acts.push(act);
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
    pub(super) fn working(self, reason: Reason, message: impl Into<String>, acts: Vec<Act>) -> Plan<BuildStatus, Act> {
        self.held(Verdict::working(reason, message), acts, Some(LOOK_AGAIN))
    }

    pub(super) fn held(mut self, verdict: Verdict, acts: Vec<Act>, next: Option<Duration>) -> Plan<BuildStatus, Act> {
        self.acts.extend(acts);
        self.say(true, &verdict, next)
    }

    /// The step failed before: a verdict, or the wait until it is tried again. `None`: go on and do it.
    pub(super) fn held_up(&self, finalizer: bool) -> Option<Plan<BuildStatus, Act>> {
        let fault = self.fault()?;
        if fault.terminal {
            return Some(self.copy().fail(fault.reason, fault.message.clone()));
        }
        let backoff = fault.backoff();
        if self.seen.working || backoff.is_over(self.now) {
            return None;
        }
        let wait = backoff.retry_at.0.duration_since(self.now);
        let mut draft = self.copy();
        draft.status.backoff = Some(backoff);
        let verdict = Verdict::waiting(fault.reason, fault.message.clone());
        Some(draft.say(finalizer, &verdict, Duration::try_from(wait).ok().or(Some(LOOK_AGAIN))))
    }

    /// While a step that failed before is tried again, the status goes on telling why; else it would flicker with every try.
    pub(super) fn trying(mut self, finalizer: bool, verdict: Verdict) -> Plan<BuildStatus, Act> {
        let verdict = match self.fault() {
            Some(fault) if !fault.terminal => {
                self.status.backoff = Some(fault.backoff());
                Verdict::waiting(fault.reason, fault.message.clone())
            }
            _ => verdict,
        };
        self.say(finalizer, &verdict, Some(LOOK_AGAIN))
    }

    /// Ended; a person must act.
    pub(super) fn fail(mut self, reason: Reason, message: impl Into<String>) -> Plan<BuildStatus, Act> {
        let message = message.into();
        if !self.extras.iter().any(|extra| extra.kind == SUCCEEDED) {
            self.extras.push(Extra { kind: SUCCEEDED, status: Some(false), reason, message: message.clone() });
        }
        self.say(false, &Verdict::failed(reason, message), None)
    }

    /// As it was; only what asks nothing is brought up to date.
    pub(super) fn rest(mut self) -> Plan<BuildStatus, Act> {
        for condition in &mut self.status.conditions {
            condition.observed_generation = Some(self.seen.generation);
        }
        let last = self.status.attempts.last();
        if let Some(end) =
            last.filter(|last| self.seen.plan.is_some() && last.outcome.is_some() && !self.recorded(last))
        {
            self.acts.push(Act::Record(Box::new(end.clone())));
        }
        Plan { finalizer: false, status: self.status, acts: self.acts, events: vec![], next: None }
    }

    /// Deleted, and nothing of it runs.
    pub(super) fn go(mut self) -> Plan<BuildStatus, Act> {
        if self.status.conditions.is_empty() {
            let verdict = Verdict::working(Reason::Pending, "is deleted");
            self.status.conditions = conditions::conditions(&[], self.seen.generation, self.now, &verdict, &[]);
        }
        Plan { finalizer: false, status: self.status, acts: vec![Act::Abandon], events: vec![], next: None }
    }

    /// Whether an attempt's end is in the store.
    pub(super) fn recorded(&self, attempt: &Attempt) -> bool {
        self.seen.ends.iter().any(|end| end.number == attempt.number)
    }

    pub(super) fn say(mut self, finalizer: bool, verdict: &Verdict, next: Option<Duration>) -> Plan<BuildStatus, Act> {
        let before = std::mem::take(&mut self.status.conditions);
        let events = self.told(&before, verdict);
        self.status.conditions = conditions::conditions(&before, self.seen.generation, self.now, verdict, &self.extras);
        let surplus = self.status.attempts.len().saturating_sub(ATTEMPTS);
        self.status.attempts.drain(..surplus);
        Plan { finalizer, status: self.status, acts: self.acts, events, next }
    }

    /// An event where the reason changed to one that people want to hear of.
    fn told(
        &self,
        before: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
        verdict: &Verdict,
    ) -> Vec<Happened> {
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
            false => vec![Happened { warning, reason, action: "Build", note: verdict.message().to_owned() }],
        }
    }

    fn copy(&self) -> Self {
        Self { status: self.status.clone(), extras: self.extras.clone(), acts: self.acts.clone(), ..*self }
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
