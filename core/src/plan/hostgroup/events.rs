//! The events of a HostGroup: which hosts have become unusable, and which are well again. Each host has an event of its own.

use std::collections::BTreeMap;

use super::{
    check::HostCheck,
    status::{EXCEPTIONS_MAX, problems},
    view::View,
};
use crate::{
    api::{Reason, hostgroup::HostGroupStatus},
    plan::{EventDraft, list_names},
};

const ACTION: &str = "Probe";
/// Hosts with an event of their own in one plan. A network that fails takes many hosts with it: the others are named together.
const HOSTS_MAX: usize = 20;

/// What happened to one host.
struct HostEvent {
    host: String,
    reason: Reason,
    message: String,
}

pub fn events(view: &View<'_>, before: &HostGroupStatus) -> Vec<EventDraft> {
    let mut events = drafts(&failed(view, before), EventDraft::warning, "status.exceptions has the cause of each");
    events.extend(drafts(&recovered(view, before), EventDraft::normal, "they answer, and nothing is wrong with them"));
    events
}

/// Hosts with which something else is wrong than before.
fn failed(view: &View<'_>, before: &HostGroupStatus) -> Vec<HostEvent> {
    // Where the list was full nobody knows whether a host that is new in it has just failed.
    if before.exceptions.len() >= EXCEPTIONS_MAX {
        return Vec::new();
    }
    let listed =
        |host: &str, reason: &str| before.exceptions.iter().any(|old| old.host == host && old.reason == reason);
    let new = problems(view).filter(|(host, failure)| !listed(&host.name, failure.reason.as_str()));
    new.map(|(host, failure)| HostEvent { host: host.name.clone(), reason: failure.reason, message: failure.message })
        .collect()
}

fn recovered(view: &View<'_>, before: &HostGroupStatus) -> Vec<HostEvent> {
    let is_well = |host: &str| {
        let found = view.in_service.iter().find(|(one, _)| one.name == host);
        found.is_some_and(|(_, check)| matches!(check, HostCheck::Facts(_)) && check.problem().is_none())
    };
    let back = before.exceptions.iter().filter(|old| is_well(&old.host));
    back.map(|old| {
        let message = format!("answers, and nothing is wrong with it; it was {}", old.reason);
        HostEvent { host: old.host.clone(), reason: Reason::HostRecovered, message }
    })
    .collect()
}

/// One event for each host; those beyond the bound are named together, by reason. `of_others`: what there is to say of these.
fn drafts(
    events: &[HostEvent],
    draft: fn(Reason, &'static str, String) -> EventDraft,
    of_others: &str,
) -> Vec<EventDraft> {
    let (each, others) = events.split_at(events.len().min(HOSTS_MAX));
    let own = |event: &HostEvent| draft(event.reason, ACTION, format!("{}: {}", event.host, event.message));
    let mut by_reason: BTreeMap<Reason, Vec<&str>> = BTreeMap::new();
    for event in others {
        by_reason.entry(event.reason).or_default().push(&event.host);
    }
    let together = by_reason
        .into_iter()
        .map(|(reason, hosts)| draft(reason, ACTION, format!("{}: {of_others}", list_names(&hosts))));
    each.iter().map(own).chain(together).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_beyond_the_bound_are_named_together_by_reason() {
        let event = |n: usize| HostEvent {
            host: format!("web-{n:02}"),
            reason: if n.is_multiple_of(2) { Reason::Unreachable } else { Reason::HostKeyUnknown },
            message: format!("cause {n}"),
        };
        let events: Vec<_> = (1..=24).map(event).collect();
        let drafts = drafts(&events, EventDraft::warning, "status.exceptions has the cause of each");
        let notes: Vec<&str> = drafts.iter().map(|draft| draft.note.as_str()).collect();
        assert_eq!(notes.len(), HOSTS_MAX + 2);
        assert_eq!(notes[..2], ["web-01: cause 1", "web-02: cause 2"]);
        assert_eq!(
            notes[HOSTS_MAX..],
            [
                "web-22, web-24: status.exceptions has the cause of each",
                "web-21, web-23: status.exceptions has the cause of each",
            ]
        );
    }
}
