//! The whole next status: counts, versions, exceptions, the rollout, its history, and the one verdict.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    by_hand,
    canary::Stage,
    deletion::{self, Leaving},
    exceptions::{END_AWAITED, EXCEPTIONS, HostDisplay, count, exception, not_ready_message},
    folder::is_end_untold,
    history::{RolloutResume, history},
    holds::Hold,
    host_state::HostState,
    intent::IntentOnRecord,
    observed::Observed,
    pause,
    rollout::{ActiveRollout, RolloutChange},
    stable,
    steps::is_target,
    strategy::{min_available, rolling},
    verdict,
    view::{HostView, View},
};
use crate::api::{
    Reason, Verdict,
    conditions::{Extra, READY, conditions},
    deployment::{
        CanaryRecord, DeploymentStatus, Phase, Rollout, RolloutCounts, RolloutException, RolloutIntent, RolloutOutcome,
        StableRevision,
    },
    hostgroup::VersionCount,
    verbs,
};
use crate::model::rollout::RolloutId;

/// Input of the status, beside the view.
pub(crate) struct StatusInput<'a> {
    pub hold: Option<Hold>,
    pub resume: RolloutResume,
    /// Hosts that left the selection and are not released yet.
    pub leaving: &'a Leaving,
    /// What a person asked for with `skip-drain` is done now.
    pub skips_drain: bool,
    pub now: Timestamp,
}

/// The next status, and the delay after which time alone would change it.
pub fn status(view: &View<'_>, input: &StatusInput<'_>) -> (DeploymentStatus, Option<Duration>) {
    let now = input.now;
    let mut status = DeploymentStatus {
        observed_generation: view.observed.generation,
        last_handled: handled_verbs(view),
        hosts: counts(view),
        versions: versions(view),
        exceptions: exceptions(view, input, now),
        ..view.before.clone()
    };
    if let Some(active) = &view.rollout {
        let mut rollout = progress(view, &status.hosts, active, input.hold, now);
        status.version = Some(rollout.version.clone());
        status.revision = RolloutId::read(&rollout.id).map(|id| id.revision);
        status.history = history(view, active, input.resume, now);
        rollout.intent = intent(view, active, &status);
        status.rollout = rollout.into();
        status.wanted_hash = active.wanted_hash.clone();
    }
    if input.skips_drain {
        let annotations = &view.observed.annotations;
        status.last_handled = verbs::handled(&[verbs::SKIP_DRAIN], annotations, &status.last_handled);
    }
    let (verdict, next) = verdict::verdict(view, &status, input.leaving, input.hold, now);
    let extras: Vec<Extra> = awaiting_promotion(view, input.hold).into_iter().collect();
    status.conditions = conditions(&view.before.conditions, view.observed.generation, now, &verdict, &extras);
    (status, next)
}

/// A condition of its own, which a person or a program waits for.
fn awaiting_promotion(view: &View<'_>, hold: Option<Hold>) -> Option<Extra> {
    (hold == Some(Hold::AwaitingPromotion)).then(|| Extra {
        kind: Reason::AwaitingPromotion.as_str(),
        status: Some(true),
        reason: Reason::AwaitingPromotion,
        message: verdict::awaiting_promotion(view),
    })
}

/// The canary for the record. What is stable has nobody wait any more, also where the canary had left the spec before.
fn canary_record(view: &View<'_>) -> Option<CanaryRecord> {
    let record = view.canary.record.clone()?;
    Some(CanaryRecord { promoted: record.promoted || is_stable(view), ..record })
}

/// The rollout is ready on all hosts that answer, most of all, no update is open, and its canary lets all have it. A machine that is dead for
/// weeks must not keep an ancient version the stable one, nor take the others back when it returns and fails.
fn is_stable(view: &View<'_>) -> bool {
    let ready = view.number(|state| *state == HostState::Ready);
    let silent = view.number(|state| matches!(state, HostState::Unreachable(_)));
    ready > silent && ready + silent == view.hosts.len() && view.unmet.is_none() && view.canary.stage == Stage::Over
}

/// What is ready on all hosts that answer now, else what last was.
fn stable_revision(view: &View<'_>, active: &ActiveRollout) -> Option<StableRevision> {
    match RolloutId::read(&active.rollout.id).filter(|_| is_stable(view)) {
        Some(RolloutId { revision, .. }) => {
            let Rollout { hash, version, .. } = active.rollout.clone();
            Some(StableRevision { revision, hash, version })
        }
        None => stable::on_record(view.before).cloned(),
    }
}

