//! Events: a rollout begins or ends; a host fails, is healed, is lost or leaves the group.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{
    abort, by_hand,
    canary::Stage,
    drain,
    exceptions::{END_AWAITED, EXCEPTIONS, not_ready_message},
    folder::{is_down, is_end_untold, is_kept},
    history::failed_before,
    host_state::HostState,
    intent::IntentOnRecord,
    observed::Observed,
    rollback,
    rollout::RolloutChange,
    stamp::{self, Stamp},
    view::{HostView, View},
};
use crate::{
    api::{
        Reason,
        conditions::{MESSAGE_BYTES, READY, STALLED, clip},
        deployment::{DeploymentStatus, HistoryChange, Phase, RolloutException, RolloutOutcome},
        verbs,
    },
    model::{Failure, rollout::HostFailure},
    plan::{
        EventDraft, HostEvent, NEW_VALUE, count_hosts, host_events, list_names,
        requester::{clause, of_verb},
    },
};

/// Of how a process ended, in an event.
const END_BYTES: usize = 500;

pub fn events(view: &View<'_>, after: &DeploymentStatus) -> Vec<EventDraft> {
    let mut events = Vec::new();
    events.extend(view.unmet.iter().flat_map(|failure| unmet(view.observed, failure, after)));
    events.extend(started(view));
    events.extend(drain_skipped(view));
    events.extend(nothing_to_retry(view));
    events.extend(aborted(view));
    events.extend(promoted(view));
    events.extend(awaiting_promotion(view, after));
    events.extend(finished(view, after));
    events.extend(failed_hosts(view));
    events.extend(failed_before_return(view));
    events.extend(by_hand(view));
    events.extend(healing(view));
    events.extend(heal_failures(view));
    events.extend(not_ready(view));
    events.extend(ready_again(view));
    events.extend(unreachable(view));
    events.extend(set_aside(view));
    events.extend(too_few_available(view, after));
    events.extend(deadline(view, after).filter(|_| view.unmet.is_none()));
    events.extend(unlisted(view));
    events
}

/// The spec can't be met, for a cause that the status did not name before: another reason, or the same of another subject. And a deadline
/// of what is waited for passes.
pub(crate) fn unmet(observed: &Observed, failure: &Failure, after: &DeploymentStatus) -> Vec<EventDraft> {
    let before = observed.before();
    let names_it = |condition: &Condition| {
        condition.reason == failure.reason.as_str()
            && condition.message.starts_with(&clip(&failure.message, MESSAGE_BYTES))
    };
    let mut events = Vec::new();
    if !before.conditions.iter().any(names_it) {
        events.push(EventDraft::warning(failure.reason, "Plan", &failure.message));
    }
    let stalled = |status: &DeploymentStatus| {
        let fits = |one: &&Condition| one.type_ == STALLED && one.reason == failure.reason.as_str();
        status.conditions.iter().find(fits).map(|condition| condition.message.clone())
    };
    let passed = stalled(after).filter(|_| !failure.is_terminal() && stalled(before).is_none());
    events.extend(passed.map(|message| EventDraft::warning(Reason::ProgressDeadlineExceeded, "Plan", message)));
    events
}

/// Hosts that fit now and did not fit in the status before: of all hosts, not of those that the list for people has room for. Where that
/// list was cut before it came to such hosts, its silence about one tells nothing, and no event is made of it.
fn newly<'a>(
    view: &'a View<'_>,
    fits: impl Fn(&HostState) -> bool,
    was_so: impl Fn(&RolloutException) -> bool,
    come_later: impl Fn(&RolloutException) -> bool,
) -> Vec<&'a HostView<'a>> {
    let listed_whole = match view.before.exceptions.last() {
        Some(last) if view.before.exceptions.len() >= EXCEPTIONS => come_later(last),
        _ => true,
    };
    let is_new = |host: &&HostView<'_>| match view.exceptions.get(host.name) {
        Some(old) => !was_so(old),
        // What is on record of updates is whole.
        None => listed_whole || was_in_update(view, host.name),
    };
    view.hosts.iter().filter(|host| fits(&host.state)).filter(is_new).collect()
}

fn was_in_update(view: &View<'_>, host: &str) -> bool {
    let intent = view.before.intent();
    intent.is_some_and(|intent| intent.updating.iter().any(|name| name == host))
}

