//! What happens next to a Project: the listing of its branches and versions, and which build may run. Pure.

mod concurrency;
mod grant;
mod listing;
mod observed;
mod retention_schedule;
mod spec;
pub mod trigger;

use std::{fmt, time::Duration};

use jiff::{SignedDuration, Timestamp};

pub use self::observed::{
    Candidate, Claim, Denied, GrantObserved, Head, Listing, Observed, Planned, PushesObserved, QueuePosition,
    RetentionObserved,
};
use super::{EventDraft, Plan};
use crate::api::{
    Reason, Verdict,
    common::seconds,
    conditions::{self, Extra, READY},
    project::{ActiveBuild, ProjectSpec, ProjectStatus},
    verbs::{self, REFRESH},
};

/// What can be done about a Project. Doing any of it twice is doing it once.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// In the background: fetch and list the branches. `again`: somebody asked, so a listing that runs already is not new enough.
    List { again: bool },
    /// Claim the number and freeze the build's plan, both create-only.
    Grant(ActiveBuild),
    /// Tell the builds that wait where they stand, and the granted one that it is its turn.
    Announce(Vec<QueuePosition>),
    /// Record which heads exist when the trigger is declared; the record of an earlier trigger is deleted.
    RecordBaseline { baseline: String, heads: Vec<Head> },
    /// In the background: collect what retention keeps no longer.
    CollectGarbage,
    /// There is no trigger: the record of heads is deleted.
    DeleteBaselines,
    /// Create the Build of each of these new heads, and its record.
    Trigger(Vec<Head>),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List { again } => write!(f, "List{}", if *again { " again" } else { "" }),
            Self::RecordBaseline { baseline, heads } => write!(f, "RecordBaseline {baseline} {} heads", heads.len()),
            Self::CollectGarbage => f.write_str("CollectGarbage"),
            Self::DeleteBaselines => f.write_str("DeleteBaselines"),
            Self::Trigger(heads) => {
                let each = |head: &Head| format!("{} of {}", head.sha, head.branch);
                write!(f, "Trigger {}", heads.iter().map(each).collect::<Vec<_>>().join(", "))
            }
            Self::Grant(active) => write!(f, "Grant {} number {}", active.name, active.number),
            Self::Announce(places) => {
                let each = |place: &QueuePosition| match &place.denied {
                    None => format!("{} {}", place.position, place.name),
                    Some(Denied::ForbiddenBy(other)) => format!("{} (forbidden by {other})", place.name),
                    Some(Denied::SupersededBy(other)) => format!("{} (superseded by {other})", place.name),
                };
                write!(f, "Announce {}", places.iter().map(each).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// `source.interval`, where it is an interval that can be kept.
fn interval(spec: &ProjectSpec) -> Option<SignedDuration> {
    let seconds = seconds(&spec.source.interval).filter(|seconds| (1..=31_536_000).contains(seconds))?;
    Some(SignedDuration::from_secs(seconds))
}

/// Decides about a Project.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan<ProjectStatus, Action> {
    let before = observed.status.clone().unwrap_or_default();
    let asked = verbs::asked(REFRESH, &observed.annotations, &before.last_handled, observed.status.is_none()).is_some();
    let mut status = ProjectStatus {
        observed_generation: observed.generation,
        last_handled: verbs::handled(&[REFRESH], &observed.annotations, &before.last_handled),
        ..before.clone()
    };
    let mut actions = Vec::new();
    let mut look = listing::decide(observed, &mut status, asked, now);
    if let Some(message) = spec::invalid(&observed.spec) {
        look.verdict = Verdict::failed(Reason::InvalidSpec, message);
    }
    if look.list && !observed.deleting {
        actions.push(Action::List { again: asked });
    }
    let mut events = Vec::new();
    let (mut extras, mut next) = (vec![], look.next);
    if !observed.deleting {
        let granted = grant::decide(observed, &mut status, now);
        actions.extend(granted.actions);
        events.extend(granted.events);
        let pushed = trigger::decide(observed, now);
        actions.extend(pushed.actions);
        let retention = retention_schedule::decide(observed, now);
        actions.extend(retention.now.then_some(Action::CollectGarbage));
        extras.extend(pushed.condition.into_iter().chain(retention.condition));
        events.extend(extras.iter().filter_map(|extra| failure_event(&before, extra)));
        for at in [pushed.retry_at, retention.next].into_iter().flatten() {
            next = next.min(Duration::try_from(at.duration_since(now)).unwrap_or_default());
        }
    }
    events.extend(verdict_event(&before, &look.verdict));
    status.conditions = conditions::conditions(&before.conditions, observed.generation, now, &look.verdict, &extras);
    Plan { finalizer: false, status, actions, events, next: Some(next.max(Duration::from_millis(100))) }
}

/// An event when something beside the listing begins to fail.
fn failure_event(before: &ProjectStatus, extra: &Extra) -> Option<EventDraft> {
    let action = match extra.reason {
        Reason::TriggerFailed => "Trigger",
        Reason::RetentionFailed => "CollectGarbage",
        _ => return None,
    };
    let same = before.conditions.iter().any(|old| old.type_ == extra.kind && old.reason == extra.reason.as_str());
    (!same).then(|| EventDraft::warning(extra.reason, action, extra.message.clone()))
}

/// An event when the verdict's reason changed.
fn verdict_event(before: &ProjectStatus, verdict: &Verdict) -> Option<EventDraft> {
    let reason = verdict.reason();
    let same = before.conditions.iter().any(|old| old.type_ == READY && old.reason == reason.as_str());
    let warning = match verdict {
        Verdict::Failed { .. } | Verdict::InProgress { known_bad: true, .. } => true,
        Verdict::Done { .. } => false,
        _ => return None,
    };
    (!same).then(|| EventDraft { warning, reason, action: "List", note: verdict.message().to_owned() })
}