/// Intent: what the next decision rests on, complete. `None` while it is missing and can't be restored from the hosts.
fn intent(view: &View<'_>, active: &ActiveRollout, status: &DeploymentStatus) -> Option<RolloutIntent> {
    if !view.possibly_updating().is_empty() {
        return None;
    }
    let updating = view.hosts.iter().filter(|host| matches!(host.state, HostState::Updating { .. }));
    let mut updating: Vec<String> = updating.map(|host| host.name.to_owned()).collect();
    // Hosts out of service or not checked yet stay in their update.
    if let IntentOnRecord::Recorded { updating: before, .. } = &active.intent {
        let suspended = view.targets.suspended.iter().map(|(host, _)| host.name.as_str());
        let unknown = view.hosts.iter().filter(|host| host.state == HostState::Unknown).map(|host| host.name);
        updating.extend(suspended.chain(unknown).filter(|name| before.contains(*name)).map(str::to_owned));
    }
    updating.sort_unstable();
    let failed = status.history.first().is_some_and(|entry| entry.outcome == RolloutOutcome::Failed);
    let aborted = active.aborted && has_not_reached_its_end(status);
    let (redeploys, by_hand) = (active.redeploys.clone(), view.by_hand.clone());
    let (skip_drain, ahead) = (active.skip_drain.clone(), view.targets.ahead.clone());
    let batch_ended_at = view.batch_end.at.filter(|_| updating.is_empty()).map(Time);
    let returned_from = active.record.returned_from.clone();
    let (canary, stable) = (canary_record(view), stable_revision(view, active));
    Some(RolloutIntent {
        updating,
        failed,
        aborted,
        batch_ended_at,
        canary,
        stable,
        returned_from,
        redeploys,
        by_hand,
        skip_drain,
        ahead,
    })
}

/// The hosts that were under way when it was aborted are not all that there are: else it is a rollout as any other.
fn has_not_reached_its_end(status: &DeploymentStatus) -> bool {
    let outcome = status.history.first().map(|entry| entry.outcome);
    matches!(outcome, Some(RolloutOutcome::Progressing | RolloutOutcome::Aborted))
}

/// The status as it was, with this verdict.
pub(crate) fn status_with(observed: &Observed, verdict: &Verdict, now: Timestamp) -> DeploymentStatus {
    let before = observed.before();
    DeploymentStatus {
        observed_generation: observed.generation,
        conditions: conditions(&before.conditions, observed.generation, now, verdict, &[]),
        last_handled: handled(observed, false),
        ..before.clone()
    }
}

/// Retry, redeploy, abort and promote are handled once a rollout could be decided; an adopt once no host needs it.
fn handled(observed: &Observed, decided: bool) -> verbs::LastHandled {
    let before = &observed.before().last_handled;
    if !decided && !observed.is_first_decision() {
        return before.clone();
    }
    let all = [verbs::RETRY, verbs::REDEPLOY, verbs::ADOPT, verbs::ADOPT_ALL, verbs::ABORT, verbs::PROMOTE];
    verbs::handled(&all, &observed.annotations, before)
}

/// The same, with `skip-drain`, which is for the retry that follows it: it waits for that.
fn handled_verbs(view: &View<'_>) -> verbs::LastHandled {
    let handled = handled(view.observed, view.unmet.is_none());
    let is_used = view.rollout.as_ref().is_some_and(|active| active.change != RolloutChange::Same);
    match view.unmet.is_none() && is_used || view.observed.is_first_decision() {
        true => verbs::handled(&[verbs::SKIP_DRAIN], &view.observed.annotations, &handled),
        false => handled,
    }
}

