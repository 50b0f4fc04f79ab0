//! Decisions: pure functions from what was observed, and `now`, to what to do. No I/O, no async, no clock, no client.

pub mod builds;
pub mod deployment;
pub mod gc;
pub mod hostgroup;
pub mod leading;
mod milestone;
pub mod min_available;
mod object;
pub mod project;
mod requester;
pub mod secret_use;
mod share;

use std::{collections::BTreeMap, time::Duration};

pub use self::{milestone::Milestone, object::ObservedObject};
use crate::api::Reason;

/// What a planner answers: the *whole* next status, what to do and to tell once that is on record, and when to look again.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<Status, Action> {
    /// Whether the object may not go yet. Put on and observed again before any intent is committed; taken off when no longer planned.
    pub finalizer: bool,
    pub status: Status,
    /// Done in this order until the first failure, after the status is on record.
    pub actions: Vec<Action>,
    /// Edges, not levels: each draft is something that happens now. Published after the status is on record, whether or not it changed; where
    /// it did not, the same words once an hour.
    pub events: Vec<EventDraft>,
    /// When to look again without being woken; `None`: a change or a wake alone.
    pub next: Option<Duration>,
}

/// An event for people's eyes: it lives an hour, the record is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDraft {
    pub warning: bool,
    pub reason: Reason,
    /// What was done, in CamelCase, at most 128 bytes.
    pub action: &'static str,
    /// At most 1,024 bytes; longer ones are cut.
    pub note: String,
    /// Host that it is about, where it is about one.
    pub host: Option<String>,
}

impl EventDraft {
    pub fn normal(reason: Reason, action: &'static str, note: impl Into<String>) -> Self {
        Self { warning: false, reason, action, note: note.into(), host: None }
    }

    pub fn warning(reason: Reason, action: &'static str, note: impl Into<String>) -> Self {
        Self { warning: true, reason, action, note: note.into(), host: None }
    }
}

/// What happened to one host.
pub(crate) struct HostEvent {
    pub host: String,
    pub reason: Reason,
    pub message: String,
}

/// Hosts with an event of their own in one plan. A network that fails takes many hosts with it: the others are named together.
pub(crate) const HOST_EVENTS_MAX: usize = 20;

/// One event for each host, with its own words; those beyond the bound are named together, by reason. `of_others`: what there is to say of
/// these.
pub(crate) fn host_events(
    events: &[HostEvent],
    draft: impl Fn(Reason, String) -> EventDraft,
    of_others: &str,
) -> Vec<EventDraft> {
    let (each, others) = events.split_at(events.len().min(HOST_EVENTS_MAX));
    let own = |event: &HostEvent| EventDraft {
        host: Some(event.host.clone()),
        ..draft(event.reason, format!("{}: {}", event.host, event.message))
    };
    let mut by_reason: BTreeMap<Reason, Vec<&str>> = BTreeMap::new();
    for event in others {
        by_reason.entry(event.reason).or_default().push(&event.host);
    }
    let together =
        by_reason.into_iter().map(|(reason, hosts)| draft(reason, format!("{}: {of_others}", list_names(&hosts))));
    each.iter().map(own).chain(together).collect()
}

/// The command that sets a verb on an object. `kind` in the plural, as kubectl takes it.
pub(crate) fn verb_command(kind: &str, namespace: &str, name: &str, verb: &str, value: &str) -> String {
    format!("kubectl -n {namespace} annotate --overwrite {kind}.landfall.dev/{name} {verb}={value}")
}

/// For verbs that act on each new value.
pub(crate) const NEW_VALUE: &str = "$(date +%s)";

/// `1 host`, `3 hosts`.
pub(crate) fn count_hosts(n: usize) -> String {
    match n {
        1 => "1 host".to_owned(),
        n => format!("{n} hosts"),
    }
}

/// At most five names, and how many more.
pub(crate) fn list_names(names: &[impl AsRef<str>]) -> String {
    let first: Vec<&str> = names.iter().take(5).map(AsRef::as_ref).collect();
    match names.len() {
        0..=5 => first.join(", "),
        n => format!("{} and {} more", first.join(", "), n - 5),
    }
}
