//! What is done now: updates under way go on, dead processes are healed, releases are staged, further updates begin.
//! Computed from the view at each decision; it keeps nothing.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    action::{Action, Assignment},
    by_hand,
    deletion::{self, GivenUp, Leaving},
    drain,
    folder::{is_down, is_kept},
    healing::{Heal, heal_due},
    holds::Hold,
    host_state::{HostState, last_good},
    observed::{AssignmentId, GoalKind, HostObserved, Observed},
    pause,
    steps::{self, Goal, has_too_many},
    strategy::{
        min_available::{self, GroupLimit},
        rolling,
        zones::Zones,
    },
    target::Target,
    view::{HostView, View},
};
use crate::{
    api::deployment::{DeletionPolicy, Phase},
    model::facts::FolderFacts,
    plan::min_available::Room,
};

/// Number of hosts that are staged at the same time: what they share has budgets of its own, so a few slow ones delay no others.
const STAGING_AT_ONCE: usize = 64;

#[derive(Default)]
pub(crate) struct Schedule {
    pub actions: Vec<Action>,
    /// State of hosts, by index, once the actions are on record.
    pub states: Vec<(usize, HostState)>,
    pub next: Option<Duration>,
}

/// Healing and updates under way go on during a hold; new updates do not, and staging where the hold is for the whole group.
pub(crate) fn schedule(view: &View<'_>, hold: Option<Hold>, now: Timestamp) -> Schedule {
    let mut schedule = Schedule::default();
    let mut room = min_available::limit(view).as_ref().map_or_else(Room::unlimited, GroupLimit::room);
    schedule.resume(view);
    schedule.heal(view, hold, &mut room, now);
    schedule.claim(view, now);
    schedule.prune(view, now);
    if view.rollout.is_some() && hold.is_none_or(Hold::stages) {
        let staging = schedule.stage(view, now);
        if hold.is_none() && (!staging || view.has_begun()) {
            schedule.begin(view, &mut room);
        }
    }
    schedule
}

impl View<'_> {
    /// The states once the schedule is on record.
    pub fn apply(&mut self, schedule: &Schedule) {
        for (index, state) in &schedule.states {
            self.hosts[*index].state = state.clone();
        }
    }
}

impl Schedule {
    pub(crate) fn requeue_within(&mut self, delay: Duration) {
        self.next = Some(self.next.map_or(delay, |next| next.min(delay)));
    }

    fn assign(&mut self, view: &View<'_>, host: &HostView<'_>, goal: Goal, target: &Target) {
        let replaces = view.targets.replaces.get(host.name).cloned();
        self.actions.push(Action::Assign(Assignment::new(host.name, goal, &target.rollout, target.attempt, replaces)));
    }

    fn update(&mut self, view: &View<'_>, index: usize) {
        let host = &view.hosts[index];
        let Some(target) = host.target.as_deref() else { return };
        self.assign(view, host, run_goal(view, host, target, false), target);
        self.states.push((index, HostState::Updating { phase: Phase::Stopping, lost: None }));
    }

    /// Updates that have begun go on: also while paused or failed, and to the newest target.
    fn resume(&mut self, view: &View<'_>) {
        for host in &view.hosts {
            let Some(target) = host.target.as_deref() else { continue };
            let updating = matches!(host.state, HostState::Updating { lost: None, .. });
            if updating && !is_busy_with(host, GoalKind::Run, target) {
                self.assign(view, host, run_goal(view, host, target, false), target);
            }
        }
    }