/// Entries that the list has behind those of failed hosts.
fn after_failed(entry: &RolloutException) -> bool {
    matches!(entry.phase, Phase::Unreachable | Phase::Staging | Phase::Staged | Phase::Skipped)
}

fn after_unreachable(entry: &RolloutException) -> bool {
    after_failed(entry) && entry.phase != Phase::Unreachable
}

/// Entries behind those of hosts that are healed.
fn after_healing(entry: &RolloutException) -> bool {
    entry.phase == Phase::Failed || after_failed(entry)
}

/// It is healed, and its event was told: one of an end that nobody could describe yet waits for the description.
fn is_healing(entry: &RolloutException) -> bool {
    entry.reason == Reason::Healing.as_str() && !is_end_awaited(entry)
}

fn is_end_awaited(entry: &RolloutException) -> bool {
    entry.reason == Reason::Healing.as_str() && entry.message.contains(END_AWAITED)
}

/// What people did on hosts, past the operator.
fn by_hand(view: &View<'_>) -> Vec<EventDraft> {
    let news = by_hand::news(view.observed, &view.by_hand);
    host_events(&news, |reason, note| EventDraft::warning(reason, "ByHand", note), "acts by hand on these hosts")
}

/// How the process ended, where its keeper saw it and starts it again, or its status command told.
fn end(host: &HostView<'_>) -> Option<String> {
    let view = host.observed.view()?;
    let process = view.folder.process.as_ref().filter(|process| process.boot_id == view.boot_id)?;
    (is_kept(&view.folder) || is_down(&view.folder) || is_ready_again(host))
        .then(|| process.end.as_ref().map(|end| clip(&end.text, END_BYTES)))?
}

fn is_ready_again(host: &HostView<'_>) -> bool {
    matches!(host.state, HostState::Ready | HostState::NotReady(_))
}

/// Processes that ended and are started again; a reboot of the host is named as the cause.
fn healing(view: &View<'_>) -> Vec<EventDraft> {
    let rebooted = |host: &str| {
        let facts = view.observed.host(host).view();
        let process = facts.and_then(|facts| facts.folder.process.as_ref());
        facts.zip(process).is_some_and(|(facts, process)| facts.boot_id != process.boot_id)
    };
    let is_healed = |state: &HostState| matches!(state, HostState::Healing { .. } | HostState::Down);
    let mut hosts = newly(view, is_healed, is_healing, after_healing);
    // It may be ready again before its keeper's word of the end came.
    let was_awaited = |host: &&HostView<'_>| view.exceptions.get(host.name).is_some_and(|old| is_end_awaited(old));
    hosts.extend(view.hosts.iter().filter(|host| is_ready_again(host)).filter(was_awaited));
    // The list for people remembers whose end is awaited. Hosts that it has no room for are told at once.
    let mut awaited = 0;
    hosts.retain(|host| {
        let is_untold = host.observed.view().is_some_and(|view| is_end_untold(&view.folder, &view.boot_id));
        awaited += usize::from(is_untold);
        !is_untold || awaited > EXCEPTIONS
    });
    let (rebooted, ended): (Vec<_>, Vec<_>) = hosts.into_iter().partition(|host| rebooted(host.name));
    let events = |hosts: Vec<&HostView<'_>>, action, what: &str| {
        let message = format!("{what}; what ran there is started again");
        let event = |host: &HostView<'_>| {
            let message = match end(host) {
                Some(end) => format!("{what}: it {end}; what ran there is started again"),
                None => message.clone(),
            };
            HostEvent { host: host.name.to_owned(), reason: Reason::Healing, message }
        };
        let events: Vec<_> = hosts.into_iter().map(event).collect();
        host_events(&events, |reason, note| EventDraft::warning(reason, action, note), &message)
    };
    let mut all = events(rebooted, "HealAfterReboot", "the host rebooted");
    all.extend(events(ended, "Heal", "the process ended"));
    all
}

