//! Where each host stands: from what it shows, from the task that acts on it, and from what is on record about its turn.

use jiff::Timestamp;

use super::{
    observed::{FolderLook, GoalKind, HostSeen, Observed, Seen},
    record::HostVerdict,
    target::Target,
    turn::{is_down, is_reached, is_staged},
};
use crate::{
    api::{
        Reason,
        deployment::{DeploymentStatus, Phase, Rollout},
    },
    plan::hostgroup::Problem,
};

#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// Not asked yet.
    Unknown,
    /// Set aside before its turn, or lost after it.
    Unreachable(Problem),
    /// It failed in this attempt, or can't be used at all.
    Failed(Problem),
    /// Its turn has begun and is not over. `lost`: it does not answer.
    InTurn {
        phase: Phase,
        lost: Option<Problem>,
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
pub fn was_in_turn(before: &DeploymentStatus, host: &str) -> Option<Phase> {
    let entry = before.exceptions.iter().find(|entry| entry.host == host)?;
    let in_turn = matches!(entry.phase, Phase::Stopping | Phase::Switching | Phase::Starting | Phase::Verifying);
    (in_turn && entry.reason != Reason::Healing.as_str()).then_some(entry.phase)
}

/// Where one host stands on its way to this target.
pub fn standing(seen: &Observed, name: &str, target: Option<&Target>) -> Standing {
    let host = seen.seen(name);
    if let Some(verdict) = target.and_then(|target| verdict(seen, target, name)) {
        return Standing::Failed(Problem::terminal(verdict.reason, &verdict.message));
    }
    if let Some(standing) = by_task(&host) {
        return standing;
    }
    let before = was_in_turn(&seen.before(), name);
    match &host.look {
        FolderLook::Unknown => Standing::Unknown,
        FolderLook::Missed(problem) => match before {
            Some(phase) => Standing::InTurn { phase, lost: Some(problem.clone()) },
            None => Standing::Unreachable(problem.clone()),
        },
        FolderLook::Seen(look) => by_look(look, target, before),
    }
}

fn by_task(host: &HostSeen) -> Option<Standing> {
    let task = host.task.as_ref()?;
    match task.goal.kind {
        GoalKind::Stage => Some(Standing::Staging),
        GoalKind::Run => Some(Standing::InTurn { phase: in_turn(task.phase), lost: None }),
        GoalKind::Heal => Some(Standing::Healing { phase: in_turn(task.phase) }),
        GoalKind::Release | GoalKind::Remove | GoalKind::Adopt | GoalKind::Prune => None,
    }
}

/// A turn that is about to end still shows as a turn.
fn in_turn(phase: Phase) -> Phase {
    match phase {
        Phase::Ready | Phase::Failed | Phase::Unreachable | Phase::Pending => Phase::Verifying,
        Phase::Staging | Phase::Staged => Phase::Stopping,
        other => other,
    }
}

fn by_look(look: &Seen, target: Option<&Target>, before: Option<Phase>) -> Standing {
    if let Some(problem) = &look.unfit {
        return Standing::Failed(problem.clone());
    }
    let Some(target) = target else {
        return if is_down(&look.folder) { Standing::Down } else { Standing::Pending };
    };
    if is_reached(&look.folder, target) {
        return Standing::Ready;
    }
    if let Some(phase) = before {
        return Standing::InTurn { phase, lost: None };
    }
    if is_down(&look.folder) {
        return Standing::Down;
    }
    if is_staged(&look.folder, target) { Standing::Pending } else { Standing::Unstaged }
}

/// The verdict of this attempt about one host.
pub fn verdict<'a>(seen: &'a Observed, target: &Target, host: &str) -> Option<&'a HostVerdict> {
    seen.verdicts
        .iter()
        .find(|verdict| verdict.host == host && verdict.rollout == target.rollout && verdict.attempt == target.attempt)
}

/// Whether any host has failed in this attempt of the rollout on record.
pub fn any_failed(seen: &Observed, rollout: &Rollout) -> bool {
    seen.verdicts.iter().any(|verdict| verdict.rollout == rollout.id && verdict.attempt == rollout.attempt)
}

/// How long a host's process must rest before start number `starts` + 1: none, then 10 s, doubled up to 5 min.
pub fn heal_due(host: &HostSeen, attempt: i64, now: Timestamp) -> Heal {
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