    /// A host whose process ended is unavailable already, so it goes first: it is updated where its target differs and an update may begin,
    /// else its last good release is started again, which is its keeper's where it has one.
    fn heal<'a>(&mut self, view: &View<'a>, hold: Option<Hold>, room: &mut Room<'a>, now: Timestamp) {
        let mut updating = view.number(is_update);
        let zones = Zones::new(view, &rolling::waiting(view), &[]);
        for (index, host) in view.hosts.iter().enumerate() {
            let kept = host.observed.task.is_none() && host.observed.view().is_some_and(|view| is_kept(&view.folder));
            let is_healing = host.state == HostState::Down || kept && matches!(host.state, HostState::Healing { .. });
            if !is_healing && !host.down_and_failed {
                continue;
            }
            let Some(own) = last_good(view.observed, host.observed, host.target.as_deref()) else { continue };
            let may_update = hold.is_none() && !host.down_and_failed;
            let may_update = may_update && view.canary.allows(host.name) && zones.allows(index, false);
            let differs = host.target.as_ref().is_some_and(|target| may_update && target.rollout != own.rollout);
            let mut may_begin = || updating < rolling::max_unavailable(view) && room.takes(host.name);
            if differs && may_begin() {
                self.update(view, index);
                updating += 1;
                continue;
            }
            if !kept && self.is_heal_due(host.observed, &own, now) {
                self.assign(view, host, run_goal(view, host, &own, true), &own);
                if !host.down_and_failed {
                    self.states.push((index, HostState::Healing { phase: Phase::Starting }));
                }
            }
        }
    }

    /// Whether a goal of this kind, which failed there, may be tried; else the decision is taken again when it may.
    fn is_due(&mut self, host: &HostObserved, kind: GoalKind, now: Timestamp) -> bool {
        match host.pause(kind, now) {
            None => true,
            Some(pause) => {
                self.requeue_within(pause);
                false
            }
        }
    }

    /// A claim is no update, so nothing holds it: without an owner file another Deployment could take the host.
    fn claim(&mut self, view: &View<'_>, now: Timestamp) {
        let runs_target = |host: &&HostView<'_>| matches!(host.state, HostState::Ready | HostState::NotReady(_));
        for host in view.hosts.iter().filter(runs_target) {
            let Some(target) = host.target.as_deref() else { continue };
            let is_wanted = host.observed.task.is_none() && is_unowned(host, target);
            if is_wanted && self.is_due(host.observed, GoalKind::Claim, now) {
                self.assign(view, host, Goal::Claim(Box::new(target.clone())), target);
            }
        }
    }

    /// An update prunes last, when the host is ready: an interrupted one leaves surplus releases.
    fn prune(&mut self, view: &View<'_>, now: Timestamp) {
        for host in view.hosts.iter().filter(|host| host.state == HostState::Ready) {
            let Some(target) = host.target.as_deref() else { continue };
            let too_many = host.observed.view().is_some_and(|facts| has_too_many(&facts.folder, target));
            // A claim of the host comes first.
            let is_wanted = too_many && host.observed.task.is_none() && !is_unowned(host, target);
            if is_wanted && self.is_due(host.observed, GoalKind::Prune, now) {
                self.assign(view, host, Goal::Prune(Box::new(target.clone())), target);
            }
        }
    }

    /// Upload and verify on every selected host before the first batch; a host that joins later gets it beside the updates of the others.
    /// True while the first update waits for any host.
    fn stage(&mut self, view: &View<'_>, now: Timestamp) -> bool {
        let under_way = view.number(|state| *state == HostState::Staging);
        let mut free = STAGING_AT_ONCE.saturating_sub(under_way);
        for (index, host) in view.hosts.iter().enumerate() {
            let Some(target) = host.target.as_deref() else { continue };
            let wanted = match host.state {
                HostState::Staging => !is_busy_with(host, GoalKind::Stage, target),
                HostState::Unstaged if free > 0 => {
                    free -= 1;
                    true
                }
                HostState::Slow(_) if free > 0 => {
                    match host.observed.slow.as_ref().and_then(|slow| slow.pause(&target.rollout, target.attempt, now))
                    {
                        Some(pause) => {
                            self.requeue_within(pause);
                            false
                        }
                        None => {
                            free -= 1;
                            true
                        }
                    }
                }
                _ => false,
            };
            if wanted {
                self.assign(view, host, Goal::Stage(Box::new(target.clone())), target);
                self.states.push((index, HostState::Staging));
            }
        }
        view.hosts.iter().any(HostView::is_waited_for)
    }

    /// Releases hosts outside the selection: none while the selection is not known, the spec can't be met or a hold stands, and removes
    /// what runs there once those that replace it are ready. Until then what ends there is started again.
    pub fn release(&mut self, view: &View<'_>, hold: Option<Hold>, now: Timestamp) -> Leaving {
        if view.targets.unmet.is_some() {
            return Leaving::default();
        }
        let GivenUp { hosts, actions, next } = deletion::leaving(view.observed, &view.targets.selected(), now);
        // What left the selection is no update.
        let hold = hold.filter(|hold| !hold.is_of_updates());
        let removes = view.observed.spec.deletion_policy == DeletionPolicy::Remove;
        let waits_for = match hold {
            Some(Hold::Paused) => Some(pause::until(view.observed)),
            Some(_) => Some("until the rollout goes on"),
            None if removes && !is_replaced(view) => Some("until all selected hosts are ready"),
            None => None,
        };
        match waits_for {
            None => {
                self.actions.extend(actions);
                next.into_iter().for_each(|next| self.requeue_within(next));
            }
            Some(_) => hosts.iter().for_each(|host| self.heal_leaving(view, host, now)),
        }
        Leaving { hosts, waits_for }
    }

    fn heal_leaving(&mut self, view: &View<'_>, name: &str, now: Timestamp) {
        let host = view.observed.host(name);
        let down =
            host.task.is_none() && host.view().is_some_and(|facts| is_to_be_healed(view.observed, name, &facts.folder));
        let Some(own) = last_good(view.observed, host, None).filter(|_| down) else { return };
        if self.is_heal_due(host, &own, now) {
            let by_hand = last_by_hand(host);
            let goal = Goal::Run {
                target: Box::new(own.clone()),
                heal: true,
                failed_process: None,
                by_hand,
                drain: None,
                skipped_drain: None,
            };
            self.actions.push(Action::Assign(Assignment::new(name, goal, &own.rollout, own.attempt, None)));
        }
    }

    /// Whether the pause before the next start is over; else the decision is taken again when it is.
    fn is_heal_due(&mut self, host: &HostObserved, own: &Target, now: Timestamp) -> bool {
        match heal_due(host.healing, own.attempt, now) {
            Heal::Now => true,
            Heal::In(seconds) => {
                self.requeue_within(Duration::from_secs(seconds));
                false
            }
        }
    }

    fn begin<'a>(&mut self, view: &View<'a>, room: &mut Room<'a>) {
        let begun = self.states.iter().filter(|(_, state)| is_update(state));
        let begun: Vec<usize> = begun.map(|(index, _)| *index).collect();
        for index in rolling::may_begin(view, &begun, room) {
            self.update(view, index);
        }
    }
}

