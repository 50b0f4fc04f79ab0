//! What happens next to a Build. Pure: everything is in [`Seen`].
//!
//! A chain of questions, the first that applies answers: is it going, published, ended; before its grant, or after it. All that a
//! decision needs can be read again from specs, store, git and executor, so that a crash at any instant loses nothing.

mod act;
mod attempt;
mod draft;
mod early;
pub mod freeze;
pub mod parameters;
mod publish;
mod records;
pub mod resources;
mod seen;
pub mod standing;
pub mod template;

use jiff::Timestamp;

use self::draft::Draft;
pub use self::{
    act::Act,
    records::{BuildPlan, LISTED, ReleaseRecord, listed, secrets},
    seen::{Exit, ExitReason, ProjectSeen, Seen, Step},
};
use super::Plan;
use crate::api::{
    Reason,
    build::BuildStatus,
    conditions::{READY, STALLED, status_of},
};

/// Decides about a Build.
pub fn plan(seen: &Seen, now: Timestamp) -> Plan<BuildStatus, Act> {
    let mut plan = decide(seen, now);
    let is = |kind| status_of(&plan.status.conditions, kind) == Some(true);
    let ended = plan.status.attempts.iter().rfind(|attempt| attempt.outcome.is_some()).map(|last| last.number);
    if let Some(upto) = ended.filter(|_| seen.litter && !seen.deleting && !seen.working && (is(READY) || is(STALLED))) {
        // A refused tag may be pushed again, and a failed script run again: both need the commit.
        let published = is(READY);
        plan.acts.push(Act::Tidy { upto, published });
    }
    plan
}

fn decide(seen: &Seen, now: Timestamp) -> Plan<BuildStatus, Act> {
    let draft = Draft::new(seen, now);
    if seen.deleting {
        return leave(draft);
    }
    if seen.version_of.as_ref() == Some(&seen.uid) {
        return publish::done(draft);
    }
    if draft.ended() && !draft.retried() {
        return draft.rest();
    }
    match &seen.plan {
        None => early::plan(draft),
        Some(plan) => attempt::plan(draft, plan),
    }
}

/// A Build that is deleted ends its script first; then it may go.
fn leave(draft: Draft<'_>) -> Plan<BuildStatus, Act> {
    let seen = draft.seen;
    let running = draft.status.attempts.last().filter(|last| last.outcome.is_none());
    match (running.map(|last| last.number), &seen.step) {
        (Some(attempt), Step::Running { .. }) => {
            let acts = if seen.cancelling { vec![] } else { vec![Act::Cancel { attempt }] };
            draft.working(Reason::Cancelled, "is deleted: its script is ended first", acts)
        }
        _ => draft.go(),
    }
}
