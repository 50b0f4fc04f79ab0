//! Who may start now: staging first, then turns within the budget, healing before all. Computed anew from what the hosts show.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{
    action::{Action, Assignment},
    host_state::{Heal, HostState, heal_due},
    observed::{AssignmentId, FolderCheck, GoalKind, Observed},
    reference::Targets,
    steps::{Goal, has_too_many, is_staged},
    target::{Target, parse_rollout},
};
use crate::model::rollout::{HostFailure, RolloutRecord};
use crate::{
    api::{Reason, deployment::Phase},
    model::Failure,
};

/// So many hosts are sent a release at once.
const STAGING_AT_ONCE: usize = 16;

/// One selected host and where it stands.
#[derive(Clone, Debug)]
pub struct HostView {
    pub host: String,
    pub state: HostState,
}

/// What is done now, and how the hosts stand once it is on record.
pub struct Schedule {
    pub actions: Vec<Action>,
    pub next: Option<Duration>,
}

/// How many hosts may be away at once: a percentage rounds down, to at least one.
pub fn budget(max_unavailable: &IntOrString, total: usize) -> usize {
    let most = match max_unavailable {
        IntOrString::Int(count) => usize::try_from(*count).unwrap_or(1),
        IntOrString::String(text) => {
            let percent = text.trim_end_matches('%').parse::<usize>().unwrap_or(1).min(100);
            total * percent / 100
        }
    };
    most.max(1)
}

/// Decides, and moves the standing of those that are started, so that the status says so before it is done.
pub fn schedule(
    observed: &Observed,
    targets: &Targets<'_>,
    views: &mut [HostView],
    target: Option<&Target>,
    blocked: bool,
    now: Timestamp,
) -> Schedule {
    let mut plan = Schedule { actions: Vec::new(), next: None };
    resume(observed, targets, views, target, &mut plan);
    heal(observed, targets, views, target, blocked, now, &mut plan);
    prune(observed, targets, views, target, &mut plan);
    let Some(target) = target.filter(|_| !blocked) else { return plan };
    stage(observed, targets, views, target, &mut plan);
    let staging = views.iter().any(|one| matches!(one.state, HostState::Staging | HostState::Unstaged));
    if !staging {
        begin(observed, targets, views, target, &mut plan);
    }
    plan
}

fn assign(targets: &Targets<'_>, host: &str, goal: Goal, target: &Target) -> Action {
    let replaces = targets.replaces.get(host).cloned();
    Action::Assign(Assignment::new(host, goal, &target.rollout, target.attempt, replaces))
}

fn busy_with(observed: &Observed, host: &str, kind: GoalKind, target: &Target) -> bool {
    let goal = AssignmentId { kind, rollout: target.rollout.clone(), attempt: target.attempt };
    observed.host(host).task.is_some_and(|task| task.goal == goal)
}

/// Turns that have begun go on: also while paused or failed, and to the newest target.
fn resume(
    observed: &Observed,
    targets: &Targets<'_>,
    views: &[HostView],
    target: Option<&Target>,
    plan: &mut Schedule,
) {
    let Some(target) = target else { return };
    for one in views {
        if matches!(one.state, HostState::Updating { lost: None, .. })
            && !busy_with(observed, &one.host, GoalKind::Run, target)
        {
            plan.actions.push(assign(targets, &one.host, run(target, false), target));
        }
    }
}

/// A turn prunes last, when the host is ready already: one that was cut off just before left that undone.
fn prune(observed: &Observed, targets: &Targets<'_>, views: &[HostView], target: Option<&Target>, plan: &mut Schedule) {
    let Some(target) = target else { return };
    for one in views.iter().filter(|one| one.state == HostState::Ready) {
        let host = observed.host(&one.host);
        let too_many = matches!(&host.look, FolderCheck::Facts(look) if has_too_many(&look.folder, target));
        if too_many && host.task.is_none() {
            plan.actions.push(assign(targets, &one.host, Goal::Prune(Box::new(target.clone())), target));
        }
    }
}

fn run(target: &Target, heal: bool) -> Goal {
    Goal::Run { target: Box::new(target.clone()), heal }
}

