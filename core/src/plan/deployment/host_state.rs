//! Where each host stands: from what it shows, from the task that acts on it, and from what is on record about its turn.

use jiff::Timestamp;

use super::{
    observed::{FolderCheck, FolderView, GoalKind, HostObserved, Observed},
    steps::{is_down, is_reached, is_staged},
    target::Target,
};
use crate::model::rollout::HostFailure;
use crate::{
    api::{
        Reason,
        deployment::{DeploymentStatus, Phase, Rollout},
    },
    model::Failure,
};

#[derive(Clone, Debug, PartialEq)]
pub enum HostState {
    /// Not asked yet.
    Unknown,
    /// Set aside before its turn, or lost after it.
    Unreachable(Failure),
    /// It failed in this attempt, or can't be used at all.
    Failed(Failure),
    /// Its turn has begun and is not over. `lost`: it does not answer.
    Updating {
        phase: Phase,
        lost: Option<Failure>,
    },
    /// What had been ready is being started again.
    Healing {
        phase: Phase,
    },
    Staging,
    /// Answers, and lacks the release.
    Unstaged,
    /// Has the release and waits for its turn.
    Pending,
    /// What was ready there runs no more.
    Down,
    Ready,
}

/// A turn is on record by the phase in the status: an intent is committed before it is acted on.
pub fn was_updating(before: &DeploymentStatus, host: &str) -> Option<Phase> {
    let entry = before.exceptions.iter().find(|entry| entry.host == host)?;
    let updating_phase = matches!(entry.phase, Phase::Stopping | Phase::Switching | Phase::Starting | Phase::Verifying);
    (updating_phase && entry.reason != Reason::Healing.as_str()).then_some(entry.phase)
}

/// Where one host stands on its way to this target.
pub fn state(observed: &Observed, name: &str, target: Option<&Target>) -> HostState {
    let host = observed.host(name);
    if let Some(verdict) = target.and_then(|target| verdict(observed, target, name)) {
        return HostState::Failed(Failure::terminal(verdict.reason, &verdict.message));
    }
    if let Some(state) = by_task(&host) {
        return state;
    }
    let before = was_updating(&observed.before(), name);
    match &host.look {
        FolderCheck::Unknown => HostState::Unknown,
        FolderCheck::Failed(failure) => match before {
            Some(phase) => HostState::Updating { phase, lost: Some(failure.clone()) },
            None => HostState::Unreachable(failure.clone()),
        },
        FolderCheck::Facts(look) => by_look(look, target, before),
    }
}

fn by_task(host: &HostObserved) -> Option<HostState> {
    let task = host.task.as_ref()?;
    match task.goal.kind {
        GoalKind::Stage => Some(HostState::Staging),
        GoalKind::Run => Some(HostState::Updating { phase: updating_phase(task.phase), lost: None }),
        GoalKind::Heal => Some(HostState::Healing { phase: updating_phase(task.phase) }),
        GoalKind::Release | GoalKind::Remove | GoalKind::Adopt | GoalKind::Prune => None,
    }
}

/// A turn that is about to end still shows as a turn.
fn updating_phase(phase: Phase) -> Phase {
    match phase {
        Phase::Ready | Phase::Failed | Phase::Unreachable | Phase::Pending => Phase::Verifying,
        Phase::Staging | Phase::Staged => Phase::Stopping,
        other => other,
    }
}

fn by_look(look: &FolderView, target: Option<&Target>, before: Option<Phase>) -> HostState {
    if let Some(failure) = &look.unfit {
        return HostState::Failed(failure.clone());
    }
    let Some(target) = target else {
        return if is_down(&look.folder) { HostState::Down } else { HostState::Pending };
    };
    if is_reached(&look.folder, target) {
        return HostState::Ready;
    }
    if let Some(phase) = before {
        return HostState::Updating { phase, lost: None };
    }
    if is_down(&look.folder) {
        return HostState::Down;
    }
    if is_staged(&look.folder, target) { HostState::Pending } else { HostState::Unstaged }
}

/// The verdict of this attempt about one host.
pub fn verdict<'a>(observed: &'a Observed, target: &Target, host: &str) -> Option<&'a HostFailure> {
    observed
        .verdicts
        .iter()
        .find(|verdict| verdict.host == host && verdict.rollout == target.rollout && verdict.attempt == target.attempt)
}

/// Whether any host has failed in this attempt of the rollout on record.
pub fn any_failed(observed: &Observed, rollout: &Rollout) -> bool {
    observed.verdicts.iter().any(|verdict| verdict.rollout == rollout.id && verdict.attempt == rollout.attempt)
}

/// How long a host's process must rest before start number `starts` + 1: none, then 10 s, doubled up to 5 min.
pub fn heal_due(host: &HostObserved, attempt: i64, now: Timestamp) -> Heal {
    let Some(healing) = host.healing.filter(|healing| healing.counts(attempt, now)) else { return Heal::Now };
    if healing.starts >= STARTS_IN_A_ROW {
        return Heal::TooOften;
    }
    let wait = (10_i64 << (healing.starts.saturating_sub(1)).min(5)).min(300);
    let left = wait - now.duration_since(healing.last).as_secs();
    if left <= 0 { Heal::Now } else { Heal::In(u64::try_from(left).unwrap_or(1)) }
}

/// So long after its last start a process counts as healed.
pub const HEALED_AFTER: i64 = 600;
pub const STARTS_IN_A_ROW: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heal {
    Now,
    /// Seconds.
    In(u64),
    TooOften,
}
