//! Events: a rollout begins or ends; a host fails, is healed, is lost or leaves the group.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{intent::IntentOnRecord, observed::Observed, rollout::RolloutChange, view::View};
use crate::{
    api::{
        Reason,
        conditions::{MESSAGE_BYTES, STALLED, clip},
        deployment::{DeploymentStatus, HistoryChange, Phase, RolloutException, RolloutOutcome},
        verbs,
    },
    model::Failure,
    plan::{EventDraft, count_hosts, list_names},
};

pub fn events(view: &View<'_>, after: &DeploymentStatus) -> Vec<EventDraft> {
    let mut events = Vec::new();
    events.extend(view.unmet.iter().flat_map(|failure| unmet(view.observed, failure, after)));
    events.extend(started(view));
    events.extend(nothing_to_retry(view));
    events.extend(finished(view, after));
    events.extend(failed_hosts(view, after));
    events.extend(healing(view, after));
    events.extend(heal_failures(view, after));
    events.extend(unreachable(view, after));
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

/// Hosts that fit now and did not fit in the status before. Both lists are cut at the same number, in one order.
fn newly<'a>(
    view: &View<'_>,
    after: &'a DeploymentStatus,
    fits: impl Fn(&RolloutException) -> bool,
) -> Vec<&'a RolloutException> {
    let was_so = |host: &str| view.exceptions.get(host).is_some_and(|old| fits(old));
    after.exceptions.iter().filter(|entry| fits(entry) && !was_so(&entry.host)).collect()
}

fn is_healing(entry: &RolloutException) -> bool {
    entry.reason == Reason::Healing.as_str()
}

/// Processes that ended and are started again; a reboot of the host is named as the cause.
fn healing(view: &View<'_>, after: &DeploymentStatus) -> Vec<EventDraft> {
    let rebooted = |host: &str| {
        let facts = view.observed.host(host).view();
        let process = facts.and_then(|facts| facts.folder.process.as_ref());
        facts.zip(process).is_some_and(|(facts, process)| facts.boot_id != process.boot_id)
    };
    let names = newly(view, after, is_healing).into_iter().map(|entry| entry.host.as_str());
    let (rebooted, ended): (Vec<&str>, Vec<&str>) = names.partition(|host| rebooted(host));
    let event = |names: Vec<&str>, action, what: &str| {
        let note = format!("{}: {what}; what ran there is started again", list_names(&names));
        (!names.is_empty()).then(|| EventDraft::warning(Reason::Healing, action, note))
    };
    event(rebooted, "HealAfterReboot", "the host rebooted")
        .into_iter()
        .chain(event(ended, "Heal", "the process ended"))
        .collect()
}

/// A start for healing failed, for a reason that was not reported before.
fn heal_failures(view: &View<'_>, after: &DeploymentStatus) -> Vec<EventDraft> {
    let entries = after.exceptions.iter().filter(|entry| is_healing(entry));
    let failed = entries.filter_map(|entry| Some((entry, view.observed.host(&entry.host).heal_failure.as_ref()?)));
    let tries = failed.filter(|(entry, failure)| {
        let known = format!("{} (", failure.reason);
        view.exceptions.get(entry.host.as_str()).is_none_or(|old| !old.message.contains(&known))
    });
    tries
        .map(|(entry, failure)| {
            let note = format!("{}: not started again: {}; tried again later", entry.host, failure.message);
            EventDraft::warning(failure.reason, "Heal", note)
        })
        .collect()
}

fn unreachable(view: &View<'_>, after: &DeploymentStatus) -> Option<EventDraft> {
    let lost = newly(view, after, |entry| entry.phase == Phase::Unreachable);
    let first = lost.first()?;
    let names: Vec<&str> = lost.iter().map(|entry| entry.host.as_str()).collect();
    let note = format!("no answer from {}: {}", list_names(&names), first.message);
    Some(EventDraft::warning(Reason::HostsUnreachable, "Probe", note))
}

/// No host has passed a phase for `progressDeadlineSeconds`.
fn deadline(view: &View<'_>, after: &DeploymentStatus) -> Option<EventDraft> {
    let reasons = [Reason::ProgressDeadlineExceeded, Reason::HostsUnreachable, Reason::Healing].map(Reason::as_str);
    let stalled = |status: &DeploymentStatus| {
        let condition = status.conditions.iter().find(|condition| condition.type_ == STALLED)?;
        reasons.contains(&condition.reason.as_str()).then(|| condition.message.clone())
    };
    let message = stalled(after).filter(|_| stalled(view.before).is_none())?;
    Some(EventDraft::warning(Reason::ProgressDeadlineExceeded, "Rollout", message))
}

fn started(view: &View<'_>) -> Option<EventDraft> {
    let active = view.rollout.as_ref()?;
    let (id, version) = (&active.rollout.id, &active.rollout.version);
    match active.change {
        RolloutChange::Started(change) => {
            let why = match change {
                HistoryChange::Version | HistoryChange::VersionAndEnvironment => "",
                HistoryChange::Environment => ": the environment changed",
                HistoryChange::Redeploy => ": redeploy",
                HistoryChange::Adopt => ": adopted",
            };
            let note = format!("rollout {id} of {version} on {}{why}", count_hosts(view.hosts.len()));
            Some(EventDraft::normal(Reason::RolloutStarted, "Rollout", note))
        }
        RolloutChange::Retry => {
            let note = format!("attempt {} of rollout {id} of {version}", active.rollout.attempt);
            Some(EventDraft::normal(Reason::RolloutStarted, "Retry", note))
        }
        RolloutChange::Same => None,
    }
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
        "landfall.dev/retry: nothing to retry, no host failed in attempt {} of rollout {}. To deploy {} again on all hosts: kubectl -n {} \
         annotate --overwrite deployments.landfall.dev/{} landfall.dev/redeploy=$(date +%s)",
        active.rollout.attempt, active.rollout.id, active.rollout.version, view.observed.namespace, view.observed.name
    );
    Some(EventDraft::normal(Reason::NothingToRetry, "Retry", note))
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
            let note = format!("rollout {id}: {version} runs on {}", count_hosts(view.hosts.len()));
            Some(EventDraft::normal(Reason::RolloutFinished, "Rollout", note))
        }
        _ => {
            let failed = usize::try_from(newest.failed_hosts).unwrap_or(0);
            let note = format!("rollout {id} of {version} failed on {}", count_hosts(failed));
            Some(EventDraft::warning(Reason::RolloutFailed, "Rollout", note))
        }
    }
}

fn failed_hosts(view: &View<'_>, after: &DeploymentStatus) -> Vec<EventDraft> {
    let failed = newly(view, after, |entry| entry.phase == Phase::Failed);
    let note = |entry: &RolloutException| format!("{}: {}: {}", entry.host, entry.reason, entry.message);
    failed.into_iter().map(|entry| EventDraft::warning(Reason::HostFailed, "Deploy", note(entry))).collect()
}

fn unlisted(view: &View<'_>) -> Option<EventDraft> {
    let unlisted = &view.observed.unlisted;
    if unlisted.is_empty() {
        return None;
    }
    let note = format!("no longer in the HostGroup: {}; what runs there is not watched", list_names(unlisted));
    Some(EventDraft::warning(Reason::HostLeft, "Plan", note))
}
