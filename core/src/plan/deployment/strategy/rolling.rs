//! Rolling update: which hosts may begin within the budget of `maxUnavailable`.
//!
//! The budget counts every unavailable host, for whatever cause. A host that serves begins only while the budget has room; a host that is
//! unavailable already takes none and goes first. Never more than `maxUnavailable` updates are open at once.

use crate::plan::{
    deployment::{
        host_state::HostState,
        strategy::{batches, zones::Zones},
        view::{HostView, View},
    },
    min_available::Room,
    share::share,
};

/// Budget of this rollout. Suspended hosts are in no count.
pub(crate) fn max_unavailable(view: &View<'_>) -> usize {
    share(&view.observed.spec.strategy.rolling_update.max_unavailable, view.hosts.len())
}

/// Hosts wait, no update is open, and none may begin: others are unavailable for another cause.
pub(crate) fn is_held_back(view: &View<'_>) -> bool {
    let waits_for_staging = view.hosts.iter().any(HostView::is_waited_for) && !view.has_begun();
    let open = view.number(|state| matches!(state, HostState::Updating { .. }));
    open == 0
        && !waits_for_staging
        && away(view) >= max_unavailable(view)
        && view.hosts.iter().any(|host| waits(view, host))
}

/// Hosts that wait for their update, by index.
pub(crate) fn waiting(view: &View<'_>) -> Vec<usize> {
    let waiting = view.hosts.iter().enumerate().filter(|(_, host)| waits(view, host));
    waiting.map(|(index, _)| index).collect()
}

/// It waits for its update, and the canary lets it begin.
fn waits(view: &View<'_>, host: &HostView<'_>) -> bool {
    host.state == HostState::Pending && view.canary.allows(host.name)
}

/// Number of unavailable hosts, without the failures that `maxFailures` allows and the hosts that are set aside.
fn away(view: &View<'_>) -> usize {
    let is_aside = |state: &HostState| matches!(state, HostState::Refused(_) | HostState::UnmetPin(_));
    let is_away = |host: &&HostView<'_>| !host.is_available() && !is_aside(&host.state);
    let away = view.hosts.iter().filter(is_away).count();
    let failed = view.number(|state| matches!(state, HostState::Failed(_)));
    away - failed.min(view.failures_allowed())
}

/// Hosts whose update may begin now, by index, in the group's order, unavailable ones first. `begun`: hosts whose update begins in this
/// decision already; `room`: what `minAvailable` of the group leaves.
pub(crate) fn may_begin<'a>(view: &View<'a>, begun: &[usize], room: &mut Room<'a>) -> Vec<usize> {
    let most = max_unavailable(view);
    let updating = view.number(|state| matches!(state, HostState::Updating { .. })) + begun.len();
    if updating > 0 && batches::are_wanted(view) {
        return Vec::new();
    }
    let mut left = most.saturating_sub(updating);
    let mut left_for_serving = most.saturating_sub(away(view));
    let waiting = waiting(view);
    let mut candidates: Vec<(usize, &HostView<'a>)> =
        waiting.iter().map(|index| (*index, &view.hosts[*index])).collect();
    let mut zones = Zones::new(view, &waiting, begun);
    candidates.sort_by_key(|(index, host)| match host.is_available() {
        false => (false, 0),
        true => (true, zones.away(*index)),
    });
    let mut begin = Vec::new();
    // Whoever begins may be the last of its zone, and then others may: so until nobody does.
    loop {
        let before = begin.len();
        candidates.retain(|(index, host)| {
            let serves = host.is_available();
            let has_room = left > 0 && (!serves || left_for_serving > 0);
            if !has_room || !zones.allows(*index, serves) || !room.takes(host.name) {
                return true;
            }
            begin.push(*index);
            zones.begin(*index);
            left -= 1;
            left_for_serving = left_for_serving.saturating_sub(usize::from(serves));
            false
        });
        if begin.len() == before {
            return begin;
        }
    }
}
