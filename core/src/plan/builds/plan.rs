//! The decision about a Build, as a chain of questions: is it being deleted, published, ended; before its grant, or after it. All that a decision
//! needs can be read again from specs, store, git and executor, so that a crash at any instant loses nothing.

use jiff::Timestamp;

use super::{Action, Observed, Step, admission, attempt, publish, status::StatusBuilder};
use crate::{
    api::{
        Reason,
        build::BuildStatus,
        conditions::{READY, STALLED, status_of},
    },
    plan::Plan,
};

/// Decides about a Build.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan<BuildStatus, Action> {
    let mut plan = decide(observed, now);
    let is = |kind| status_of(&plan.status.conditions, kind) == Some(true);
    let ended = plan.status.attempts.iter().rfind(|attempt| attempt.outcome.is_some()).map(|last| last.number);
    if let Some(upto) = ended
        .filter(|_| observed.leftovers && !observed.object.deleting && !observed.working && (is(READY) || is(STALLED)))
    {
        // A refused tag may be pushed again, and a failed script run again: both need the commit.
        let published = is(READY);
        plan.actions.push(Action::DeleteCheckouts { upto, published });
    }
    plan
}

fn decide(observed: &Observed, now: Timestamp) -> Plan<BuildStatus, Action> {
    let draft = StatusBuilder::new(observed, now);
    if observed.object.deleting {
        return delete(draft);
    }
    if observed.version_owner.as_ref().is_some_and(|owner| owner.uid == observed.object.uid) {
        return publish::done(draft);
    }
    if draft.ended() && !draft.retried() {
        return draft.unchanged();
    }
    match &observed.plan {
        None => admission::plan(draft),
        Some(plan) => attempt::plan(draft, plan),
    }
}

/// A Build that is being deleted ends its script first; then its finalizer is removed.
fn delete(draft: StatusBuilder<'_>) -> Plan<BuildStatus, Action> {
    let observed = draft.observed;
    let running = draft.status.attempts.last().filter(|last| last.outcome.is_none());
    match (running.map(|last| last.number), &observed.step) {
        (Some(attempt), Step::Running { .. }) => {
            let actions = if observed.cancelling { vec![] } else { vec![Action::Cancel { attempt }] };
            draft.working(Reason::Cancelled, "being deleted; the script is ended first", actions)
        }
        _ => draft.deleted(),
    }
}
