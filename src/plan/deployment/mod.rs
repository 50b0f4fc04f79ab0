//! What a Deployment does next: from its spec, what the hosts show and what is on record, to the whole next status and the acts.
//! It must not ask, wait or remember.

mod act;
mod attempt;
mod claim;
mod deletion;
mod observed;
mod record;
mod reference;
mod report;
mod rollout;
mod schedule;
mod select;
mod standing;
mod target;
#[cfg(test)]
mod tests;
mod turn;
mod verdict;

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub use self::{
    act::{Act, Drive},
    attempt::{RolloutAttempt, outdated},
    observed::{FolderLook, GoalKey, GoalKind, Group, Healing, HostSeen, Observed, Other, Seen, Task},
    record::{HostVerdict, RolloutRecord},
    reference::not_allowed,
    select::select,
    standing::HEALED_AFTER,
    target::{Target, parse_rollout},
    turn::{Done, Goal, Step, next_step},
};
use self::{
    reference::Chosen,
    rollout::{Current, News},
    schedule::{Placed, Schedule},
    standing::Standing,
    verdict::Case,
};
use super::{Happened, Plan, hostgroup::Problem};
use crate::api::{
    Reason, Verdict,
    conditions::conditions,
    deployment::{DeploymentStatus, RolloutOutcome},
    verbs,
};

/// What to do about this Deployment now.
pub fn plan(seen: &Observed, now: Timestamp) -> Plan<DeploymentStatus, Act> {
    if let Some(deleted) = seen.deleted {
        return deletion::plan(seen, deleted, now);
    }
    let chosen = match reference::choose(seen) {
        Ok(chosen) => chosen,
        Err(problem) => return hindered(seen, &problem, now),
    };
    let unknown = unknown(seen, &chosen);
    if !unknown.is_empty() {
        return ask(seen, &chosen, unknown, now);
    }
    if !chosen.adopt.is_empty() {
        return adopt(seen, &chosen, now);
    }
    proceed(seen, &chosen, now)
}

/// The status as it was, with this verdict.
fn with(seen: &Observed, verdict: &Verdict, now: Timestamp) -> DeploymentStatus {
    let before = seen.before();
    DeploymentStatus {
        observed_generation: seen.generation,
        conditions: conditions(&before.conditions, seen.generation, now, verdict, &[]),
        last_handled: handled(seen, &before, false),
        ..before
    }
}

/// Retry and redeploy are handled once a rollout could be decided; an adopt once no host needs it any more.
fn handled(seen: &Observed, before: &DeploymentStatus, decided: bool) -> verbs::LastHandled {
    if !decided && !seen.first() {
        return before.last_handled.clone();
    }
    verbs::handled(&[verbs::RETRY, verbs::REDEPLOY, verbs::ADOPT], &seen.annotations, &before.last_handled)
}

/// The finalizer stays on whoever may have touched a host.
fn holds(seen: &Observed) -> bool {
    seen.before().rollout.is_some()
}

/// Something stands in the way before any host: nothing is touched.
fn hindered(seen: &Observed, problem: &Problem, now: Timestamp) -> Plan<DeploymentStatus, Act> {
    let (verdict, next) = verdict::waiting(seen, problem, now);
    let events = match seen.before().conditions.iter().any(|one| one.reason == problem.reason.as_str()) {
        true => vec![],
        false => vec![Happened::warning(problem.reason, "Plan", &problem.message)],
    };
    Plan { finalizer: holds(seen), status: with(seen, &verdict, now), acts: vec![], events, next }
}

fn unknown(seen: &Observed, chosen: &Chosen<'_>) -> BTreeSet<String> {
    let unknown = |name: &&String| {
        let host = seen.seen(name);
        host.task.is_none() && host.look == FolderLook::Unknown
    };
    chosen.hosts.iter().map(|host| &host.name).filter(unknown).cloned().collect()
}

/// Hosts must be asked before anything is decided. What was said of this very spec stands meanwhile.
fn ask(seen: &Observed, chosen: &Chosen<'_>, unknown: BTreeSet<String>, now: Timestamp) -> Plan<DeploymentStatus, Act> {
    let before = seen.before();
    let known = chosen.hosts.len() - unknown.len();
    let message = format!("{known} of {} hosts were asked what runs there", chosen.hosts.len());
    let status = match before.observed_generation == seen.generation && before.rollout.is_some() {
        true => before,
        false => with(seen, &Verdict::working(Reason::Probing, message), now),
    };
    let next = Some(Duration::from_secs(30));
    Plan { finalizer: holds(seen), status, acts: vec![Act::Probe(unknown)], events: vec![], next }
}

