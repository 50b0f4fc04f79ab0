//! What a Deployment does next: from its spec, what the hosts show and what is on record, to the whole next status and the acts.
//! It must not ask, wait or remember.

mod action;
mod attempt;
mod claim;
mod deletion;
mod host_state;
mod observed;
mod reference;
mod report;
mod rollout;
mod schedule;
mod select;
mod steps;
mod target;
#[cfg(test)]
mod tests;
mod verdict;

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub use self::{
    action::{Action, Assignment},
    attempt::{RolloutAttempt, outdated},
    host_state::HEALED_AFTER,
    observed::{
        AssignmentId, FolderCheck, FolderView, GoalKind, Group, Healing, HostObserved, Observed, SiblingDeployment,
        Task,
    },
    reference::not_allowed,
    select::select,
    steps::{Goal, Step, StepProgress, next_step},
    target::{Target, parse_rollout},
};
use self::{
    host_state::HostState,
    reference::Targets,
    rollout::{ActiveRollout, RolloutChange},
    schedule::{HostView, Schedule},
    verdict::StatusInput,
};
use super::{EventDraft, Plan};
use crate::api::{
    Reason, Verdict,
    conditions::conditions,
    deployment::{DeploymentStatus, RolloutOutcome},
    verbs,
};
use crate::model::Failure;

/// What to do about this Deployment now.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan<DeploymentStatus, Action> {
    if let Some(deleted) = observed.deleted {
        return deletion::plan(observed, deleted, now);
    }
    let targets = match reference::choose(observed) {
        Ok(targets) => targets,
        Err(failure) => return blocked_plan(observed, &failure, now),
    };
    let unknown = unknown(observed, &targets);
    if !unknown.is_empty() {
        return probe_unknown(observed, &targets, unknown, now);
    }
    if !targets.adopt.is_empty() {
        return adopt(observed, &targets, now);
    }
    roll_out(observed, &targets, now)
}

/// The status as it was, with this verdict.
fn status_with(observed: &Observed, verdict: &Verdict, now: Timestamp) -> DeploymentStatus {
    let before = observed.before();
    DeploymentStatus {
        observed_generation: observed.generation,
        conditions: conditions(&before.conditions, observed.generation, now, verdict, &[]),
        last_handled: handled(observed, &before, false),
        ..before
    }
}

/// Retry and redeploy are handled once a rollout could be decided; an adopt once no host needs it any more.
fn handled(observed: &Observed, before: &DeploymentStatus, decided: bool) -> verbs::LastHandled {
    if !decided && !observed.first() {
        return before.last_handled.clone();
    }
    verbs::handled(&[verbs::RETRY, verbs::REDEPLOY, verbs::ADOPT], &observed.annotations, &before.last_handled)
}

/// The finalizer stays on whoever may have touched a host.
fn needs_finalizer(observed: &Observed) -> bool {
    observed.before().rollout.is_some()
}

/// Something stands in the way before any host: nothing is touched.
fn blocked_plan(observed: &Observed, failure: &Failure, now: Timestamp) -> Plan<DeploymentStatus, Action> {
    let (verdict, next) = verdict::waiting(observed, failure, now);
    let events = match observed.before().conditions.iter().any(|one| one.reason == failure.reason.as_str()) {
        true => vec![],
        false => vec![EventDraft::warning(failure.reason, "Plan", &failure.message)],
    };
    Plan {
        finalizer: needs_finalizer(observed),
        status: status_with(observed, &verdict, now),
        actions: vec![],
        events,
        next,
    }
}

fn unknown(observed: &Observed, targets: &Targets<'_>) -> BTreeSet<String> {
    let unknown = |name: &&String| {
        let host = observed.host(name);
        host.task.is_none() && host.look == FolderCheck::Unknown
    };
    targets.hosts.iter().map(|host| &host.name).filter(unknown).cloned().collect()
}

