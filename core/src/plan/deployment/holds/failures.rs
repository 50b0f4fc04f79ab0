//! Failed hosts: more than `maxFailures`, or in a rollout that has ended as Failed.

use std::collections::BTreeSet;

use super::Hold;
use crate::plan::deployment::{host_state::HostState, records::failures, rollout::RolloutChange, view::View};

pub fn too_many(view: &View<'_>) -> Option<Hold> {
    too_many_failed(view).then_some(Hold::TooManyFailed)
}

pub(crate) fn still_failed(view: &View<'_>) -> Option<Hold> {
    is_still_failed(view).then_some(Hold::StillFailed)
}

pub fn too_many_failed(view: &View<'_>) -> bool {
    let failed = view.number(|state| matches!(state, HostState::Failed(_)));
    exceeds(view, failed)
}

fn exceeds(view: &View<'_>, failed: usize) -> bool {
    i64::try_from(failed).unwrap_or(i64::MAX) > i64::from(view.observed.spec.strategy.max_failures)
}

/// A failed rollout stays failed, unless it failed only because a host was unusable and that host now works. Its failures are within
/// `maxFailures` or not as those of one under way, so a host that joins or comes back gets the version; failed hosts that were suspended or
/// deselected since count until a retry.
pub fn is_still_failed(view: &View<'_>) -> bool {
    let Some(active) = &view.rollout else { return false };
    let had_failed = active.change == RolloutChange::Same && active.had_failed();
    let unknown = view.number(|state| *state == HostState::Unknown) > 0;
    let recorded = failures(view.observed, view.target.as_deref());
    let in_view = view.hosts.iter().filter(|host| matches!(host.state, HostState::Failed(_))).map(|host| host.name);
    let failed: BTreeSet<&str> = recorded.into_keys().chain(in_view).collect();
    had_failed && (unknown || exceeds(view, failed.len()))
}
