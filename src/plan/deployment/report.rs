//! What the status says: counts, versions, exceptions, history, and the one verdict.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    observed::{FolderLook, Observed},
    reference::some,
    rollout::{Current, News},
    schedule::{Placed, budget},
    standing::Standing,
    target::{Target, parse_rollout},
    turn::is_target,
};
use crate::{
    api::{
        Reason,
        conditions::clip,
        deployment::{DeploymentStatus, HistoryEntry, Phase, RolloutCounts, RolloutException, RolloutOutcome},
        hostgroup::VersionCount,
    },
    plan::facts::ProcessFacts,
};

const EXCEPTIONS: usize = 100;
const MESSAGE_BYTES: usize = 500;

pub fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// How many hosts stand so.
pub fn number(placed: &[Placed], fits: impl Fn(&Standing) -> bool) -> usize {
    placed.iter().filter(|one| fits(&one.standing)).count()
}

fn process(seen: &Observed, host: &str) -> Option<ProcessFacts> {
    match seen.seen(host).look {
        FolderLook::Seen(look) => look.folder.process.filter(|process| process.alive),
        _ => None,
    }
}

pub fn counts(seen: &Observed, placed: &[Placed], target: Option<&Target>) -> RolloutCounts {
    let updated = placed.iter().filter(|one| {
        process(seen, &one.host).is_some_and(|process| target.is_some_and(|target| is_target(&process, target)))
    });
    let updated = count(updated.count());
    let number = |fits: fn(&Standing) -> bool| count(number(placed, fits));
    RolloutCounts {
        total: count(placed.len()),
        updated,
        ready: number(|standing| *standing == Standing::Ready),
        failed: number(|standing| matches!(standing, Standing::Failed(_))),
        unreachable: number(|standing| {
            matches!(standing, Standing::Unreachable(_) | Standing::InTurn { lost: Some(_), .. })
        }),
        pending: number(|standing| {
            matches!(standing, Standing::Pending | Standing::Unstaged | Standing::Staging | Standing::Unknown)
        }),
    }
}

/// Which version runs on how many of the selected hosts, by what the hosts say.
pub fn versions(seen: &Observed, placed: &[Placed]) -> Vec<VersionCount> {
    let mut versions: BTreeMap<String, i32> = BTreeMap::new();
    for release in placed.iter().filter_map(|one| process(seen, &one.host)?.release) {
        *versions.entry(release.version().to_owned()).or_default() += 1;
    }
    versions.into_iter().take(EXCEPTIONS).map(|(version, hosts)| VersionCount { version, hosts }).collect()
}

