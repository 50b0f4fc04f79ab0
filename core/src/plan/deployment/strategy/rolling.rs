//! Rolling update: hosts begin in the group's order, within the budget of `maxUnavailable`.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::plan::deployment::{host_state::HostState, view::View};

/// How many hosts may be away at once: a percentage rounds down, to at least one.
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

/// The budget of this rollout.
pub fn max_unavailable(view: &View<'_>) -> usize {
    budget(&view.observed.spec.strategy.rolling_update.max_unavailable, view.hosts.len())
}

/// Whose update may begin now, by index; `updating` updates are open already.
pub fn may_begin(view: &View<'_>, updating: usize) -> Vec<usize> {
    let waiting = |index: &usize| view.hosts[*index].state == HostState::Pending;
    let free = max_unavailable(view).saturating_sub(updating);
    (0..view.hosts.len()).filter(waiting).take(free).collect()
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
