//! What the status says: counts, versions, exceptions, history, and the one verdict.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    host_state::HostState,
    observed::{FolderCheck, Observed},
    reference::list_names,
    rollout::{ActiveRollout, RolloutChange},
    schedule::{HostView, budget},
    steps::is_target,
    target::{Target, parse_rollout},
};
use crate::{
    api::{
        Reason,
        conditions::clip,
        deployment::{DeploymentStatus, HistoryEntry, Phase, RolloutCounts, RolloutException, RolloutOutcome},
        hostgroup::VersionCount,
    },
    model::facts::ProcessFacts,
};

const EXCEPTIONS: usize = 100;
const MESSAGE_BYTES: usize = 500;

pub fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// How many hosts stand so.
pub fn number(views: &[HostView], fits: impl Fn(&HostState) -> bool) -> usize {
    views.iter().filter(|one| fits(&one.state)).count()
}

fn process(observed: &Observed, host: &str) -> Option<ProcessFacts> {
    match observed.host(host).look {
        FolderCheck::Facts(look) => look.folder.process.filter(|process| process.alive),
        _ => None,
    }
}

pub fn counts(observed: &Observed, views: &[HostView], target: Option<&Target>) -> RolloutCounts {
    let updated = views.iter().filter(|one| {
        process(observed, &one.host).is_some_and(|process| target.is_some_and(|target| is_target(&process, target)))
    });
    let updated = count(updated.count());
    let number = |fits: fn(&HostState) -> bool| count(number(views, fits));
    RolloutCounts {
        total: count(views.len()),
        updated,
        ready: number(|state| *state == HostState::Ready),
        failed: number(|state| matches!(state, HostState::Failed(_))),
        unreachable: number(|state| {
            matches!(state, HostState::Unreachable(_) | HostState::Updating { lost: Some(_), .. })
        }),
        pending: number(|state| {
            matches!(state, HostState::Pending | HostState::Unstaged | HostState::Staging | HostState::Unknown)
        }),
    }
}

/// Which version runs on how many of the selected hosts, by what the hosts say.
pub fn versions(observed: &Observed, views: &[HostView]) -> Vec<VersionCount> {
    let mut versions: BTreeMap<String, i32> = BTreeMap::new();
    for release in views.iter().filter_map(|one| process(observed, &one.host)?.release) {
        *versions.entry(release.version().to_owned()).or_default() += 1;
    }
    versions.into_iter().take(EXCEPTIONS).map(|(version, hosts)| VersionCount { version, hosts }).collect()
}

/// Every host that is not Ready, so that who is not listed (and not cut off) runs the rollout's version. Turns come first: they must be
/// on record whatever else there is; hosts that wait come last.
pub fn exceptions(
    observed: &Observed,
    views: &[HostView],
    before: &DeploymentStatus,
    blocked: bool,
    now: Timestamp,
) -> Vec<RolloutException> {
    let wait = waits(observed, blocked);
    let mut all: Vec<(u8, RolloutException)> = views
        .iter()
        .filter_map(|one| {
            let (rank, phase, reason, message) = summarize(&one.state, wait)?;
            let (host, reason) = (one.host.clone(), reason.as_str());
            let old =
                before.exceptions.iter().find(|old| old.host == host && old.phase == phase && old.reason == reason);
            let since = old.map_or(Time(now), |old| old.since.clone());
            let version = process(observed, &host).and_then(|process| Some(process.release?.version().to_owned()));
            Some((
                rank,
                RolloutException { host, phase, version, reason, message: clip(&message, MESSAGE_BYTES), since },
            ))
        })
        .collect();
    all.sort_by_key(|(rank, _)| *rank);
    all.into_iter().map(|(_, exception)| exception).take(EXCEPTIONS).collect()
}

/// Why a host that answers is not begun with.
fn waits(observed: &Observed, blocked: bool) -> (Reason, &'static str) {
    match (observed.spec.paused, blocked) {
        (true, _) => (Reason::Paused, "waits until spec.paused is false"),
        (_, true) => (Reason::Pending, "was not begun with: the rollout stands still"),
        (_, false) => (Reason::Pending, "waits for its turn"),
    }
}

