//! The events of a HostGroup: which hosts have become unusable, and which are well again. Each host has an event of its own.

use super::{
    check::HostCheck,
    observed::Observed,
    status::{EXCEPTIONS_MAX, problems},
    verdict::min_available_too_high,
    view::View,
};
use crate::{
    api::{Reason, conditions::READY, hostgroup::HostGroupStatus},
    model::Failure,
    plan::{EventDraft, HostEvent, host_events},
};

const ACTION: &str = "Probe";

pub fn events(observed: &Observed, view: &View<'_>, before: &HostGroupStatus) -> Vec<EventDraft> {
    if let Some(failure) = observed.secret.as_ref().filter(|_| observed.is_withdrawn()) {
        return withdrawn(failure, before).into_iter().collect();
    }
    let warning = |reason, note| EventDraft::warning(reason, ACTION, note);
    let normal = |reason, note| EventDraft::normal(reason, ACTION, note);
    let mut events = host_events(&failed(view, before), warning, "status.exceptions has the cause of each");
    events.extend(host_events(&recovered(view, before), normal, "they answer, and nothing is wrong with them"));
    events.extend(too_high(observed, view, before));
    events
}

/// `minAvailable` keeps all hosts in service since this spec, or since a host was suspended.
fn too_high(observed: &Observed, view: &View<'_>, before: &HostGroupStatus) -> Option<EventDraft> {
    let message = min_available_too_high(observed, view.in_service.len())?;
    let in_service = usize::try_from(before.hosts.total - before.hosts.suspended).unwrap_or(0);
    let is_new_spec = before.observed_generation != observed.generation;
    let is_new = is_new_spec || min_available_too_high(observed, in_service).is_none();
    is_new.then(|| EventDraft::warning(Reason::MinAvailableTooHigh, "Plan", message))
}

/// One event for all hosts: what keeps them from being signed in to is the group's.
fn withdrawn(failure: &Failure, before: &HostGroupStatus) -> Option<EventDraft> {
    let ready = before.conditions.iter().find(|condition| condition.type_ == READY);
    let is_new = ready.is_some_and(|ready| ready.reason != failure.reason.as_str());
    let note = format!(
        "no host is signed in to any more, and connections are closed; what runs there runs on: {}",
        failure.message
    );
    is_new.then(|| EventDraft::warning(failure.reason, "Watch", note))
}

/// Hosts with which something else is wrong than before.
fn failed(view: &View<'_>, before: &HostGroupStatus) -> Vec<HostEvent> {
    // Where the list was full it is not known whether a host that is new in it has just failed.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::HOST_EVENTS_MAX;

    #[test]
    fn hosts_beyond_the_bound_are_named_together_by_reason() {
        let event = |n: usize| HostEvent {
            host: format!("web-{n:02}"),
            reason: if n.is_multiple_of(2) { Reason::Unreachable } else { Reason::HostKeyUnknown },
            message: format!("cause {n}"),
        };
        let events: Vec<_> = (1..=24).map(event).collect();
        let warning = |reason, note| EventDraft::warning(reason, ACTION, note);
        let drafts = host_events(&events, warning, "status.exceptions has the cause of each");
        let notes: Vec<&str> = drafts.iter().map(|draft| draft.note.as_str()).collect();
        assert_eq!(notes.len(), HOST_EVENTS_MAX + 2);
        assert_eq!(notes[..2], ["web-01: cause 1", "web-02: cause 2"]);
        assert_eq!((drafts[0].host.as_deref(), &drafts[HOST_EVENTS_MAX].host), (Some("web-01"), &None));
        assert_eq!(
            notes[HOST_EVENTS_MAX..],
            [
                "web-22, web-24: status.exceptions has the cause of each",
                "web-21, web-23: status.exceptions has the cause of each",
            ]
        );
    }
}
