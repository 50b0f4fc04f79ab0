//! The driver: what is decided about one group, in this order.

use jiff::Timestamp;

use super::{
    action::Action, check, events, forget, observed::Observed, schedule, status, suspend, verdict, view::View,
};
use crate::{
    api::{
        Reason, Verdict,
        conditions::{READY, conditions},
        hostgroup::{HostCounts, HostGroupStatus},
        verbs,
    },
    plan::{EventDraft, Plan},
};

/// What to do about this group now.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan<HostGroupStatus, Action> {
    let before = observed.status.clone().unwrap_or_default();
    if observed.deleting && !observed.is_in_use() {
        return Plan { finalizer: false, status: before, actions: vec![Action::Forget], events: vec![], next: None };
    }
    let decided = suspend::decide(observed, &before, now);
    let view = View::new(observed, &decided.suspended, now);
    let verdict = verdict::verdict(observed, &view);
    let mut actions = Vec::new();
    let mut events = Vec::new();
    let can_watch = check::invalid_spec(&observed.spec).is_none()
        || !check::dialled(&observed.spec.ssh.jump, &observed.spec.hosts).is_empty();
    if (can_watch || observed.is_withdrawn()) && !observed.watched {
        actions.push(Action::Watch);
    }
    if let Some(stamp) = refresh_asked(observed, &before) {
        actions.push(Action::Probe(observed.spec.hosts.iter().map(|host| host.name.clone()).collect()));
        let note = format!("every host is asked now, as {}={stamp} wants", verbs::REFRESH);
        events.push(EventDraft::normal(Reason::RefreshRequested, "Refresh", note));
    }
    let forgotten = forget::decide(observed, &before);
    actions.extend(forgotten.action);
    events.extend(forgotten.event);
    events.extend(decided.events);
    let mut handled = vec![verbs::REFRESH, verbs::SUSPEND_HOST, verbs::RESUME_HOST];
    if forgotten.over {
        handled.push(verbs::FORGET_HOST_KEY);
    }
    let mut status = status::status(observed, &before, &view, &handled, now);
    status.suspended = decided.suspended.clone();
    if still_known(observed, &before, &verdict) {
        let hosts = HostCounts { suspended: status.hosts.suspended, ..before.hosts };
        status = HostGroupStatus { last_handled: status.last_handled, suspended: status.suspended, hosts, ..before };
    } else {
        status.observed_generation = observed.generation;
        let extras = [verdict::all_reachable(observed, &view, &verdict)];
        let verdict = verdict::in_use(observed).unwrap_or(verdict);
        status.conditions = conditions(&before.conditions, observed.generation, now, &verdict, &extras);
        events.extend(events::events(observed, &view, &before));
    }
    let next = schedule::next(observed, &status, now);
    Plan { finalizer: observed.is_in_use(), status, actions, events, next: Some(next) }
}

/// A new operator has to check every host again; until it has, the status on record stands where it is of this very spec.
fn still_known(observed: &Observed, before: &HostGroupStatus, verdict: &Verdict) -> bool {
    let tried = [Reason::Probed, Reason::NoHostReachable, Reason::NoHostUsable];
    let ready = before.conditions.iter().find(|condition| condition.type_ == READY);
    verdict.reason() == Reason::Probing
        && !observed.deleting
        && before.observed_generation == observed.generation
        && ready.is_some_and(|ready| tried.iter().any(|reason| reason.as_str() == ready.reason))
}

fn refresh_asked<'a>(observed: &'a Observed, before: &HostGroupStatus) -> Option<&'a str> {
    let first = observed.status.is_none() || before.observed_generation < 0;
    verbs::asked(verbs::REFRESH, &observed.annotations, &before.last_handled, first)
}
