//! The events of a HostGroup: which hosts have become unusable, and which are well again.

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

/// Hosts with which something else is wrong than before, one event for each reason; and hosts that are well again.
pub fn events(view: &View<'_>, before: &HostGroupStatus) -> Vec<EventDraft> {
    let listed =
        |host: &str, reason: &str| before.exceptions.iter().any(|old| old.host == host && old.reason == reason);
    // Where the list was full nobody knows whether somebody new in it is news.
    let full = before.exceptions.len() >= EXCEPTIONS_MAX;
    let mut new: BTreeMap<Reason, (Vec<String>, String)> = BTreeMap::new();
    for (host, failure) in problems(view).filter(|_| !full) {
        if !listed(&host.name, failure.reason.as_str()) {
            new.entry(failure.reason).or_insert((Vec::new(), failure.message)).0.push(host.name.clone());
        }
    }
    let lost = |(reason, (hosts, message)): (Reason, (Vec<String>, String))| {
        EventDraft::warning(reason, "Probe", format!("{}: {message}", list_names(&hosts)))
    };
    let mut events: Vec<EventDraft> = new.into_iter().map(lost).collect();
    let well = |host: &str| {
        let found = view.in_service.iter().find(|(one, _)| one.name == host);
        found.is_some_and(|(_, check)| matches!(check, HostCheck::Facts(_)) && check.problem().is_none())
    };
    let back: Vec<String> =
        before.exceptions.iter().filter(|old| well(&old.host)).map(|old| old.host.clone()).collect();
    if !back.is_empty() {
        let note = format!("answers, and nothing is wrong any more: {}", list_names(&back));
        events.push(EventDraft::normal(Reason::HostRecovered, "Probe", note));
    }
    events
}