fn adopt(seen: &Observed, chosen: &Chosen<'_>, now: Timestamp) -> Plan<DeploymentStatus, Act> {
    let names: Vec<String> = chosen.adopt.iter().map(|(host, _)| host.clone()).collect();
    let verdict = Verdict::working(Reason::RollingOut, format!("taking over {}", reference::some(&names)));
    let idle = chosen.adopt.iter().filter(|(host, _)| seen.seen(host).task.is_none());
    let acts = idle.map(|(host, owner)| Act::Drive(Drive::new(host, Goal::Adopt, "0.0", 1, owner.clone()))).collect();
    Plan {
        finalizer: true,
        status: with(seen, &verdict, now),
        acts,
        events: vec![],
        next: Some(Duration::from_secs(30)),
    }
}

/// Every selected host is known and may be acted on.
fn proceed(seen: &Observed, chosen: &Chosen<'_>, now: Timestamp) -> Plan<DeploymentStatus, Act> {
    let before = seen.before();
    let (current, waiting) = match reference::version(seen) {
        Ok(version) => (Some(rollout::current(seen, chosen.group, version, now)), None),
        Err(problem) => (rollout::on_record(seen), Some(problem)),
    };
    let target = current.as_ref().map(|current| current.target(seen));
    let mut placed: Vec<Placed> = chosen
        .hosts
        .iter()
        .map(|host| Placed { host: host.name.clone(), standing: standing::standing(seen, &host.name, target.as_ref()) })
        .collect();
    let failures = report::number(&placed, |standing| matches!(standing, Standing::Failed(_)));
    let too_many = i64::try_from(failures).unwrap_or(i64::MAX) > i64::from(seen.spec.strategy.max_failures);
    let over = over(&before, current.as_ref());
    let still = over && (failures > 0 || has_verdict(seen, current.as_ref()));
    let blocked = seen.spec.paused || waiting.is_some() || too_many || still;
    let mut schedule = schedule::schedule(seen, chosen, &mut placed, target.as_ref(), blocked, now);
    let (leaving, lets_go) = deletion::leaving(seen, &chosen.hosts);
    schedule.acts.extend(lets_go);

    let mut status = DeploymentStatus {
        observed_generation: seen.generation,
        last_handled: handled(seen, &before, waiting.is_none()),
        hosts: report::counts(seen, &placed, target.as_ref()),
        versions: report::versions(seen, &placed),
        exceptions: report::exceptions(seen, &placed, &before, blocked, now),
        ..before.clone()
    };
    let mut current = current;
    if let Some(current) = &mut current {
        progress(seen, &before, &status, &placed, current, now);
        status.version = Some(current.rollout.version.clone());
        status.revision = parse_rollout(&current.rollout.id).map(|(revision, _)| revision);
        status.rollout = Some(current.rollout.clone());
        let begun = report::Begun { again: over && !still, stuck: too_many };
        status.history = report::history(&before, current, &placed, begun, seen.spec.revision_history_limit, now);
    }
    let case =
        Case { seen, placed: &placed, current: current.as_ref(), waiting: waiting.as_ref(), leaving: &leaving, now };
    let (verdict, later) = case.verdict();
    status.conditions = conditions(&before.conditions, seen.generation, now, &verdict, &[]);
    if let Some(later) = later {
        schedule.sooner(later);
    }
    let events = events(seen, &before, &status, current.as_ref());
    finish(seen, current, schedule, status, events)
}

fn finish(
    seen: &Observed,
    current: Option<Current>,
    schedule: Schedule,
    status: DeploymentStatus,
    events: Vec<Happened>,
) -> Plan<DeploymentStatus, Act> {
    let mut acts = Vec::new();
    if current.as_ref().is_some_and(|current| current.news == News::Started) {
        // As many as the history has, which this rollout is in.
        acts.push(Act::KeepLogs(usize::try_from(seen.spec.revision_history_limit).unwrap_or(1).max(1)));
    }
    if let Some(current) = current.filter(|current| current.unrecorded) {
        acts.push(Act::Record(Box::new(current.record)));
    }
    acts.extend(schedule.acts);
    if !seen.left.is_empty() {
        acts.push(Act::Forget(seen.left.clone()));
    }
    Plan { finalizer: holds(seen) || status.rollout.is_some(), status, acts, events, next: schedule.next }
}

