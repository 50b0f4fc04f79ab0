//! The whole next status: counts, versions, exceptions, the rollout, its history, and the one verdict.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    history::{RolloutResume, history},
    holds::Hold,
    host_state::HostState,
    observed::Observed,
    rollout::ActiveRollout,
    steps::is_target,
    strategy::rolling,
    target::parse_rollout,
    verdict,
    view::{HostView, View},
};
use crate::api::{
    Reason, Verdict,
    conditions::{clip, conditions},
    deployment::{DeploymentStatus, Phase, Rollout, RolloutCounts, RolloutException},
    hostgroup::VersionCount,
    verbs,
};

const EXCEPTIONS: usize = 100;
const MESSAGE_BYTES: usize = 500;

pub fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// What the status is computed from, beside the view.
pub struct StatusInput<'a> {
    pub hold: Option<Hold>,
    pub resume: RolloutResume,
    /// Hosts that left the selection and are not released yet.
    pub leaving: &'a [String],
    pub now: Timestamp,
}

/// The next status, and when time alone would change it.
pub fn status(view: &View<'_>, input: &StatusInput<'_>) -> (DeploymentStatus, Option<Duration>) {
    let now = input.now;
    let mut status = DeploymentStatus {
        observed_generation: view.observed.generation,
        last_handled: handled(view.observed, view.unmet.is_none()),
        hosts: counts(view),
        versions: versions(view),
        exceptions: exceptions(view, input.hold, now),
        ..view.before.clone()
    };
    let rollout = view.rollout.as_ref().map(|active| progress(view, &status, active, now));
    if let Some((active, rollout)) = view.rollout.as_ref().zip(rollout) {
        status.version = Some(rollout.version.clone());
        status.revision = parse_rollout(&rollout.id).map(|(revision, _)| revision);
        status.history = history(view, active, input.resume, now);
        status.rollout = rollout.into();
    }
    let (verdict, later) = verdict::verdict(view, &status, input.leaving, now);
    status.conditions = conditions(&view.before.conditions, view.observed.generation, now, &verdict, &[]);
    (status, later)
}

/// The status as it was, with this verdict.
pub fn status_with(observed: &Observed, verdict: &Verdict, now: Timestamp) -> DeploymentStatus {
    let before = observed.before();
    DeploymentStatus {
        observed_generation: observed.generation,
        conditions: conditions(&before.conditions, observed.generation, now, verdict, &[]),
        last_handled: handled(observed, false),
        ..before.clone()
    }
}

/// Retry and redeploy are handled once a rollout could be decided; an adopt once no host needs it any more.
fn handled(observed: &Observed, decided: bool) -> verbs::LastHandled {
    let before = &observed.before().last_handled;
    if !decided && !observed.first() {
        return before.clone();
    }
    verbs::handled(&[verbs::RETRY, verbs::REDEPLOY, verbs::ADOPT], &observed.annotations, before)
}

