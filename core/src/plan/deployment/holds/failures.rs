//! Failed hosts: more than `maxFailures`, or in a rollout that has ended as Failed.

use super::Hold;
use crate::plan::deployment::{host_state::HostState, rollout::RolloutChange, view::View};

pub fn too_many(view: &View<'_>) -> Option<Hold> {
    too_many_failed(view).then_some(Hold::TooManyFailed)
}

pub(crate) fn still_failed(view: &View<'_>) -> Option<Hold> {
    is_still_failed(view).then_some(Hold::StillFailed)
}

pub fn too_many_failed(view: &View<'_>) -> bool {
    let failed = view.number(|state| matches!(state, HostState::Failed(_)));
    i64::try_from(failed).unwrap_or(i64::MAX) > i64::from(view.observed.spec.strategy.max_failures)
}

/// A failed rollout stays failed, unless it failed only because a host was unusable and that host now works.
pub fn is_still_failed(view: &View<'_>) -> bool {
    let Some(active) = &view.rollout else { return false };
    let had_failed = active.change == RolloutChange::Same && active.had_failed();
    let may_have_failed = view.hosts.iter().any(|host| matches!(host.state, HostState::Failed(_) | HostState::Unknown));
    had_failed && (may_have_failed || view.any_failure_recorded())
}