fn counts(view: &View<'_>) -> RolloutCounts {
    let runs_target = |host: &&HostView<'_>| {
        host.observed.running().zip(host.target.as_deref()).is_some_and(|(process, target)| is_target(process, target))
    };
    let number = |fits: fn(&HostState) -> bool| count(view.number(fits));
    RolloutCounts {
        total: count(view.hosts.len()),
        updated: count(machines(view).filter(runs_target).count()),
        ready: number(|state| *state == HostState::Ready),
        failed: number(|state| matches!(state, HostState::Failed(_))),
        unreachable: number(|state| {
            matches!(state, HostState::Unreachable(_) | HostState::Updating { lost: Some(_), .. })
        }),
        pending: number(|state| {
            matches!(
                state,
                HostState::Pending
                    | HostState::Unstaged
                    | HostState::Slow(_)
                    | HostState::Staging
                    | HostState::Unknown
                    | HostState::UnmetPin(_)
                    | HostState::Refused(_)
            )
        }),
        skipped: count(view.targets.suspended.len()),
        pinned: count(view.hosts.iter().filter(|host| host.is_pinned).count()),
    }
}

/// The selected hosts without second names of a machine, whose process would be counted twice.
fn machines<'a>(view: &'a View<'_>) -> impl Iterator<Item = &'a HostView<'a>> {
    let is_second = |host: &HostView<'_>| match &host.state {
        HostState::Refused(failure) => failure.reason == Reason::DuplicateAddress,
        _ => false,
    };
    view.hosts.iter().filter(move |host| !is_second(host))
}

/// Number of selected hosts for each version that runs, by the facts of hosts.
fn versions(view: &View<'_>) -> Vec<VersionCount> {
    let mut versions: BTreeMap<&str, i32> = BTreeMap::new();
    for release in machines(view).filter_map(|host| host.observed.running()?.release.as_ref()) {
        *versions.entry(release.version()).or_default() += 1;
    }
    let counts = versions.into_iter().take(EXCEPTIONS);
    counts.map(|(version, hosts)| VersionCount { version: version.to_owned(), hosts }).collect()
}

/// Every host that is not Ready, and those that can't be given up, at most 100: updates first, hosts out of service last. Display only; no decision rests on it.
fn exceptions(view: &View<'_>, input: &StatusInput<'_>, now: Timestamp) -> Vec<RolloutException> {
    let wait_reason = wait_reason(view, input.hold);
    let behind_canary = (Reason::Pending, "waits until the canary is promoted".to_owned());
    let in_service = view.hosts.iter().filter_map(|host| {
        let is_behind = input.hold.is_none() && !view.canary.allows(host.name);
        Some((host.name, summarize(host, if is_behind { &behind_canary } else { &wait_reason })?))
    });
    let suspended = view.targets.suspended.iter().map(|(host, why)| {
        let (rank, phase, reason) = (6, Phase::Skipped, Reason::HostSuspended);
        (host.name.as_str(), Summary { rank, phase, reason, message: why.clone() })
    });
    let given_up = input.leaving.hosts.iter().filter_map(|host| {
        let failure = deletion::failed_tries(view.observed, host)?.failure.clone();
        let (rank, phase, reason) = (2, Phase::Pending, failure.reason);
        let act = deletion::act(view.observed);
        let message = format!("no longer selected; {act} failed: {}", failure.message);
        Some((host.as_str(), Summary { rank, phase, reason, message }))
    });
    let mut all: Vec<(&str, Summary)> = in_service.chain(given_up).chain(suspended).collect();
    all.sort_by_key(|(_, summary)| summary.rank);
    let entry = |(host, summary): (&str, Summary)| {
        let display = HostDisplay { phase: summary.phase, reason: summary.reason, message: &summary.message };
        exception(view.observed, view.exceptions.get(host).copied(), host, &display, now)
    };
    all.into_iter().take(EXCEPTIONS).map(entry).collect()
}

/// Display of one host, with its rank in the list.
struct Summary {
    /// Lower comes earlier.
    rank: u8,
    phase: Phase,
    reason: Reason,
    message: String,
}

/// Why a host that answers is not updated.
fn wait_reason(view: &View<'_>, hold: Option<Hold>) -> (Reason, String) {
    let (reason, text) = match hold {
        Some(Hold::Aborted) => (Reason::Aborted, "not started: the rollout was aborted"),
        Some(Hold::Paused) => return (Reason::Paused, format!("waits {}", pause::until(view.observed))),
        Some(Hold::Unmet) => (Reason::Pending, "not started: the spec can't be met"),
        Some(Hold::StatusUnreadable) => (Reason::StatusUnreadable, "not started: the status can't be read"),
        Some(Hold::CanaryUnmet) => (Reason::Pending, "not started: no host can be the canary"),
        Some(Hold::BatchPause) => (Reason::BatchPause, "waits for the next batch"),
        Some(Hold::AwaitingPromotion) => (Reason::AwaitingPromotion, "waits until the canary is promoted"),
        Some(Hold::TooManyFailed | Hold::StillFailed) => (Reason::Pending, "not started: the rollout is halted"),
        Some(Hold::TooFewAvailable) => {
            (Reason::TooFewAvailable, "waits for its update: spec.minAvailable of the HostGroup leaves no room")
        }
        None if rolling::is_held_back(view) => {
            (Reason::Pending, "waits for its update: maxUnavailable is used up by unavailable hosts")
        }
        None => (Reason::Pending, "waits for its update"),
    };
    (reason, text.to_owned())
}

