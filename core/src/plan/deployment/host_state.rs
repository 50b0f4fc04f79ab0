//! The state of each host: from what it shows, from the task that acts on it, and from what is on record about its update.

use jiff::Timestamp;

use super::{
    observed::{FolderCheck, FolderView, GoalKind, HostObserved, Observed},
    steps::{is_down, is_reached, is_staged},
    target::{Target, parse_rollout},
};
use crate::{
    api::{
        Reason,
        deployment::{Phase, Rollout, RolloutException},
    },
    model::{
        Failure,
        rollout::{HostFailure, RolloutRecord},
    },
};

#[derive(Clone, Debug, PartialEq)]
pub enum HostState {
    /// Not asked yet.
    Unknown,
    /// No answer, and no update under way.
    Unreachable(Failure),
    /// It failed in this attempt, or can't be used at all.
    Failed(Failure),
    /// Its update has begun and is not over. `lost`: it does not answer.
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
    /// Has the release and waits for its update.
    Pending,
    /// What was ready there ended, and it is on record how to start it again.
    Down,
    Ready,
}

/// Everything that the state of one host is computed from.
pub struct StateInput<'a> {
    pub observed: &'a Observed,
    pub host: &'a HostObserved,
    pub target: Option<&'a Target>,
    /// Its failure in this attempt.
    pub failure: Option<&'a HostFailure>,
    pub exception: Option<&'a RolloutException>,
}

impl StateInput<'_> {
    pub fn state(&self) -> HostState {
        if let Some(failure) = self.failure {
            return HostState::Failed(Failure::terminal(failure.reason, &failure.message));
        }
        if let Some(state) = by_task(self.host) {
            return state;
        }
        let updating = self.exception.and_then(updating_phase_on_record);
        match &self.host.look {
            FolderCheck::Unknown => HostState::Unknown,
            FolderCheck::Failed(failure) => match updating {
                Some(phase) => HostState::Updating { phase, lost: Some(failure.clone()) },
                None => HostState::Unreachable(failure.clone()),
            },
            FolderCheck::Facts(view) => self.by_facts(view, updating),
        }
    }

    fn by_facts(&self, view: &FolderView, updating: Option<Phase>) -> HostState {
        if let Some(failure) = &view.unfit {
            return HostState::Failed(failure.clone());
        }
        if let Some(target) = self.target {
            if is_reached(&view.folder, target) {
                return HostState::Ready;
            }
            if let Some(phase) = updating {
                return HostState::Updating { phase, lost: None };
            }
        }
        if is_down(&view.folder) && last_good(self.observed, self.host, self.target).is_some() {
            return HostState::Down;
        }
        match self.target {
            Some(target) if is_staged(&view.folder, target) => HostState::Pending,
            Some(_) => HostState::Unstaged,
            None if is_down(&view.folder) => HostState::Unstaged,
            None => HostState::Pending,
        }
    }
}

/// An update is on record by the phase in the status: an intent is committed before it is acted on.
fn updating_phase_on_record(exception: &RolloutException) -> Option<Phase> {
    let updating = matches!(exception.phase, Phase::Stopping | Phase::Switching | Phase::Starting | Phase::Verifying);
    (updating && exception.reason != Reason::Healing.as_str()).then_some(exception.phase)
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

/// An update that is about to end still shows as an update.
fn updating_phase(phase: Phase) -> Phase {
    match phase {
        Phase::Ready | Phase::Failed | Phase::Unreachable | Phase::Pending => Phase::Verifying,
        Phase::Staging | Phase::Staged => Phase::Stopping,
        other => other,
    }
}

/// What was ready on a host last, as the store has it.
pub fn last_good(observed: &Observed, host: &HostObserved, target: Option<&Target>) -> Option<Target> {
    let process = host.view()?.folder.process.as_ref()?;
    if let Some(target) = target.filter(|target| target.rollout == process.rollout && target.uid == process.uid) {
        return Some(target.clone());
    }
    let (revision, _) = parse_rollout(&process.rollout)?;
    let fits = |record: &&RolloutRecord| process.uid == observed.uid && record.revision == revision;
    let record = observed.records.iter().find(fits)?;
    let attempt = target.map_or(1, |target| target.attempt);
    Some(Target::new(observed, record, &process.rollout, attempt, 0))
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

/// Seconds after its last start from which a process counts as healed.
pub const HEALED_AFTER: i64 = 600;
pub const STARTS_IN_A_ROW: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heal {
    Now,
    /// Seconds.
    In(u64),
    TooOften,
}