/// A start for healing failed: the status says that it was under way, and its task is over.
fn heal_failures(view: &View<'_>) -> Vec<EventDraft> {
    let was_told = |host: &HostView<'_>| match view.exceptions.get(host.name) {
        Some(old) => is_healing(old) && old.phase == Phase::Pending,
        None => view.before.exceptions.len() >= EXCEPTIONS,
    };
    let is_over = |host: &&HostView<'_>| {
        let healed = matches!(host.state, HostState::Healing { .. } | HostState::Down);
        healed && host.observed.task.is_none() && !was_told(host)
    };
    let failed = view.hosts.iter().filter(is_over);
    let event = |host: &HostView<'_>| {
        let failure = host.observed.heal_failure.as_ref()?;
        let message = format!("not started again: {}; tried again later", failure.message);
        Some(HostEvent { host: host.name.to_owned(), reason: failure.reason, message })
    };
    let events: Vec<_> = failed.filter_map(event).collect();
    host_events(
        &events,
        |reason, note| EventDraft::warning(reason, "Heal", note),
        "not started again; tried again later",
    )
}

/// Hosts whose readiness probe fails, which had been ready.
fn not_ready(view: &View<'_>) -> Vec<EventDraft> {
    let hosts = newly(view, |state| matches!(state, HostState::NotReady(_)), was_not_ready, after_healing);
    let event = |host: &HostView<'_>| match &host.state {
        HostState::NotReady(why) => {
            Some(HostEvent { host: host.name.to_owned(), reason: Reason::NotReady, message: not_ready_message(why) })
        }
        _ => None,
    };
    let events: Vec<_> = hosts.into_iter().filter_map(event).collect();
    let others = "the process runs, and its readiness probe fails";
    host_events(&events, |reason, note| EventDraft::warning(reason, "Probe", note), others)
}

/// Hosts that the status shows with a failing probe, and that are ready now.
fn ready_again(view: &View<'_>) -> Vec<EventDraft> {
    let was = |host: &&HostView<'_>| view.exceptions.get(host.name).is_some_and(|old| was_not_ready(old));
    let message = "ready again";
    let event = |host: &HostView<'_>| HostEvent {
        host: host.name.to_owned(),
        reason: Reason::ReadyAgain,
        message: message.to_owned(),
    };
    let ready = view.hosts.iter().filter(|host| host.state == HostState::Ready);
    let events: Vec<_> = ready.filter(was).map(event).collect();
    host_events(&events, |reason, note| EventDraft::normal(reason, "Probe", note), message)
}

/// A failed update has this reason as well, in another phase.
fn was_not_ready(entry: &RolloutException) -> bool {
    entry.reason == Reason::NotReady.as_str() && entry.phase == Phase::Verifying
}

fn unreachable(view: &View<'_>) -> Vec<EventDraft> {
    let is_lost = |state: &HostState| matches!(state, HostState::Unreachable(_));
    let lost = newly(view, is_lost, |old| old.phase == Phase::Unreachable, after_unreachable);
    let event = |host: &HostView<'_>| match &host.state {
        HostState::Unreachable(failure) => {
            let message = format!("no answer: {}", failure.message);
            Some(HostEvent { host: host.name.to_owned(), reason: Reason::HostsUnreachable, message })
        }
        _ => None,
    };
    let events: Vec<_> = lost.into_iter().filter_map(event).collect();
    host_events(&events, |reason, note| EventDraft::warning(reason, "Probe", note), "no answer")
}

/// Hosts that the others do not wait for: their line is too slow, another state of this control plane acted there, or their pinned version
/// can't be deployed.
fn set_aside(view: &View<'_>) -> Vec<EventDraft> {
    let reasons = [
        Reason::UploadTooSlow,
        Reason::FencedByOtherControlPlane,
        Reason::HostsAhead,
        Reason::VersionNotFound,
        Reason::VersionRemoved,
        Reason::UserNotAllowed,
        Reason::HostUnsupported,
    ]
    .map(Reason::as_str);
    let is_aside = |state: &HostState| match state {
        HostState::Refused(_) => view.unmet.is_none(),
        HostState::Slow(_) | HostState::UnmetPin(_) => true,
        _ => false,
    };
    let aside = newly(view, is_aside, |old| reasons.contains(&old.reason.as_str()), after_failed);
    let event = |host: &HostView<'_>| match &host.state {
        HostState::Refused(failure) | HostState::Slow(failure) | HostState::UnmetPin(failure) => {
            Some(HostEvent { host: host.name.to_owned(), reason: failure.reason, message: failure.message.clone() })
        }
        _ => None,
    };
    let events: Vec<_> = aside.into_iter().filter_map(event).collect();
    host_events(&events, |reason, note| EventDraft::warning(reason, "Plan", note), "set aside")
}