fn summarize(host: &HostView<'_>, wait_reason: &(Reason, String)) -> Option<Summary> {
    let summary =
        |rank, phase, reason, message: &str| Some(Summary { rank, phase, reason, message: message.to_owned() });
    match &host.state {
        HostState::Updating { phase, lost: Some(failure) } => {
            summary(0, *phase, failure.reason, &format!("lost in its update: {}", failure.message))
        }
        HostState::Updating { phase, lost: None } => summary(0, *phase, Reason::RollingOut, update_message(*phase)),
        HostState::Healing { phase } => summary(1, *phase, Reason::Healing, &healing_message(host, "is started again")),
        HostState::Down => summary(1, Phase::Pending, Reason::Healing, &healing_message(host, "will be started again")),
        HostState::NotReady(why) => summary(1, host.state.phase(), Reason::NotReady, &not_ready_message(why)),
        HostState::Failed(failure) if host.down_and_failed => {
            let message = format!("{}; {}", failure.message, healing_message(host, "is started again"));
            summary(2, Phase::Failed, failure.reason, &message)
        }
        HostState::Failed(failure) => match last_by_hand(host) {
            Some(act) => summary(
                2,
                Phase::Failed,
                failure.reason,
                &format!("changed by hand: {act}. Its update failed: {}", failure.message),
            ),
            None => summary(2, Phase::Failed, failure.reason, &failure.message),
        },
        HostState::ByHand { .. } => summary(2, Phase::Pending, Reason::ChangedByHand, &by_hand_message(host)),
        HostState::Refused(failure) | HostState::UnmetPin(failure) => {
            summary(2, Phase::Pending, failure.reason, &failure.message)
        }
        HostState::Unreachable(failure) => summary(3, Phase::Unreachable, failure.reason, &failure.message),
        HostState::Slow(failure) => summary(4, host.state.phase(), failure.reason, &failure.message),
        HostState::Staging => summary(4, Phase::Staging, Reason::RollingOut, "uploading and verifying the release"),
        HostState::Pending => summary(5, Phase::Staged, wait_reason.0, &wait_reason.1),
        HostState::Unknown | HostState::Unstaged => summary(5, Phase::Pending, wait_reason.0, &wait_reason.1),
        HostState::Ready => None,
    }
}

/// A process that ended, and the failure of the last start for healing.
fn healing_message(host: &HostView<'_>, doing: &str) -> String {
    match &host.observed.heal_failure {
        Some(failure) => {
            format!("the process ended and {doing}; the last try: {} ({})", failure.reason, failure.message)
        }
        None => {
            let untold = host.observed.view().is_some_and(|view| is_end_untold(&view.folder, &view.boot_id));
            format!("the process ended and {doing}{}", if untold { END_AWAITED } else { "" })
        }
    }
}

/// What a person did there, and what runs there now.
fn by_hand_message(host: &HostView<'_>) -> String {
    let act = last_by_hand(host).unwrap_or_default();
    let runs = match host.observed.running().map(|process| process.release.as_ref()) {
        Some(Some(release)) => format!("{} runs there", release.version()),
        Some(None) => "it runs".to_owned(),
        None => "nothing runs there".to_owned(),
    };
    let left = match host.observed.view().is_some_and(|view| by_hand::is_under_way(&view.folder)) {
        true => "and the act is under way",
        false => "and it is left so until a new version or a redeploy is asked for",
    };
    format!("changed by hand on the host: {act}; {runs}, {left}")
}

fn last_by_hand(host: &HostView<'_>) -> Option<String> {
    host.observed.view()?.folder.by_hand.as_ref().map(by_hand::words)
}