/// A host whose process is down goes first and takes no budget. Where nothing new may be started its last good release is.
fn heal(
    observed: &Observed,
    targets: &Targets<'_>,
    views: &mut [HostView],
    target: Option<&Target>,
    blocked: bool,
    now: Timestamp,
    plan: &mut Schedule,
) {
    for one in views.iter_mut().filter(|one| one.state == HostState::Down) {
        let Some(own) = last_good(observed, &one.host, target) else {
            // Nothing tells how to start it again: it waits for its turn like any other.
            one.state = if staged(observed, &one.host, target) { HostState::Pending } else { HostState::Unstaged };
            continue;
        };
        if let Some(target) = target.filter(|target| !blocked && target.rollout != own.rollout) {
            plan.actions.push(assign(targets, &one.host, run(target, false), target));
            one.state = HostState::Updating { phase: Phase::Stopping, lost: None };
            continue;
        }
        match heal_due(&observed.host(&one.host), own.attempt, now) {
            Heal::Now => {
                plan.actions.push(assign(targets, &one.host, run(&own, true), &own));
                one.state = HostState::Healing { phase: Phase::Starting };
            }
            Heal::In(seconds) => plan.sooner(Duration::from_secs(seconds)),
            Heal::TooOften => {
                let verdict = too_often(&one.host, target.unwrap_or(&own), now);
                one.state = HostState::Failed(Failure::terminal(verdict.reason, &verdict.message));
                plan.actions.push(Action::RecordFailure(verdict));
            }
        }
    }
}

fn staged(observed: &Observed, host: &str, target: Option<&Target>) -> bool {
    match (observed.host(host).look, target) {
        (FolderCheck::Facts(look), Some(target)) => is_staged(&look.folder, target),
        _ => false,
    }
}

fn too_often(host: &str, target: &Target, now: Timestamp) -> HostFailure {
    HostFailure {
        rollout: target.rollout.clone(),
        attempt: target.attempt,
        host: host.to_owned(),
        reason: Reason::RestartedTooOften,
        phase: Phase::Ready,
        message: "the process ended again and again after it was ready, and was started five times in a row; see why in shared/log on \
                  the host, then retry"
            .to_owned(),
        at: now,
    }
}

/// What was ready on a host last, as the store has it.
fn last_good(observed: &Observed, host: &str, target: Option<&Target>) -> Option<Target> {
    let FolderCheck::Facts(look) = observed.host(host).look else { return None };
    let process = look.folder.process?;
    if let Some(target) = target.filter(|target| target.rollout == process.rollout && target.uid == process.uid) {
        return Some(target.clone());
    }
    let (revision, _) = parse_rollout(&process.rollout)?;
    let fits = |record: &&RolloutRecord| process.uid == observed.uid && record.revision == revision;
    let record = observed.records.iter().find(fits)?;
    let attempt = target.map_or(1, |target| target.attempt);
    Some(Target::new(observed, record, &process.rollout, attempt, 0))
}

/// Upload and verify on every selected host before the first batch.
fn stage(observed: &Observed, targets: &Targets<'_>, views: &mut [HostView], target: &Target, plan: &mut Schedule) {
    let under_way = views.iter().filter(|one| one.state == HostState::Staging).count();
    let mut free = STAGING_AT_ONCE.saturating_sub(under_way);
    for one in views.iter_mut() {
        let wanted = match one.state {
            HostState::Staging => !busy_with(observed, &one.host, GoalKind::Stage, target),
            HostState::Unstaged if free > 0 => {
                free -= 1;
                true
            }
            _ => false,
        };
        if wanted {
            plan.actions.push(assign(targets, &one.host, Goal::Stage(Box::new(target.clone())), target));
            one.state = HostState::Staging;
        }
    }
}

/// As many turns as the budget lets begin, in the group's order.
fn begin(observed: &Observed, targets: &Targets<'_>, views: &mut [HostView], target: &Target, plan: &mut Schedule) {
    let away = views.iter().filter(|one| matches!(one.state, HostState::Updating { .. })).count();
    let most = budget(&observed.spec.strategy.rolling_update.max_unavailable, views.len());
    let turns = views.iter_mut().filter(|one| one.state == HostState::Pending);
    for one in turns.take(most.saturating_sub(away)) {
        plan.actions.push(assign(targets, &one.host, run(target, false), target));
        one.state = HostState::Updating { phase: Phase::Stopping, lost: None };
    }
}

impl Schedule {
    pub fn sooner(&mut self, than: Duration) {
        self.next = Some(self.next.map_or(than, |next| next.min(than)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_rounds_down_to_at_least_one_host() {
        let percent = |text: &str| IntOrString::String(text.to_owned());
        assert_eq!(budget(&percent("50%"), 5), 2);
        assert_eq!(budget(&percent("10%"), 5), 1);
        assert_eq!(budget(&percent("100%"), 5), 5);
        assert_eq!(budget(&IntOrString::Int(3), 5), 3);
    }
}