/// No host has passed a phase for `progressDeadlineSeconds`.
fn deadline(view: &View<'_>, after: &DeploymentStatus) -> Option<EventDraft> {
    let reasons = [
        Reason::ProgressDeadlineExceeded,
        Reason::HostsUnreachable,
        Reason::UploadTooSlow,
        Reason::Healing,
        Reason::HostsNotReady,
        Reason::ChangedByHand,
        Reason::TooFewAvailable,
    ]
    .map(Reason::as_str);
    let stalled = |status: &DeploymentStatus| {
        let condition = status.conditions.iter().find(|condition| condition.type_ == STALLED)?;
        // Failed hosts within `maxFailures`, in a rollout that is not over: its deadline has passed.
        let progresses = status.history.first().is_some_and(|entry| entry.outcome == RolloutOutcome::Progressing);
        let fits = reasons.contains(&condition.reason.as_str())
            || progresses && condition.reason == Reason::HostsFailed.as_str();
        fits.then(|| condition.message.clone())
    };
    let message = stalled(after).filter(|_| stalled(view.before).is_none())?;
    Some(EventDraft::warning(Reason::ProgressDeadlineExceeded, "Rollout", message))
}

/// `minAvailable` of the group begins to hold the rollout.
fn too_few_available(view: &View<'_>, after: &DeploymentStatus) -> Option<EventDraft> {
    let ready = after.conditions.iter().find(|condition| condition.type_ == READY)?;
    if view.before.conditions.iter().any(|condition| condition.reason == ready.reason) {
        return None;
    }
    let is = |reason: Reason| ready.reason == reason.as_str();
    if is(Reason::MinAvailableTooHigh) {
        return Some(EventDraft::warning(Reason::MinAvailableTooHigh, "Rollout", &ready.message));
    }
    is(Reason::TooFewAvailable).then(|| EventDraft::normal(Reason::TooFewAvailable, "Rollout", &ready.message))
}

fn started(view: &View<'_>) -> Option<EventDraft> {
    let active = view.rollout.as_ref()?;
    let (id, version) = (&active.rollout.id, &active.rollout.version);
    match active.change {
        RolloutChange::Started(change) => {
            if let Some(from) = &active.record.returned_from {
                let failed = rollback::failed(view.observed, from);
                let note = format!(
                    "rollout {id} of {version} on {}: {failed}, and is taken back",
                    count_hosts(view.hosts.len())
                );
                return Some(EventDraft::warning(Reason::RolledBack, "RollBack", note));
            }
            let why = match change {
                HistoryChange::Version | HistoryChange::VersionAndEnvironment | HistoryChange::RollBack => "",
                HistoryChange::Environment => ": the environment changed",
                HistoryChange::Pins => ": the pinned hosts changed",
                HistoryChange::Redeploy => ": redeploy",
                HistoryChange::Adopt => ": adopted",
            };
            let by = clause(active.rollout.requested_by.as_deref());
            let note = format!("rollout {id} of {version} on {}{why}{by}", count_hosts(view.hosts.len()));
            Some(EventDraft::normal(Reason::RolloutStarted, "Rollout", note))
        }
        RolloutChange::Retry => {
            let by = clause(of_verb(verbs::RETRY, &view.observed.annotations).as_deref());
            let note = format!("attempt {} of rollout {id} of {version}{by}", active.rollout.attempt);
            Some(EventDraft::normal(Reason::RolloutStarted, "Retry", note))
        }
        RolloutChange::Same => None,
    }
}

/// Hosts that a person has updated without their drain, told with the retry that does it.
fn drain_skipped(view: &View<'_>) -> Option<EventDraft> {
    let active = view.rollout.as_ref().filter(|active| active.change == RolloutChange::Retry)?;
    let reason = active.skip_drain.as_ref()?;
    let hosts = view.hosts.iter().filter(|host| drain::skipped(view, host).is_some());
    let hosts: Vec<&str> = hosts.map(|host| host.name).collect();
    let on = if hosts.is_empty() { "no host, for no drain failed".to_owned() } else { list_names(&hosts) };
    let note = format!(
        "landfall.dev/skip-drain: attempt {} stops what runs without its drain on {on}: {reason}",
        active.rollout.attempt
    );
    Some(EventDraft::warning(Reason::DrainSkipped, "Retry", note))
}

