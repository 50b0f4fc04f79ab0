//! The history of rollouts as people read it, newest first.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    exceptions::count,
    holds,
    host_state::HostState,
    records::failures_of,
    rollout::{ActiveRollout, RolloutChange},
    view::View,
};
use crate::api::deployment::{HistoryChange, HistoryEntry, RolloutOutcome};
use crate::model::rollout::{HostFailure, RolloutId};

/// How a rollout continues.
#[derive(Clone, Copy)]
pub(crate) struct RolloutResume {
    /// It had failed, and continues.
    pub again: bool,
    /// More hosts failed than `maxFailures`.
    pub stuck: bool,
}

impl RolloutResume {
    /// From the view as it was before anything was scheduled.
    pub fn new(view: &View<'_>) -> Self {
        let had_failed =
            view.rollout.as_ref().is_some_and(|active| active.change == RolloutChange::Same && active.had_failed());
        Self { again: had_failed && !holds::is_still_failed(view), stuck: holds::too_many_failed(view) }
    }
}

/// The history after this decision. A rollout that was aborted has ended once no host is under way.
pub fn history(view: &View<'_>, active: &ActiveRollout, resume: RolloutResume, now: Timestamp) -> Vec<HistoryEntry> {
    let mut history = view.before.history.clone();
    let started = match active.change {
        RolloutChange::Started(change) => Some(change),
        RolloutChange::Same | RolloutChange::Retry => None,
    };
    if started.is_some() || history.is_empty() {
        if let Some(old) = history.first_mut().filter(|old| old.outcome == RolloutOutcome::Progressing) {
            old.outcome = RolloutOutcome::Superseded;
            if started == Some(HistoryChange::RollBack) {
                old.outcome = RolloutOutcome::Failed;
                old.failed_hosts = count(failed_before(view).len());
            }
            old.completed_at = Some(Time(now));
        }
        history.insert(0, entry(active, started));
    }
    if let Some(newest) = history.first_mut() {
        // Of a rollout that succeeded: a host joined, came back into service, or ran something else.
        let begins_again = newest.outcome == RolloutOutcome::Succeeded && view.number(is_updating) > 0;
        // Of one that failed within `maxFailures`: a host is to be updated. A crash, a reboot or a lost host is none.
        let goes_on = resume.again && view.number(is_to_update) > 0;
        if active.change == RolloutChange::Retry || goes_on || begins_again {
            newest.outcome = RolloutOutcome::Progressing;
            newest.completed_at = None;
        }
        newest.failed_hosts = count(view.number(|state| matches!(state, HostState::Failed(_))));
        if newest.outcome == RolloutOutcome::Progressing
            && let Some(outcome) = aborted(view, active, outcome(view, resume.stuck))
        {
            newest.outcome = outcome;
            newest.completed_at = Some(Time(now));
        }
    }
    let limit = view.observed.spec.revision_history_limit;
    history.truncate(usize::try_from(limit).unwrap_or(1).max(1));
    history
}

/// Hosts that failed in the rollout on record.
pub(super) fn failed_before<'a>(view: &View<'a>) -> BTreeMap<&'a str, &'a HostFailure> {
    let Some(rollout) = view.before.rollout.as_ref() else { return BTreeMap::new() };
    let failures = failures_of(view.observed, &rollout.id, rollout.attempt);
    failures.map(|failure| (failure.host.as_str(), failure)).collect()
}

/// What has become of a rollout that a person ended: also where hosts failed, it goes on after a retry alone. `otherwise`: of any other.
fn aborted(view: &View<'_>, active: &ActiveRollout, otherwise: Option<RolloutOutcome>) -> Option<RolloutOutcome> {
    if !active.aborted || otherwise == Some(RolloutOutcome::Succeeded) {
        return otherwise;
    }
    let is_under_way = view.number(|state| matches!(state, HostState::Updating { lost: None, .. })) > 0;
    (!is_under_way).then_some(RolloutOutcome::Aborted)
}

fn is_updating(state: &HostState) -> bool {
    matches!(state, HostState::Updating { .. })
}

fn is_to_update(state: &HostState) -> bool {
    is_updating(state)
        || matches!(state, HostState::Staging | HostState::Unstaged | HostState::Slow(_) | HostState::Pending)
}

fn entry(active: &ActiveRollout, change: Option<HistoryChange>) -> HistoryEntry {
    HistoryEntry {
        revision: RolloutId::read(&active.rollout.id).map_or(0, |id| id.revision),
        version: active.rollout.version.clone(),
        commit: active.record.commit.clone(),
        change,
        requested_by: active.rollout.requested_by.clone(),
        started_at: active.rollout.started_at.clone(),
        completed_at: None,
        outcome: RolloutOutcome::Progressing,
        failed_hosts: 0,
    }
}

/// Outcome of the rollout; `None` while an update is under way or to come, and while no host is in service that could show it.
fn outcome(view: &View<'_>, too_many_failed: bool) -> Option<RolloutOutcome> {
    if view.hosts.is_empty() {
        return None;
    }
    let under_way = view.number(|state| {
        matches!(
            state,
            HostState::Updating { .. }
                | HostState::Staging
                | HostState::Healing { .. }
                | HostState::NotReady(_)
                | HostState::Unknown
        )
    });
    if under_way > 0 {
        return None;
    }
    let failed = view.number(|state| matches!(state, HostState::Failed(_))) > 0;
    let to_come = view.number(|state| {
        matches!(
            state,
            HostState::Pending
                | HostState::Unstaged
                | HostState::UnmetPin(_)
                | HostState::Slow(_)
                | HostState::Down
                | HostState::ByHand { .. }
                | HostState::Unreachable(_)
                | HostState::Refused(_)
        )
    });
    match (failed, to_come > 0) {
        (true, false) => Some(RolloutOutcome::Failed),
        (true, true) if too_many_failed => Some(RolloutOutcome::Failed),
        (false, false) => Some(RolloutOutcome::Succeeded),
        _ => None,
    }
}
