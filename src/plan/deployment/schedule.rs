//! Who may start now: staging first, then turns within the budget, healing before all. Computed anew from what the hosts show.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{
    act::{Act, Drive},
    observed::{FolderLook, GoalKey, GoalKind, Observed},
    record::{HostVerdict, RolloutRecord},
    reference::Chosen,
    standing::{Heal, Standing, heal_due},
    target::{Target, parse_rollout},
    turn::{Goal, has_too_many, is_staged},
};
use crate::{
    api::{Reason, deployment::Phase},
    plan::hostgroup::Problem,
};

/// So many hosts are sent a release at once.
const STAGING_AT_ONCE: usize = 16;

/// One selected host and where it stands.
#[derive(Clone, Debug)]
pub struct Placed {
    pub host: String,
    pub standing: Standing,
}

/// What is done now, and how the hosts stand once it is on record.
pub struct Schedule {
    pub acts: Vec<Act>,
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
    seen: &Observed,
    chosen: &Chosen<'_>,
    placed: &mut [Placed],
    target: Option<&Target>,
    blocked: bool,
    now: Timestamp,
) -> Schedule {
    let mut plan = Schedule { acts: Vec::new(), next: None };
    resume(seen, chosen, placed, target, &mut plan);
    heal(seen, chosen, placed, target, blocked, now, &mut plan);
    prune(seen, chosen, placed, target, &mut plan);
    let Some(target) = target.filter(|_| !blocked) else { return plan };
    stage(seen, chosen, placed, target, &mut plan);
    let staging = placed.iter().any(|one| matches!(one.standing, Standing::Staging | Standing::Unstaged));
    if !staging {
        begin(seen, chosen, placed, target, &mut plan);
    }
    plan
}

fn drive(chosen: &Chosen<'_>, host: &str, goal: Goal, target: &Target) -> Act {
    let replaces = chosen.replaces.get(host).cloned();
    Act::Drive(Drive::new(host, goal, &target.rollout, target.attempt, replaces))
}

fn busy_with(seen: &Observed, host: &str, kind: GoalKind, target: &Target) -> bool {
    let goal = GoalKey { kind, rollout: target.rollout.clone(), attempt: target.attempt };
    seen.seen(host).task.is_some_and(|task| task.goal == goal)
}

/// Turns that have begun go on: also while paused or failed, and to the newest target.
fn resume(seen: &Observed, chosen: &Chosen<'_>, placed: &[Placed], target: Option<&Target>, plan: &mut Schedule) {
    let Some(target) = target else { return };
    for one in placed {
        if matches!(one.standing, Standing::InTurn { lost: None, .. })
            && !busy_with(seen, &one.host, GoalKind::Run, target)
        {
            plan.acts.push(drive(chosen, &one.host, run(target, false), target));
        }
    }
}

/// A turn prunes last, when the host is ready already: one that was cut off just before left that undone.
fn prune(seen: &Observed, chosen: &Chosen<'_>, placed: &[Placed], target: Option<&Target>, plan: &mut Schedule) {
    let Some(target) = target else { return };
    for one in placed.iter().filter(|one| one.standing == Standing::Ready) {
        let host = seen.seen(&one.host);
        let too_many = matches!(&host.look, FolderLook::Seen(look) if has_too_many(&look.folder, target));
        if too_many && host.task.is_none() {
            plan.acts.push(drive(chosen, &one.host, Goal::Prune(Box::new(target.clone())), target));
        }
    }
}

fn run(target: &Target, heal: bool) -> Goal {
    Goal::Run { target: Box::new(target.clone()), heal }
}

/// A host whose process is down goes first and takes no budget. Where nothing new may be started its last good release is.
fn heal(
    seen: &Observed,
    chosen: &Chosen<'_>,
    placed: &mut [Placed],
    target: Option<&Target>,
    blocked: bool,
    now: Timestamp,
    plan: &mut Schedule,
) {
    for one in placed.iter_mut().filter(|one| one.standing == Standing::Down) {
        let Some(own) = last_good(seen, &one.host, target) else {
            // Nothing tells how to start it again: it waits for its turn like any other.
            one.standing = if staged(seen, &one.host, target) { Standing::Pending } else { Standing::Unstaged };
            continue;
        };
        if let Some(target) = target.filter(|target| !blocked && target.rollout != own.rollout) {
            plan.acts.push(drive(chosen, &one.host, run(target, false), target));
            one.standing = Standing::InTurn { phase: Phase::Stopping, lost: None };
            continue;
        }
        match heal_due(&seen.seen(&one.host), own.attempt, now) {
            Heal::Now => {
                plan.acts.push(drive(chosen, &one.host, run(&own, true), &own));
                one.standing = Standing::Healing { phase: Phase::Starting };
            }
            Heal::In(seconds) => plan.sooner(Duration::from_secs(seconds)),
            Heal::TooOften => {
                let verdict = too_often(&one.host, target.unwrap_or(&own), now);
                one.standing = Standing::Failed(Problem::terminal(verdict.reason, &verdict.message));
                plan.acts.push(Act::Judge(verdict));
            }
        }
    }
}

fn staged(seen: &Observed, host: &str, target: Option<&Target>) -> bool {
    match (seen.seen(host).look, target) {
        (FolderLook::Seen(look), Some(target)) => is_staged(&look.folder, target),
        _ => false,
    }
}

fn too_often(host: &str, target: &Target, now: Timestamp) -> HostVerdict {
    HostVerdict {
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
fn last_good(seen: &Observed, host: &str, target: Option<&Target>) -> Option<Target> {
    let FolderLook::Seen(look) = seen.seen(host).look else { return None };
    let process = look.folder.process?;
    if let Some(target) = target.filter(|target| target.rollout == process.rollout && target.uid == process.uid) {
        return Some(target.clone());
    }
    let (revision, _) = parse_rollout(&process.rollout)?;
    let fits = |record: &&RolloutRecord| process.uid == seen.uid && record.revision == revision;
    let record = seen.records.iter().find(fits)?;
    let attempt = target.map_or(1, |target| target.attempt);
    Some(Target::new(seen, record, &process.rollout, attempt, 0))
}

/// Upload and verify on every selected host before the first batch.
fn stage(seen: &Observed, chosen: &Chosen<'_>, placed: &mut [Placed], target: &Target, plan: &mut Schedule) {
    let under_way = placed.iter().filter(|one| one.standing == Standing::Staging).count();
    let mut free = STAGING_AT_ONCE.saturating_sub(under_way);
    for one in placed.iter_mut() {
        let wanted = match one.standing {
            Standing::Staging => !busy_with(seen, &one.host, GoalKind::Stage, target),
            Standing::Unstaged if free > 0 => {
                free -= 1;
                true
            }
            _ => false,
        };
        if wanted {
            plan.acts.push(drive(chosen, &one.host, Goal::Stage(Box::new(target.clone())), target));
            one.standing = Standing::Staging;
        }
    }
}

/// As many turns as the budget lets begin, in the group's order.
fn begin(seen: &Observed, chosen: &Chosen<'_>, placed: &mut [Placed], target: &Target, plan: &mut Schedule) {
    let away = placed.iter().filter(|one| matches!(one.standing, Standing::InTurn { .. })).count();
    let most = budget(&seen.spec.strategy.rolling_update.max_unavailable, placed.len());
    let turns = placed.iter_mut().filter(|one| one.standing == Standing::Pending);
    for one in turns.take(most.saturating_sub(away)) {
        plan.acts.push(drive(chosen, &one.host, run(target, false), target));
        one.standing = Standing::InTurn { phase: Phase::Stopping, lost: None };
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