/// A retry that finds nothing to try again is handled all the same, and says so.
fn nothing_to_retry(view: &View<'_>) -> Option<EventDraft> {
    let active = view.rollout.as_ref().filter(|active| active.change == RolloutChange::Same)?;
    let (annotations, handled) = (&view.observed.annotations, &view.before.last_handled);
    let asked = verbs::asked(verbs::RETRY, annotations, handled, view.observed.is_first_decision()).is_some();
    if !asked || view.unmet.is_some() || active.intent == IntentOnRecord::Missing {
        return None;
    }
    let note = format!(
        "landfall.dev/retry: nothing to retry, no host failed in attempt {} of rollout {}. {}",
        active.rollout.attempt,
        active.rollout.id,
        rollback::redeploy_command(
            view.observed,
            Some(&active.record),
            &format!("To deploy {} again on all hosts", active.rollout.version)
        )
    );
    Some(EventDraft::normal(Reason::NothingToRetry, "Retry", note))
}

/// A person aborts the rollout; or asked for it of another one, which is said with the value that would.
fn aborted(view: &View<'_>) -> Option<EventDraft> {
    let active = view.rollout.as_ref().filter(|_| view.unmet.is_none())?;
    let (id, attempt, version) = (&active.rollout.id, active.rollout.attempt, &active.rollout.version);
    let verb = verbs::ABORT;
    let note = match Stamp::of(view.observed, verb, &active.rollout) {
        Stamp::Nothing => return None,
        Stamp::Fits if abort::is_asked(view.observed, &active.rollout) => {
            let under_way = view.names(|state| matches!(state, HostState::Updating { .. }));
            let under_way = if under_way.is_empty() { "none".to_owned() } else { under_way };
            let note = format!(
                "attempt {attempt} of rollout {id} of {version} is aborted; hosts under way, which finish: {under_way}"
            );
            return Some(EventDraft::normal(Reason::Aborted, "Abort", note));
        }
        Stamp::Fits => {
            format!("{verb}: attempt {attempt} of rollout {id} of {version} has ended already; nothing is aborted")
        }
        Stamp::Other(value) => format!(
            "{verb}: {value} is not the current rollout and attempt; nothing is aborted. To abort the current one, of {version}: {}",
            view.observed.verb_command(verb, &stamp::wanted(&active.rollout))
        ),
    };
    Some(EventDraft::warning(Reason::VerbRefused, "Abort", note))
}

/// All other hosts follow the canary from now on; or a person asked for it where nothing is to be promoted, or of another rollout.
fn promoted(view: &View<'_>) -> Option<EventDraft> {
    let active = view.rollout.as_ref().filter(|_| view.unmet.is_none())?;
    let (id, attempt, version) = (&active.rollout.id, active.rollout.attempt, &active.rollout.version);
    let intent = view.before.intent();
    let had_been = intent.and_then(|intent| intent.canary.as_ref()).is_some_and(|canary| canary.promoted);
    let is_now = view.canary.record.as_ref().filter(|canary| canary.promoted && !had_been && !canary.hosts.is_empty());
    let verb = verbs::PROMOTE;
    let asked = Stamp::of(view.observed, verb, &active.rollout);
    let is_over = view.hosts.iter().all(|host| host.state == HostState::Ready);
    if let Some(canary) = is_now.filter(|_| !is_over || asked == Stamp::Fits) {
        let why = if asked == Stamp::Fits { "a person asked for it" } else { "it was ready for long enough" };
        let canary = list_names(&canary.hosts);
        let note = format!("the canary of rollout {id} of {version}, {canary}, is promoted: {why}");
        return Some(EventDraft::normal(Reason::Promoted, "Promote", note));
    }
    let note = match asked {
        Stamp::Nothing => return None,
        Stamp::Fits if view.canary.stage == Stage::Over => {
            format!("{verb}: no canary of rollout {id} of {version} waits; nothing is promoted")
        }
        Stamp::Fits => format!(
            "{verb}: attempt {attempt} of rollout {id} of {version} was aborted, or its canary failed; nothing is promoted. To go on first: {}",
            view.observed.verb_command(verbs::RETRY, NEW_VALUE)
        ),
        Stamp::Other(value) => format!(
            "{verb}: {value} is not the current rollout and attempt; nothing is promoted. To promote the current one, of {version}: {}",
            view.observed.verb_command(verb, &stamp::wanted(&active.rollout))
        ),
    };
    Some(EventDraft::warning(Reason::VerbRefused, "Promote", note))
}

