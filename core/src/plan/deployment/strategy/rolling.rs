//! Rolling update: which hosts may begin within the budget of `maxUnavailable`.
//!
//! The budget counts every unavailable host, for whatever cause. A host that serves begins only while the budget has room; a host that is
//! unavailable already takes none and goes first. Never more than `maxUnavailable` updates are open at once.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::plan::deployment::{
    host_state::HostState,
    view::{HostView, View},
};

/// Number of hosts that may be unavailable at one time: a percentage rounds down, to at least one.
pub fn budget(max_unavailable: &IntOrString, total: usize) -> usize {
    let most = match max_unavailable {
        IntOrString::Int(count) => usize::try_from(*count).unwrap_or(1),
        IntOrString::String(text) => {
            let percent = text.trim_end_matches('%').parse::<usize>().unwrap_or(1).min(100);
            total * percent / 100
        }
    };
    most.max(1)
}

/// Budget of this rollout. Suspended hosts are in no count.
pub(crate) fn max_unavailable(view: &View<'_>) -> usize {
    budget(&view.observed.spec.strategy.rolling_update.max_unavailable, view.hosts.len())
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
    let is_away = |host: &&HostView<'_>| !host.is_available() && !matches!(host.state, HostState::Refused(_));
    let away = view.hosts.iter().filter(is_away).count();
    let failed = view.number(|state| matches!(state, HostState::Failed(_)));
    let allowed = usize::try_from(view.observed.spec.strategy.max_failures).unwrap_or(0);
    away - failed.min(allowed)
}

/// Hosts whose update may begin now, by index, in the group's order, unavailable ones first. `updating`: number of open updates.
pub(crate) fn may_begin(view: &View<'_>, updating: usize) -> Vec<usize> {
    let most = max_unavailable(view);
    let waiting = |(_, host): &(usize, &HostView<'_>)| host.state == HostState::Pending;
    let candidates = view.hosts.iter().enumerate().filter(waiting);
    let (serving, down): (Vec<_>, Vec<_>) = candidates.partition(|(_, host)| host.is_available());
    let room = most.saturating_sub(away(view));
    let all = down.into_iter().chain(serving.into_iter().take(room));
    all.map(|(index, _)| index).take(most.saturating_sub(updating)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_rounds_down_to_at_least_one_host() {
        let percent = |text: &str| IntOrString::String(text.to_owned());
        assert_eq!(budget(&percent("50%"), 5), 2);
        assert_eq!(budget(&percent("10%"), 5), 1);
        assert_eq!(budget(&percent("100%"), 5), 5);
        assert_eq!(budget(&IntOrString::Int(3), 5), 3);
    }
}