fn summarize(state: &HostState, wait: (Reason, &str)) -> Option<(u8, Phase, Reason, String)> {
    Some(match state {
        HostState::Updating { phase, lost: Some(failure) } => {
            (0, *phase, failure.reason, format!("lost in its turn: {}", failure.message))
        }
        HostState::Updating { phase, lost: None } => (0, *phase, Reason::RollingOut, doing(*phase).to_owned()),
        HostState::Healing { phase } => {
            (1, *phase, Reason::Healing, "what was ready here ended; it is started again".to_owned())
        }
        HostState::Down => {
            (1, Phase::Pending, Reason::Healing, "what was ready here ended; it is started again soon".to_owned())
        }
        HostState::Failed(failure) => (2, Phase::Failed, failure.reason, failure.message.clone()),
        HostState::Unreachable(failure) => (3, Phase::Unreachable, failure.reason, failure.message.clone()),
        HostState::Staging => {
            (4, Phase::Staging, Reason::RollingOut, "the release is brought here and verified".to_owned())
        }
        HostState::Pending => (5, Phase::Staged, wait.0, wait.1.to_owned()),
        HostState::Unknown | HostState::Unstaged => (5, Phase::Pending, wait.0, wait.1.to_owned()),
        HostState::Ready => return None,
    })
}

fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Stopping => "what ran here is stopped",
        Phase::Switching => "`current` is switched to the new release",
        Phase::Starting => "the new release is started",
        _ => "the new release was started and is asked whether it is ready",
    }
}

/// Display only: which batch is under way, and of how many.
pub fn batches(observed: &Observed, views: &[HostView]) -> (i32, i32) {
    let most = budget(&observed.spec.strategy.rolling_update.max_unavailable, views.len());
    let batches = views.len().div_ceil(most);
    let over = number(views, |state| matches!(state, HostState::Ready | HostState::Failed(_)));
    (count((over / most + 1).min(batches)), count(batches))
}

/// How a rollout stands beside what its hosts show.
#[derive(Clone, Copy)]
pub struct RolloutResume {
    /// It had failed, and goes on.
    pub again: bool,
    /// More hosts failed than may.
    pub stuck: bool,
}

/// The history after this decision, newest first.
pub fn history(
    before: &DeploymentStatus,
    current: &ActiveRollout,
    views: &[HostView],
    resume: RolloutResume,
    limit: i32,
    now: Timestamp,
) -> Vec<HistoryEntry> {
    let mut history = before.history.clone();
    if current.change == RolloutChange::Started || history.is_empty() {
        if let Some(old) = history.first_mut().filter(|old| old.outcome == RolloutOutcome::Progressing) {
            old.outcome = RolloutOutcome::Superseded;
            old.completed_at = Some(Time(now));
        }
        history.insert(0, entry(current));
    }
    if let Some(newest) = history.first_mut() {
        if current.change == RolloutChange::Retry || resume.again {
            newest.outcome = RolloutOutcome::Progressing;
            newest.completed_at = None;
        }
        newest.failed_hosts = count(number(views, |state| matches!(state, HostState::Failed(_))));
        if newest.outcome == RolloutOutcome::Progressing
            && let Some(outcome) = outcome(views, resume.stuck)
        {
            newest.outcome = outcome;
            newest.completed_at = Some(Time(now));
        }
    }
    history.truncate(usize::try_from(limit).unwrap_or(1).max(1));
    history
}

fn entry(current: &ActiveRollout) -> HistoryEntry {
    HistoryEntry {
        revision: parse_rollout(&current.rollout.id).map_or(0, |(revision, _)| revision),
        version: current.rollout.version.clone(),
        commit: current.record.commit.clone(),
        started_at: current.rollout.started_at.clone(),
        completed_at: None,
        outcome: RolloutOutcome::Progressing,
        failed_hosts: 0,
    }
}

/// How the rollout ended; `None` while anything is under way or still to come.
fn outcome(views: &[HostView], too_many_failed: bool) -> Option<RolloutOutcome> {
    let under_way = |state: &HostState| {
        matches!(
            state,
            HostState::Updating { .. } | HostState::Staging | HostState::Healing { .. } | HostState::Unknown
        )
    };
    let to_come = |state: &HostState| {
        matches!(state, HostState::Pending | HostState::Unstaged | HostState::Down | HostState::Unreachable(_))
    };
    let failed = views.iter().any(|one| matches!(one.state, HostState::Failed(_)));
    if views.iter().any(|one| under_way(&one.state)) {
        return None;
    }
    let more = views.iter().any(|one| to_come(&one.state));
    match (failed, more) {
        (true, false) => Some(RolloutOutcome::Failed),
        (true, true) if too_many_failed => Some(RolloutOutcome::Failed),
        (false, false) => Some(RolloutOutcome::Succeeded),
        _ => None,
    }
}

/// Names of hosts that stand so, for a message.
pub fn names(views: &[HostView], fits: impl Fn(&HostState) -> bool) -> String {
    let names: Vec<String> = views.iter().filter(|one| fits(&one.state)).map(|one| one.host.clone()).collect();
    list_names(&names)
}