/// The canary is ready, and the others begin to wait.
fn awaiting_promotion(view: &View<'_>, after: &DeploymentStatus) -> Option<EventDraft> {
    let of = |status: &DeploymentStatus| {
        status
            .conditions
            .iter()
            .find(|one| one.type_ == Reason::AwaitingPromotion.as_str())
            .map(|one| one.message.clone())
    };
    let message = of(after).filter(|_| of(view.before).is_none())?;
    Some(EventDraft::normal(Reason::AwaitingPromotion, "Canary", message))
}

fn finished(view: &View<'_>, after: &DeploymentStatus) -> Option<EventDraft> {
    let active = view.rollout.as_ref()?;
    let (id, version) = (&active.rollout.id, &active.rollout.version);
    let newest = after.history.first().filter(|entry| entry.completed_at.is_some())?;
    let old = view.before.history.first().is_some_and(|old| {
        old.revision == newest.revision && old.started_at == newest.started_at && old.outcome == newest.outcome
    });
    match newest.outcome {
        _ if old => None,
        RolloutOutcome::Succeeded => {
            let pinned = view.pinned().map(|pinned| format!("; pinned: {pinned}")).unwrap_or_default();
            let others = view.hosts.iter().filter(|host| !host.is_pinned).count();
            let note = format!("rollout {id}: {version} runs on {}{pinned}", count_hosts(others));
            Some(EventDraft::normal(Reason::RolloutFinished, "Rollout", note))
        }
        // Told when it was asked for.
        RolloutOutcome::Aborted => None,
        _ => {
            let failed = usize::try_from(newest.failed_hosts).unwrap_or(0);
            let note = format!("rollout {id} of {version} failed on {}", count_hosts(failed));
            Some(EventDraft::warning(Reason::RolloutFailed, "Rollout", note))
        }
    }
}

/// Each host that failed, however many others did.
fn failed_hosts(view: &View<'_>) -> Vec<EventDraft> {
    let is_failed = |state: &HostState| matches!(state, HostState::Failed(_));
    let failed = newly(view, is_failed, |old| old.phase == Phase::Failed, after_failed);
    let event = |host: &HostView<'_>| match &host.state {
        HostState::Failed(failure) => {
            let healed = if host.down_and_failed { "; the process ended and is started again" } else { "" };
            let note = format!("{}: {}: {}{healed}", host.name, failure.reason, failure.message);
            let draft = EventDraft::warning(Reason::HostFailed, "Deploy", note);
            Some(EventDraft { host: Some(host.name.to_owned()), ..draft })
        }
        _ => None,
    };
    failed.into_iter().filter_map(event).collect()
}

/// Each host for which a rollout is taken back now: the new one knows nothing of its failure.
fn failed_before_return(view: &View<'_>) -> Vec<EventDraft> {
    let is_return = RolloutChange::Started(HistoryChange::RollBack);
    if view.rollout.as_ref().is_none_or(|active| active.change != is_return) {
        return Vec::new();
    }
    let is_told = |host: &str| view.exceptions.get(host).is_some_and(|old| old.phase == Phase::Failed);
    let event = |(host, failure): (&str, &HostFailure)| {
        let note = format!("{host}: {}: {}", failure.reason, failure.message);
        EventDraft { host: Some(host.to_owned()), ..EventDraft::warning(Reason::HostFailed, "Deploy", note) }
    };
    failed_before(view).into_iter().filter(|(host, _)| !is_told(host)).map(event).collect()
}

fn unlisted(view: &View<'_>) -> Option<EventDraft> {
    let unlisted = &view.observed.unlisted;
    if unlisted.is_empty() {
        return None;
    }
    let note = format!("no longer in the HostGroup: {}; what runs there is not watched", list_names(unlisted));
    Some(EventDraft::warning(Reason::HostLeft, "Plan", note))
}