/// Hosts must be asked before anything is decided. What was said of this very spec stands meanwhile.
fn probe_unknown(
    observed: &Observed,
    targets: &Targets<'_>,
    unknown: BTreeSet<String>,
    now: Timestamp,
) -> Plan<DeploymentStatus, Action> {
    let before = observed.before();
    let known = targets.hosts.len() - unknown.len();
    let message = format!("{known} of {} hosts were asked what runs there", targets.hosts.len());
    let status = match before.observed_generation == observed.generation && before.rollout.is_some() {
        true => before,
        false => status_with(observed, &Verdict::working(Reason::Probing, message), now),
    };
    let next = Some(Duration::from_secs(30));
    Plan { finalizer: needs_finalizer(observed), status, actions: vec![Action::Probe(unknown)], events: vec![], next }
}

fn adopt(observed: &Observed, targets: &Targets<'_>, now: Timestamp) -> Plan<DeploymentStatus, Action> {
    let names: Vec<String> = targets.adopt.iter().map(|(host, _)| host.clone()).collect();
    let verdict = Verdict::working(Reason::RollingOut, format!("taking over {}", reference::list_names(&names)));
    let idle = targets.adopt.iter().filter(|(host, _)| observed.host(host).task.is_none());
    let actions =
        idle.map(|(host, owner)| Action::Assign(Assignment::new(host, Goal::Adopt, "0.0", 1, owner.clone()))).collect();
    Plan {
        finalizer: true,
        status: status_with(observed, &verdict, now),
        actions,
        events: vec![],
        next: Some(Duration::from_secs(30)),
    }
}

/// Every selected host is known and may be acted on.
fn roll_out(observed: &Observed, targets: &Targets<'_>, now: Timestamp) -> Plan<DeploymentStatus, Action> {
    let before = observed.before();
    let (current, waiting) = match reference::version(observed) {
        Ok(version) => (Some(rollout::current(observed, targets.group, version, now)), None),
        Err(failure) => (rollout::on_record(observed), Some(failure)),
    };
    let target = current.as_ref().map(|current| current.target(observed));
    let mut views: Vec<HostView> = targets
        .hosts
        .iter()
        .map(|host| HostView {
            host: host.name.clone(),
            state: host_state::state(observed, &host.name, target.as_ref()),
        })
        .collect();
    let failures = report::number(&views, |state| matches!(state, HostState::Failed(_)));
    let too_many = i64::try_from(failures).unwrap_or(i64::MAX) > i64::from(observed.spec.strategy.max_failures);
    let failed_before = has_failed(&before, current.as_ref());
    let still = failed_before && (failures > 0 || has_verdict(observed, current.as_ref()));
    let blocked = observed.spec.paused || waiting.is_some() || too_many || still;
    let mut schedule = schedule::schedule(observed, targets, &mut views, target.as_ref(), blocked, now);
    let (leaving, lets_go) = deletion::leaving(observed, &targets.hosts);
    schedule.actions.extend(lets_go);

    let mut status = DeploymentStatus {
        observed_generation: observed.generation,
        last_handled: handled(observed, &before, waiting.is_none()),
        hosts: report::counts(observed, &views, target.as_ref()),
        versions: report::versions(observed, &views),
        exceptions: report::exceptions(observed, &views, &before, blocked, now),
        ..before.clone()
    };
    let mut current = current;
    if let Some(current) = &mut current {
        progress(observed, &before, &status, &views, current, now);
        status.version = Some(current.rollout.version.clone());
        status.revision = parse_rollout(&current.rollout.id).map(|(revision, _)| revision);
        status.rollout = Some(current.rollout.clone());
        let resume = report::RolloutResume { again: failed_before && !still, stuck: too_many };
        status.history = report::history(&before, current, &views, resume, observed.spec.revision_history_limit, now);
    }
    let case = StatusInput {
        observed,
        views: &views,
        current: current.as_ref(),
        waiting: waiting.as_ref(),
        leaving: &leaving,
        now,
    };
    let (verdict, later) = case.verdict();
    status.conditions = conditions(&before.conditions, observed.generation, now, &verdict, &[]);
    if let Some(later) = later {
        schedule.sooner(later);
    }
    let events = events(observed, &before, &status, current.as_ref());
    finish(observed, current, schedule, status, events)
}

