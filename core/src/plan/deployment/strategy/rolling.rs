//! Rolling update: which hosts may begin within the budget of `maxUnavailable`.
//!
//! The budget counts every unavailable host, for whatever cause. A host that serves begins only while the budget has room; a host that is
//! unavailable already takes none and goes first. Never more than `maxUnavailable` updates are open at once.

use crate::plan::{
    deployment::{
        host_state::HostState,
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
        && view.number(|state| *state == HostState::Pending) > 0
}

/// Number of unavailable hosts, without the failures that `maxFailures` allows and the hosts that are set aside.
fn away(view: &View<'_>) -> usize {
    let is_aside = |state: &HostState| matches!(state, HostState::Refused(_) | HostState::UnmetPin(_));
    let is_away = |host: &&HostView<'_>| !host.is_available() && !is_aside(&host.state);
    let away = view.hosts.iter().filter(is_away).count();
    let failed = view.number(|state| matches!(state, HostState::Failed(_)));
    let allowed = usize::try_from(view.observed.spec.strategy.max_failures).unwrap_or(0);
    away - failed.min(allowed)
}

/// Hosts whose update may begin now, by index, in the group's order, unavailable ones first. `updating`: number of open updates; `room`: what
/// `minAvailable` of the group leaves.
pub(crate) fn may_begin<'a>(view: &View<'a>, updating: usize, room: &mut Room<'a>) -> Vec<usize> {
    let most = max_unavailable(view);
    let mut left = most.saturating_sub(updating);
    let mut left_for_serving = most.saturating_sub(away(view));
    let waiting = |(_, host): &(usize, &HostView<'a>)| host.state == HostState::Pending;
    let candidates = view.hosts.iter().enumerate().filter(waiting);
    let (serving, down): (Vec<_>, Vec<_>) = candidates.partition(|(_, host)| host.is_available());
    let mut begin = Vec::new();
    for (index, host) in down.into_iter().chain(serving) {
        let serves = host.is_available();
        if left == 0 || serves && left_for_serving == 0 {
            break;
        }
        if room.takes(host.name) {
            begin.push(index);
            left -= 1;
            left_for_serving = left_for_serving.saturating_sub(usize::from(serves));
        }
    }
    begin
}