fn counts(view: &View<'_>) -> RolloutCounts {
    let runs_target = |host: &&HostView<'_>| {
        host.observed.running().zip(view.target.as_ref()).is_some_and(|(process, target)| is_target(process, target))
    };
    let number = |fits: fn(&HostState) -> bool| count(view.number(fits));
    RolloutCounts {
        total: count(view.hosts.len()),
        updated: count(view.hosts.iter().filter(runs_target).count()),
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
fn versions(view: &View<'_>) -> Vec<VersionCount> {
    let mut versions: BTreeMap<&str, i32> = BTreeMap::new();
    for release in view.hosts.iter().filter_map(|host| host.observed.running()?.release.as_ref()) {
        *versions.entry(release.version()).or_default() += 1;
    }
    let counts = versions.into_iter().take(EXCEPTIONS);
    counts.map(|(version, hosts)| VersionCount { version: version.to_owned(), hosts }).collect()
}

/// Every host that is not Ready, at most 100: updates first, hosts that wait last. Display only; no decision rests on it.
fn exceptions(view: &View<'_>, hold: Option<Hold>, now: Timestamp) -> Vec<RolloutException> {
    let wait = wait(hold);
    let ranked = |host| summarize(host, wait).map(|summary| (host, summary));
    let mut all: Vec<(&HostView<'_>, Summary)> = view.hosts.iter().filter_map(ranked).collect();
    all.sort_by_key(|(_, summary)| summary.rank);
    all.into_iter().take(EXCEPTIONS).map(|(host, summary)| exception(host, summary, now)).collect()
}

fn exception(host: &HostView<'_>, summary: Summary, now: Timestamp) -> RolloutException {
    let (phase, reason) = (summary.phase, summary.reason.as_str());
    let old = host.exception.filter(|old| old.phase == phase && old.reason == reason);
    let release = host.observed.running().and_then(|process| process.release.as_ref());
    RolloutException {
        host: host.name.to_owned(),
        phase,
        version: release.map(|release| release.version().to_owned()),
        reason: reason.to_string(),
        message: clip(&summary.message, MESSAGE_BYTES),
        since: old.map_or(Time(now), |old| old.since.clone()),
    }
}

/// What is said of one host.
struct Summary {
    /// Lower is said earlier.
    rank: u8,
    phase: Phase,
    reason: Reason,
    message: String,
}

/// Why a host that answers is not started.
fn wait(hold: Option<Hold>) -> (Reason, &'static str) {
    match hold {
        Some(Hold::Paused) => (Reason::Paused, "waits until spec.paused is false"),
        Some(_) => (Reason::Pending, "was not begun with: the rollout stands still"),
        None => (Reason::Pending, "waits for its turn"),
    }
}

fn summarize(host: &HostView<'_>, wait: (Reason, &str)) -> Option<Summary> {
    let summary =
        |rank, phase, reason, message: &str| Some(Summary { rank, phase, reason, message: message.to_owned() });
    match &host.state {
        HostState::Updating { phase, lost: Some(failure) } => {
            summary(0, *phase, failure.reason, &format!("lost in its turn: {}", failure.message))
        }
        HostState::Updating { phase, lost: None } => summary(0, *phase, Reason::RollingOut, doing(*phase)),
        HostState::Healing { phase } => {
            summary(1, *phase, Reason::Healing, "what was ready here ended; it is started again")
        }
        HostState::Down => {
            summary(1, Phase::Pending, Reason::Healing, "what was ready here ended; it is started again soon")
        }
        HostState::Failed(failure) => summary(2, Phase::Failed, failure.reason, &failure.message),
        HostState::Unreachable(failure) => summary(3, Phase::Unreachable, failure.reason, &failure.message),
        HostState::Staging => {
            summary(4, Phase::Staging, Reason::RollingOut, "the release is brought here and verified")
        }
        HostState::Pending => summary(5, Phase::Staged, wait.0, wait.1),
        HostState::Unknown | HostState::Unstaged => summary(5, Phase::Pending, wait.0, wait.1),
        HostState::Ready => None,
    }
}

fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Stopping => "what ran here is stopped",
        Phase::Switching => "`current` is switched to the new release",
        Phase::Starting => "the new release is started",
        _ => "the new release was started and is asked whether it is ready",
    }
}

/// The rollout with the time at which a host last passed a phase; while paused the clock stands still.
fn progress(view: &View<'_>, status: &DeploymentStatus, active: &ActiveRollout, now: Timestamp) -> Rollout {
    let phases = |status: &DeploymentStatus| -> Vec<_> {
        status.exceptions.iter().map(|entry| (entry.host.clone(), entry.phase)).collect()
    };
    let before = view.before;
    let was_paused = before.conditions.iter().any(|condition| condition.reason == Reason::Paused.as_str());
    let moved =
        before.hosts != status.hosts || phases(before) != phases(status) || was_paused && !view.observed.spec.paused;
    let mut rollout = active.rollout.clone();
    if moved {
        rollout.progressed_at = Time(now);
    }
    (rollout.batch, rollout.batches) = batches(view);
    rollout
}

/// Display only: which batch is under way, and of how many.
fn batches(view: &View<'_>) -> (i32, i32) {
    let most = rolling::max_unavailable(view);
    let batches = view.hosts.len().div_ceil(most);
    let over = view.number(|state| matches!(state, HostState::Ready | HostState::Failed(_)));
    (count((over / most + 1).min(batches)), count(batches))
}
