//! Failed hosts: more than `maxFailures`, or one of the canary, or in a rollout that has ended as Failed.

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
    exceeds(view, &in_view(view).collect())
}

fn in_view<'a>(view: &View<'a>) -> impl Iterator<Item = &'a str> {
    view.hosts.iter().filter(|host| matches!(host.state, HostState::Failed(_))).map(|host| host.name)
}

fn exceeds(view: &View<'_>, failed: &BTreeSet<&str>) -> bool {
    failed.len() > view.failures_allowed() || failed.iter().any(|host| view.canary.awaits(host))
}

/// A failed rollout stays failed, unless it failed only because a host was unusable and that host now works. Its failures are within
/// `maxFailures` or not as those of one under way, so a host that joins or comes back gets the version; failed hosts that were suspended or
/// deselected since count until a retry.
pub fn is_still_failed(view: &View<'_>) -> bool {
    let Some(active) = &view.rollout else { return false };
    let had_failed = active.change == RolloutChange::Same && active.had_failed();
    let unknown = view.number(|state| *state == HostState::Unknown) > 0;
    let recorded = failures(view.observed, view.target.as_deref());
    let failed: BTreeSet<&str> = recorded.into_keys().chain(in_view(view)).collect();
    had_failed && (unknown || exceeds(view, &failed))
}