/// A rollout that ended as Failed gives its version to no further host, unless what failed it was no deed but a host that was no use and
/// is now.
fn over(before: &DeploymentStatus, current: Option<&Current>) -> bool {
    let same = current.is_some_and(|current| current.news == News::Same);
    same && before.history.first().is_some_and(|entry| entry.outcome == RolloutOutcome::Failed)
}

/// Whether a host failed in this attempt by what was done there; that stands until a retry.
fn has_verdict(seen: &Observed, current: Option<&Current>) -> bool {
    current.is_some_and(|Current { rollout, .. }| {
        seen.verdicts.iter().any(|verdict| verdict.rollout == rollout.id && verdict.attempt == rollout.attempt)
    })
}

/// Notes that a host passed a phase, or that the clock stood still while paused.
fn progress(
    seen: &Observed,
    before: &DeploymentStatus,
    status: &DeploymentStatus,
    placed: &[Placed],
    current: &mut Current,
    now: Timestamp,
) {
    let phases = |status: &DeploymentStatus| -> Vec<_> {
        status.exceptions.iter().map(|entry| (entry.host.clone(), entry.phase)).collect()
    };
    let was_paused = before.conditions.iter().any(|condition| condition.reason == Reason::Paused.as_str());
    let moved = before.hosts != status.hosts || phases(before) != phases(status) || was_paused && !seen.spec.paused;
    if moved {
        current.rollout.progressed_at = Time(now);
    }
    (current.rollout.batch, current.rollout.batches) = report::batches(seen, placed);
}

fn events(
    seen: &Observed,
    before: &DeploymentStatus,
    after: &DeploymentStatus,
    current: Option<&Current>,
) -> Vec<Happened> {
    let mut events = Vec::new();
    if let Some(current) = current {
        let (id, version) = (&current.rollout.id, &current.rollout.version);
        match current.news {
            News::Started => events.push(Happened::normal(
                Reason::RolloutStarted,
                "Rollout",
                format!("rollout {id} of {version} on {} hosts", after.hosts.total),
            )),
            News::Retry => events.push(Happened::normal(
                Reason::RolloutStarted,
                "Retry",
                format!("attempt {} of rollout {id} of {version}", current.rollout.attempt),
            )),
            News::Same => {}
        }
        events.extend(ended(before, after, id, version));
    }
    for entry in after.exceptions.iter().filter(|entry| entry.phase == crate::api::deployment::Phase::Failed) {
        let old = before.exceptions.iter().any(|old| old.host == entry.host && old.phase == entry.phase);
        if !old {
            let note = format!("{}: {}: {}", entry.host, entry.reason, entry.message);
            events.push(Happened::warning(Reason::HostFailed, "Deploy", note));
        }
    }
    if !seen.left.is_empty() {
        let note =
            format!("{} left the HostGroup; what runs there is not looked at any more", reference::some(&seen.left));
        events.push(Happened::warning(Reason::HostLeft, "Plan", note));
    }
    events
}

fn ended(before: &DeploymentStatus, after: &DeploymentStatus, id: &str, version: &str) -> Option<Happened> {
    let newest = after.history.first().filter(|entry| entry.completed_at.is_some())?;
    let old = before.history.first().is_some_and(|old| {
        old.revision == newest.revision && old.started_at == newest.started_at && old.outcome == newest.outcome
    });
    match newest.outcome {
        _ if old => None,
        RolloutOutcome::Succeeded => {
            let note = format!("rollout {id}: all {} hosts run {version}", after.hosts.total);
            Some(Happened::normal(Reason::RolloutFinished, "Rollout", note))
        }
        _ => {
            let note = format!("rollout {id} of {version} failed on {} hosts", newest.failed_hosts);
            Some(Happened::warning(Reason::RolloutFailed, "Rollout", note))
        }
    }
}
