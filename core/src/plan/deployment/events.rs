//! What people are told when it happens: a rollout that begins or ends, a host that fails or leaves.

use super::{rollout::RolloutChange, targets::list_names, view::View};
use crate::{
    api::{
        Reason,
        deployment::{DeploymentStatus, Phase, RolloutOutcome},
    },
    plan::EventDraft,
};

pub fn events(view: &View<'_>, after: &DeploymentStatus) -> Vec<EventDraft> {
    let mut events = Vec::new();
    events.extend(begun(view, after));
    events.extend(ended(view, after));
    events.extend(failed_hosts(view, after));
    events.extend(left(view));
    events
}

fn begun(view: &View<'_>, after: &DeploymentStatus) -> Option<EventDraft> {
    let active = view.rollout.as_ref()?;
    let (id, version) = (&active.rollout.id, &active.rollout.version);
    match active.change {
        RolloutChange::Started => {
            let note = format!("rollout {id} of {version} on {} hosts", after.hosts.total);
            Some(EventDraft::normal(Reason::RolloutStarted, "Rollout", note))
        }
        RolloutChange::Retry => {
            let note = format!("attempt {} of rollout {id} of {version}", active.rollout.attempt);
            Some(EventDraft::normal(Reason::RolloutStarted, "Retry", note))
        }
        RolloutChange::Same => None,
    }
}

fn ended(view: &View<'_>, after: &DeploymentStatus) -> Option<EventDraft> {
    let active = view.rollout.as_ref()?;
    let (id, version) = (&active.rollout.id, &active.rollout.version);
    let newest = after.history.first().filter(|entry| entry.completed_at.is_some())?;
    let old = view.before.history.first().is_some_and(|old| {
        old.revision == newest.revision && old.started_at == newest.started_at && old.outcome == newest.outcome
    });
    match newest.outcome {
        _ if old => None,
        RolloutOutcome::Succeeded => {
            let note = format!("rollout {id}: all {} hosts run {version}", after.hosts.total);
            Some(EventDraft::normal(Reason::RolloutFinished, "Rollout", note))
        }
        _ => {
            let note = format!("rollout {id} of {version} failed on {} hosts", newest.failed_hosts);
            Some(EventDraft::warning(Reason::RolloutFailed, "Rollout", note))
        }
    }
}

fn failed_hosts(view: &View<'_>, after: &DeploymentStatus) -> Vec<EventDraft> {
    let before = &view.before.exceptions;
    let known = |host: &str| before.iter().any(|old| old.host == host && old.phase == Phase::Failed);
    let failed = after.exceptions.iter().filter(|entry| entry.phase == Phase::Failed);
    failed
        .filter(|entry| !known(&entry.host))
        .map(|entry| {
            let note = format!("{}: {}: {}", entry.host, entry.reason, entry.message);
            EventDraft::warning(Reason::HostFailed, "Deploy", note)
        })
        .collect()
}

fn left(view: &View<'_>) -> Option<EventDraft> {
    let left = &view.observed.left;
    if left.is_empty() {
        return None;
    }
    let note = format!("{} left the HostGroup; what runs there is not looked at any more", list_names(left));
    Some(EventDraft::warning(Reason::HostLeft, "Plan", note))
}