fn finish(
    observed: &Observed,
    current: Option<ActiveRollout>,
    schedule: Schedule,
    status: DeploymentStatus,
    events: Vec<EventDraft>,
) -> Plan<DeploymentStatus, Action> {
    let mut actions = Vec::new();
    if current.as_ref().is_some_and(|current| current.change == RolloutChange::Started) {
        // As many as the history has, which this rollout is in.
        actions.push(Action::KeepLogs(usize::try_from(observed.spec.revision_history_limit).unwrap_or(1).max(1)));
    }
    if let Some(current) = current.filter(|current| current.unrecorded) {
        actions.push(Action::Record(Box::new(current.record)));
    }
    actions.extend(schedule.actions);
    if !observed.left.is_empty() {
        actions.push(Action::Forget(observed.left.clone()));
    }
    Plan {
        finalizer: needs_finalizer(observed) || status.rollout.is_some(),
        status,
        actions,
        events,
        next: schedule.next,
    }
}

/// A rollout that ended as Failed gives its version to no further host, unless what failed it was no deed but a host that was no use and
/// is now.
fn has_failed(before: &DeploymentStatus, current: Option<&ActiveRollout>) -> bool {
    let same = current.is_some_and(|current| current.change == RolloutChange::Same);
    same && before.history.first().is_some_and(|entry| entry.outcome == RolloutOutcome::Failed)
}

/// Whether a host failed in this attempt by what was done there; that stands until a retry.
fn has_verdict(observed: &Observed, current: Option<&ActiveRollout>) -> bool {
    current.is_some_and(|ActiveRollout { rollout, .. }| {
        observed.verdicts.iter().any(|verdict| verdict.rollout == rollout.id && verdict.attempt == rollout.attempt)
    })
}

/// Notes that a host passed a phase, or that the clock stood still while paused.
fn progress(
    observed: &Observed,
    before: &DeploymentStatus,
    status: &DeploymentStatus,
    views: &[HostView],
    current: &mut ActiveRollout,
    now: Timestamp,
) {
    let phases = |status: &DeploymentStatus| -> Vec<_> {
        status.exceptions.iter().map(|entry| (entry.host.clone(), entry.phase)).collect()
    };
    let was_paused = before.conditions.iter().any(|condition| condition.reason == Reason::Paused.as_str());
    let moved = before.hosts != status.hosts || phases(before) != phases(status) || was_paused && !observed.spec.paused;
    if moved {
        current.rollout.progressed_at = Time(now);
    }
    (current.rollout.batch, current.rollout.batches) = report::batches(observed, views);
}

fn events(
    observed: &Observed,
    before: &DeploymentStatus,
    after: &DeploymentStatus,
    current: Option<&ActiveRollout>,
) -> Vec<EventDraft> {
    let mut events = Vec::new();
    if let Some(current) = current {
        let (id, version) = (&current.rollout.id, &current.rollout.version);
        match current.change {
            RolloutChange::Started => events.push(EventDraft::normal(
                Reason::RolloutStarted,
                "Rollout",
                format!("rollout {id} of {version} on {} hosts", after.hosts.total),
            )),
            RolloutChange::Retry => events.push(EventDraft::normal(
                Reason::RolloutStarted,
                "Retry",
                format!("attempt {} of rollout {id} of {version}", current.rollout.attempt),
            )),
            RolloutChange::Same => {}
        }
        events.extend(ended(before, after, id, version));
    }
    for entry in after.exceptions.iter().filter(|entry| entry.phase == crate::api::deployment::Phase::Failed) {
        let old = before.exceptions.iter().any(|old| old.host == entry.host && old.phase == entry.phase);
        if !old {
            let note = format!("{}: {}: {}", entry.host, entry.reason, entry.message);
            events.push(EventDraft::warning(Reason::HostFailed, "Deploy", note));
        }
    }
    if !observed.left.is_empty() {
        let note = format!(
            "{} left the HostGroup; what runs there is not looked at any more",
            reference::list_names(&observed.left)
        );
        events.push(EventDraft::warning(Reason::HostLeft, "Plan", note));
    }
    events
}

fn ended(before: &DeploymentStatus, after: &DeploymentStatus, id: &str, version: &str) -> Option<EventDraft> {
    let newest = after.history.first().filter(|entry| entry.completed_at.is_some())?;
    let old = before.history.first().is_some_and(|old| {
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