fn update_message(phase: Phase) -> &'static str {
    match phase {
        Phase::Stopping => "stopping what runs",
        Phase::Switching => "switching `current` to the new release",
        Phase::Starting => "starting the new release",
        _ => "started; waiting until it is ready",
    }
}

/// The rollout with the time at which a host last passed a phase; the clock stops while paused, while the canary waits for its promotion,
/// and while `minAvailable` holds it for updates of others. It rests on the phases of all hosts, not on `exceptions`, which are cut.
fn progress(
    view: &View<'_>,
    counts: &RolloutCounts,
    active: &ActiveRollout,
    hold: Option<Hold>,
    now: Timestamp,
) -> Rollout {
    let mut rollout = active.rollout.clone();
    let phases = phases(view, rollout.attempt, hold, now);
    let moved = match rollout.phases.is_empty() {
        // A new rollout, or one of a version that recorded no phases.
        true => view.before.hosts != *counts,
        false if is_unsteady(view, now) => with_unready(&rollout.phases) != with_unready(&phases),
        false => rollout.phases != phases,
    };
    let was_paused = view.before.conditions.iter().any(|condition| condition.reason == Reason::Paused.as_str());
    if moved || was_paused && !pause::is_paused(view.observed) {
        rollout.progressed_at = Time(now);
    }
    rollout.phases = phases;
    (rollout.batch, rollout.batches) = batches(view);
    rollout
}

/// How long all hosts have to be ready again until a failing probe is a new trouble.
const STEADY_AFTER: i64 = 600;

/// Not all hosts are ready, or they are again for less than ten minutes: a probe that fails and passes in turns is no progress.
fn is_unsteady(view: &View<'_>, now: Timestamp) -> bool {
    let Some(ready) = view.before.conditions.iter().find(|condition| condition.type_ == READY) else { return true };
    let completed = view.before.history.first().and_then(|entry| entry.completed_at.as_ref());
    let since = ready.last_transition_time.0;
    let again = completed.is_some_and(|at| since > at.0) && now.duration_since(since).as_secs() < STEADY_AFTER;
    ready.status != "True" || again
}

/// A host that is not ready any more counts with those that are.
fn with_unready(phases: &BTreeMap<String, i32>) -> BTreeMap<String, i32> {
    let mut phases = phases.clone();
    if let Some(hosts) = phases.remove(Reason::NotReady.as_str()) {
        *phases.entry(format!("{:?}", Phase::Ready)).or_default() += hosts;
    }
    phases
}

/// Number of hosts in each phase. A host whose process ended is in `Healing`, from try to try, until the process has lived for ten minutes:
/// one that ends again and again is no progress. Those that wait in a hold in which the clock stands still have its name, so that its end is
/// progress.
fn phases(view: &View<'_>, attempt: i64, hold: Option<Hold>, now: Timestamp) -> BTreeMap<String, i32> {
    let held = match hold {
        Some(Hold::AwaitingPromotion) => Some(Reason::AwaitingPromotion),
        Some(Hold::BatchPause) => Some(Reason::BatchPause),
        Some(Hold::TooFewAvailable) => {
            let for_others = min_available::limit(view).is_some_and(|limit| !limit.waits_for_person());
            for_others.then_some(Reason::TooFewAvailable)
        }
        _ => None,
    };
    let mut phases = BTreeMap::new();
    for host in &view.hosts {
        let recently = host.observed.healing.is_some_and(|healing| healing.counts(attempt, now));
        let phase = match (&host.state, held) {
            (HostState::Down | HostState::Healing { .. }, _) => Reason::Healing.to_string(),
            (HostState::NotReady(_), _) => Reason::NotReady.to_string(),
            (HostState::Pending, Some(reason)) => reason.to_string(),
            (HostState::Ready | HostState::Pending, _) if recently => Reason::Healing.to_string(),
            (state, _) => format!("{:?}", state.phase()),
        };
        *phases.entry(phase).or_default() += 1;
    }
    phases
}

/// Display only: number of the batch under way, and of batches.
fn batches(view: &View<'_>) -> (i32, i32) {
    let most = rolling::max_unavailable(view);
    let batches = view.hosts.len().div_ceil(most);
    let over = view.number(|state| matches!(state, HostState::Ready | HostState::Failed(_)));
    (count((over / most + 1).min(batches)), count(batches))
}