/// Whether all selected hosts in service are ready, at least one. Failed ones, which are within `maxFailures` where no hold stands, are not
/// waited for; unreachable ones are, until they answer or are suspended.
fn is_replaced(view: &View<'_>) -> bool {
    let ready = view.number(|state| *state == HostState::Ready);
    ready > 0 && ready + view.number(|state| matches!(state, HostState::Failed(_))) == view.hosts.len()
}

fn is_to_be_healed(observed: &Observed, host: &str, folder: &FolderFacts) -> bool {
    is_down(folder) && !is_kept(folder) && !by_hand::is_stopped(observed, host, folder)
}

fn run_goal(view: &View<'_>, host: &HostView<'_>, target: &Target, heal: bool) -> Goal {
    let by_hand = last_by_hand(host.observed);
    let drain = if heal { None } else { drain::of_running(view.observed, host.observed, Some(target)) };
    let skipped_drain = drain::skipped(view, host).filter(|_| drain.is_some());
    let drain = drain.filter(|_| skipped_drain.is_none());
    let (target, failed_process) = (Box::new(target.clone()), host.failed_process);
    Goal::Run { target, heal, failed_process, by_hand, drain, skipped_drain }
}

fn last_by_hand(host: &HostObserved) -> Option<u64> {
    host.view()?.folder.by_hand.as_ref().map(|act| act.journal)
}

fn is_unowned(host: &HostView<'_>, target: &Target) -> bool {
    host.observed.view().is_some_and(|facts| steps::is_unowned(&facts.folder, target))
}

fn is_update(state: &HostState) -> bool {
    matches!(state, HostState::Updating { .. })
}

fn is_busy_with(host: &HostView<'_>, kind: GoalKind, target: &Target) -> bool {
    let goal = AssignmentId { kind, rollout: target.rollout.clone(), attempt: target.attempt };
    host.observed.task.as_ref().is_some_and(|task| task.goal == goal)
}