/// Every host that is not Ready, so that who is not listed (and not cut off) runs the rollout's version. Turns come first: they must be
/// on record whatever else there is; hosts that wait come last.
pub fn exceptions(
    seen: &Observed,
    placed: &[Placed],
    before: &DeploymentStatus,
    blocked: bool,
    now: Timestamp,
) -> Vec<RolloutException> {
    let wait = waits(seen, blocked);
    let mut all: Vec<(u8, RolloutException)> = placed
        .iter()
        .filter_map(|one| {
            let (rank, phase, reason, message) = say(&one.standing, wait)?;
            let (host, reason) = (one.host.clone(), reason.as_str());
            let old =
                before.exceptions.iter().find(|old| old.host == host && old.phase == phase && old.reason == reason);
            let since = old.map_or(Time(now), |old| old.since.clone());
            let version = process(seen, &host).and_then(|process| Some(process.release?.version().to_owned()));
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
fn waits(seen: &Observed, blocked: bool) -> (Reason, &'static str) {
    match (seen.spec.paused, blocked) {
        (true, _) => (Reason::Paused, "waits until spec.paused is false"),
        (_, true) => (Reason::Pending, "was not begun with: the rollout stands still"),
        (_, false) => (Reason::Pending, "waits for its turn"),
    }
}

fn say(standing: &Standing, wait: (Reason, &str)) -> Option<(u8, Phase, Reason, String)> {
    Some(match standing {
        Standing::InTurn { phase, lost: Some(problem) } => {
            (0, *phase, problem.reason, format!("lost in its turn: {}", problem.message))
        }
        Standing::InTurn { phase, lost: None } => (0, *phase, Reason::RollingOut, doing(*phase).to_owned()),
        Standing::Healing { phase } => {
            (1, *phase, Reason::Healing, "what was ready here ended; it is started again".to_owned())
        }
        Standing::Down => {
            (1, Phase::Pending, Reason::Healing, "what was ready here ended; it is started again soon".to_owned())
        }
        Standing::Failed(problem) => (2, Phase::Failed, problem.reason, problem.message.clone()),
        Standing::Unreachable(problem) => (3, Phase::Unreachable, problem.reason, problem.message.clone()),
        Standing::Staging => {
            (4, Phase::Staging, Reason::RollingOut, "the release is brought here and verified".to_owned())
        }
        Standing::Pending => (5, Phase::Staged, wait.0, wait.1.to_owned()),
        Standing::Unknown | Standing::Unstaged => (5, Phase::Pending, wait.0, wait.1.to_owned()),
        Standing::Ready => return None,
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
pub fn batches(seen: &Observed, placed: &[Placed]) -> (i32, i32) {
    let most = budget(&seen.spec.strategy.rolling_update.max_unavailable, placed.len());
    let batches = placed.len().div_ceil(most);
    let over = number(placed, |standing| matches!(standing, Standing::Ready | Standing::Failed(_)));
    (count((over / most + 1).min(batches)), count(batches))
}

/// How a rollout stands beside what its hosts show.
#[derive(Clone, Copy)]
pub struct Begun {
    /// It had failed, and goes on.
    pub again: bool,
    /// More hosts failed than may.
    pub stuck: bool,
}

/// The history after this decision, newest first.
pub fn history(
    before: &DeploymentStatus,
    current: &Current,
    placed: &[Placed],
    begun: Begun,
    limit: i32,
    now: Timestamp,
) -> Vec<HistoryEntry> {
    let mut history = before.history.clone();
    if current.news == News::Started || history.is_empty() {
        if let Some(old) = history.first_mut().filter(|old| old.outcome == RolloutOutcome::Progressing) {
            old.outcome = RolloutOutcome::Superseded;
            old.completed_at = Some(Time(now));
        }
        history.insert(0, entry(current));
    }
    if let Some(newest) = history.first_mut() {
        if current.news == News::Retry || begun.again {
            newest.outcome = RolloutOutcome::Progressing;
            newest.completed_at = None;
        }
        newest.failed_hosts = count(number(placed, |standing| matches!(standing, Standing::Failed(_))));
        if newest.outcome == RolloutOutcome::Progressing
            && let Some(outcome) = outcome(placed, begun.stuck)
        {
            newest.outcome = outcome;
            newest.completed_at = Some(Time(now));
        }
    }
    history.truncate(usize::try_from(limit).unwrap_or(1).max(1));
    history
}

fn entry(current: &Current) -> HistoryEntry {
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
fn outcome(placed: &[Placed], too_many_failed: bool) -> Option<RolloutOutcome> {
    let under_way = |standing: &Standing| {
        matches!(standing, Standing::InTurn { .. } | Standing::Staging | Standing::Healing { .. } | Standing::Unknown)
    };
    let to_come = |standing: &Standing| {
        matches!(standing, Standing::Pending | Standing::Unstaged | Standing::Down | Standing::Unreachable(_))
    };
    let failed = placed.iter().any(|one| matches!(one.standing, Standing::Failed(_)));
    if placed.iter().any(|one| under_way(&one.standing)) {
        return None;
    }
    let more = placed.iter().any(|one| to_come(&one.standing));
    match (failed, more) {
        (true, false) => Some(RolloutOutcome::Failed),
        (true, true) if too_many_failed => Some(RolloutOutcome::Failed),
        (false, false) => Some(RolloutOutcome::Succeeded),
        _ => None,
    }
}

/// Names of hosts that stand so, for a message.
pub fn names(placed: &[Placed], fits: impl Fn(&Standing) -> bool) -> String {
    let names: Vec<String> = placed.iter().filter(|one| fits(&one.standing)).map(|one| one.host.clone()).collect();
    some(&names)
}
