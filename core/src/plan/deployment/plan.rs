//! The decision as a list of calls. Two early answers come before the view: hosts that must be checked first, and hosts to adopt.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;

use super::{
    action::{Action, Assignment},
    deletion, events,
    history::RolloutResume,
    holds,
    observed::{GoalKind, Observed},
    pins,
    references::references,
    rollout::{self, ActiveRollout, RolloutChange},
    schedule::{self, Schedule},
    skip_drain,
    status::{self, StatusInput, status_with},
    steps::Goal,
    strategy::{batches, canary},
    targets::{self, Targets},
    verdict,
    view::View,
};
use crate::{
    api::{Reason, Verdict, deployment::DeploymentStatus},
    model::Failure,
    plan::{EventDraft, Plan, count_hosts, hostgroup::dialled, list_names},
};

/// How often values in Secrets are looked at: the operator may get a Secret by its name, and may not watch any.
const VALUES_INTERVAL: Duration = Duration::from_secs(30);

/// How often an adoption is looked at.
const ADOPTION_INTERVAL: Duration = Duration::from_secs(30);

/// What to do about this Deployment now.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan<DeploymentStatus, Action> {
    let mut plan = decide(observed, now);
    // Before any act on a host, so that a deletion of the group waits for the hosts.
    if plan.finalizer && observed.group.as_ref().is_some_and(|group| !group.held) {
        plan.actions.insert(0, Action::HoldGroup);
    }
    let looks = [takes_values(observed).then_some(VALUES_INTERVAL), pins::next_end(&observed.spec, now)];
    for look in looks.into_iter().flatten().filter(|_| observed.deleted.is_none()) {
        plan.next = Some(plan.next.map_or(look, |next| next.min(look)));
    }
    plan
}

fn takes_values(observed: &Observed) -> bool {
    let Some(group) = &observed.group else { return false };
    let pinned = observed.pinned.values().filter_map(|seen| seen.record.as_ref());
    observed.version.iter().chain(pinned).any(|version| !references(&observed.spec, group, version).is_empty())
}

fn decide(observed: &Observed, now: Timestamp) -> Plan<DeploymentStatus, Action> {
    if let Some(deleted) = observed.deleted {
        return deletion::plan(observed, deleted, now);
    }
    let targets = match targets::choose(observed, now) {
        Ok(targets) => targets,
        Err(failure) => return blocked(observed, &failure, now),
    };
    let unchecked = unchecked(observed, &targets);
    if let Some(failure) = &targets.unmet {
        // Before the first rollout, or while no host is known, there is nothing to watch. A single unchecked host stops no healing.
        if observed.before().rollout.is_absent() {
            return blocked(observed, failure, now);
        }
        if !targets.hosts.is_empty() && unchecked.len() == targets.hosts.len() {
            return Plan { actions: check(&targets, unchecked), ..blocked(observed, failure, now) };
        }
    } else if !unchecked.is_empty() {
        return probe_unknown(observed, &targets, unchecked, now);
    } else if !targets.adopt.is_empty() {
        return adopt(observed, &targets, now);
    }
    let mut plan = roll_out(observed, &targets, now);
    plan.actions.extend(check(&targets, unchecked));
    plan
}

/// The check of these hosts, as far as the group dials them: what is never dialled is never known.
fn check(targets: &Targets<'_>, mut unchecked: BTreeSet<String>) -> Vec<Action> {
    let dialled: BTreeSet<&str> =
        dialled(&targets.group.jump, &targets.group.hosts).into_iter().map(|host| host.name.as_str()).collect();
    unchecked.retain(|name| dialled.contains(name.as_str()));
    if unchecked.is_empty() { vec![] } else { vec![Action::Probe(unchecked)] }
}

/// Every selected host is known, or no update begins.
fn roll_out(observed: &Observed, targets: &Targets<'_>, now: Timestamp) -> Plan<DeploymentStatus, Action> {
    let (rollout, unmet) = rollout(observed, targets, now);
    let mut view = View::new(observed, targets, rollout, unmet);
    view.canary = canary::canary(&view, now);
    view.batch_end = batches::end(&view, now);
    let hold = holds::first(&view);
    let resume = RolloutResume::new(&view);
    let mut schedule = schedule::schedule(&view, hold, now);
    view.apply(&schedule);
    let leaving = schedule.release(&view, hold, now);
    let skips_drain = skip_drain::is_used(observed, &schedule.actions);
    let (status, next) = status::status(&view, &StatusInput { hold, resume, leaving: &leaving, skips_drain, now });
    if let Some(next) = next {
        schedule.requeue_within(next);
    }
    let mut events = events::events(&view, &status);
    events.extend(deletion::events(observed, &leaving.hosts, &schedule.actions));
    finish(observed, view.rollout, schedule, status, events)
}

/// Rollout of the spec; where the spec can't be met the one on record, and the cause.
fn rollout(observed: &Observed, targets: &Targets<'_>, now: Timestamp) -> (Option<ActiveRollout>, Option<Failure>) {
    if let Some(failure) = &targets.unmet {
        return (rollout::on_record(observed), Some(failure.clone()));
    }
    match targets::version(observed, targets) {
        Ok(version) => (Some(rollout::current(observed, targets, version, now)), None),
        Err(failure) => (rollout::on_record(observed), Some(failure)),
    }
}

/// A Deployment that may have acted on a host keeps its finalizer.
fn needs_finalizer(observed: &Observed) -> bool {
    !observed.before().rollout.is_absent()
}

/// The spec can't be met and no host is known: no act on any host.
fn blocked(observed: &Observed, failure: &Failure, now: Timestamp) -> Plan<DeploymentStatus, Action> {
    let (verdict, next) = verdict::waiting(observed, failure, now);
    let status = status_with(observed, &verdict, now);
    let events = events::unmet(observed, failure, &status);
    Plan { finalizer: needs_finalizer(observed), status, actions: vec![], events, next }
}

fn unchecked(observed: &Observed, targets: &Targets<'_>) -> BTreeSet<String> {
    let selected = targets.hosts.iter().map(|host| &host.name);
    // Whether a host has moved to another name, or has two, the other one tells.
    selected.chain(&targets.undecided).filter(|name| observed.host(name).is_unchecked()).cloned().collect()
}

/// Hosts must be checked before a decision. The status of the same spec is kept meanwhile.
fn probe_unknown(
    observed: &Observed,
    targets: &Targets<'_>,
    unchecked: BTreeSet<String>,
    now: Timestamp,
) -> Plan<DeploymentStatus, Action> {
    let known = targets.hosts.iter().filter(|host| !unchecked.contains(&host.name)).count();
    let before = observed.before();
    let message = format!("{known} of {} checked", count_hosts(targets.hosts.len()));
    let status = match before.observed_generation == observed.generation && before.rollout.is_some() {
        true => before.clone(),
        false => status_with(observed, &Verdict::working(Reason::Probing, message), now),
    };
    let next = Some(Duration::from_secs(30));
    Plan { finalizer: needs_finalizer(observed), status, actions: vec![Action::Probe(unchecked)], events: vec![], next }
}

fn adopt(observed: &Observed, targets: &Targets<'_>, now: Timestamp) -> Plan<DeploymentStatus, Action> {
    let names: Vec<String> = targets.adopt.iter().map(|(host, _)| host.clone()).collect();
    let verdict = Verdict::working(Reason::RollingOut, format!("adopting {}", list_names(&names)));
    let is_due = |host: &str| {
        let host = observed.host(host);
        host.task.is_none() && host.pause(GoalKind::Adopt, now).is_none()
    };
    let idle = targets.adopt.iter().filter(|(host, _)| is_due(host));
    let pauses = targets.adopt.iter().filter_map(|(host, _)| observed.host(host).pause(GoalKind::Adopt, now));
    let actions =
        idle.map(|(host, owner)| Action::Assign(Assignment::new(host, Goal::Adopt, "0.0", 1, owner.clone()))).collect();
    Plan {
        finalizer: true,
        status: status_with(observed, &verdict, now),
        actions,
        events: vec![],
        next: Some(pauses.min().map_or(ADOPTION_INTERVAL, |pause| pause.min(ADOPTION_INTERVAL))),
    }
}

fn finish(
    observed: &Observed,
    current: Option<ActiveRollout>,
    schedule: Schedule,
    status: DeploymentStatus,
    events: Vec<EventDraft>,
) -> Plan<DeploymentStatus, Action> {
    let mut actions = Vec::new();
    if current.as_ref().is_some_and(|current| matches!(current.change, RolloutChange::Started(_))) {
        // As many as the history has, this rollout included.
        actions.push(Action::KeepLogs(usize::try_from(observed.spec.revision_history_limit).unwrap_or(1).max(1)));
    }
    if let Some(current) = current.filter(|current| current.unrecorded) {
        actions.push(Action::Record(Box::new(current.record)));
    }
    actions.extend(schedule.actions);
    if !observed.unlisted.is_empty() {
        actions.push(Action::Forget(observed.unlisted.clone()));
    }
    Plan {
        finalizer: needs_finalizer(observed) || !status.rollout.is_absent(),
        status,
        actions,
        events,
        next: schedule.next,
    }
}
