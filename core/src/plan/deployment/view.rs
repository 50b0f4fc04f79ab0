//! View of one decision: every selected host with its state, and the rollout. Made once; it borrows.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use super::{
    batch_end::BatchEnd,
    by_hand,
    canary::Canary,
    host_state::{HostState, StateInput},
    host_targets::{HostTargets, unmet_pins},
    intent::IntentOnRecord,
    observed::{GoalKind, HostObserved, Observed},
    records::{failed_processes, failures},
    rollout::ActiveRollout,
    target::Target,
    targets::Targets,
};
use crate::{
    api::{
        deployment::{ActByHand, DeploymentStatus, OnFailure, RolloutException},
        hostgroup::Host,
        verbs,
    },
    model::{Failure, rollout::ProcessId},
    plan::list_names,
};

pub struct View<'a> {
    pub observed: &'a Observed,
    pub targets: &'a Targets<'a>,
    /// The selected hosts in service, in the group's order.
    pub hosts: Vec<HostView<'a>>,
    pub rollout: Option<ActiveRollout>,
    /// What the rollout brings to a host without a pin.
    pub target: Option<Arc<Target>>,
    /// Why the spec can't be met now: no new update begins; hosts are watched and healed.
    pub unmet: Option<Failure>,
    /// The status as it was read.
    pub before: &'a DeploymentStatus,
    /// Hosts in `status.exceptions`: display.
    pub exceptions: HashMap<&'a str, &'a RolloutException>,
    /// The last acts by hand on the selected hosts, for the record.
    pub by_hand: Vec<ActByHand>,
    pub canary: Canary,
    pub batch_end: BatchEnd,
}

/// One selected host.
pub(crate) struct HostView<'a> {
    pub name: &'a str,
    pub observed: &'a HostObserved,
    /// What the rollout brings to it; `None` without a rollout, and where its pinned version can't be deployed.
    pub target: Option<Arc<Target>>,
    /// A pin gives it another version than the others have.
    pub is_pinned: bool,
    pub state: HostState,
    /// Its process, where it failed in an earlier attempt.
    pub failed_process: Option<ProcessId>,
    /// It failed before anything that runs was touched, and what ran there has ended since: that is started again.
    pub down_and_failed: bool,
}

impl<'a> View<'a> {
    pub fn new(
        observed: &'a Observed,
        targets: &'a Targets<'a>,
        rollout: Option<ActiveRollout>,
        unmet: Option<Failure>,
    ) -> Self {
        let before = observed.before();
        let host_targets = rollout.as_ref().map(|rollout| HostTargets::new(observed, rollout));
        let target = host_targets.as_ref().map(|targets| targets.others().clone());
        let unmet_pins = unmet_pins(targets);
        let exceptions: HashMap<&str, &RolloutException> =
            before.exceptions.iter().map(|exception| (exception.host.as_str(), exception)).collect();
        let failures = failures(observed, target.as_deref());
        let by_hand = rollout.as_ref().map(|active| by_hand::acts(observed, targets, active)).unwrap_or_default();
        let stands: HashSet<&str> = by_hand.iter().filter(|act| act.stands).map(|act| act.host.as_str()).collect();
        let failed_processes = failed_processes(observed);
        let host_view = |host: &&'a Host| {
            let name = host.name.as_str();
            let host = observed.host(name);
            let target = host_targets.as_ref().and_then(|targets| targets.of(name)).cloned();
            let input = StateInput {
                observed,
                name,
                host,
                target: target.as_deref(),
                unmet_pin: unmet_pins.get(name).copied(),
                intent: rollout.as_ref().map(|rollout| &rollout.intent),
                refused: targets.refused.get(name),
                failure: failures.get(name).copied(),
                exception: exceptions.get(name).copied(),
                stands: stands.contains(name),
            };
            let process = host.running().map(|process| process.id());
            let failed_process = process.filter(|process| failed_processes.contains(&(name, *process)));
            let (state, down_and_failed) = (input.state(), input.is_down_and_failed());
            let is_pinned = rollout.as_ref().is_some_and(|rollout| rollout.record.pin_of(name).is_some());
            HostView { name, observed: host, target, is_pinned, state, failed_process, down_and_failed }
        };
        let hosts = targets.hosts.iter().map(host_view).collect();
        Self {
            observed,
            targets,
            hosts,
            rollout,
            target,
            unmet,
            before,
            exceptions,
            by_hand,
            canary: Canary::default(),
            batch_end: BatchEnd::default(),
        }
    }

    /// Number of failed hosts with which the rollout still goes on.
    pub fn failures_allowed(&self) -> usize {
        let strategy = &self.observed.spec.strategy;
        match strategy.on_failure {
            OnFailure::Continue => usize::MAX,
            OnFailure::Stop | OnFailure::RollBack => usize::try_from(strategy.max_failures).unwrap_or(0),
        }
    }

    /// Number of hosts in such a state.
    pub fn number(&self, fits: impl Fn(&HostState) -> bool) -> usize {
        self.hosts.iter().filter(|host| fits(&host.state)).count()
    }

    /// Names of the hosts in such a state, for a message.
    pub fn names(&self, fits: impl Fn(&HostState) -> bool) -> String {
        let names: Vec<&str> = self.hosts.iter().filter(|host| fits(&host.state)).map(|host| host.name).collect();
        list_names(&names)
    }

    /// The pinned hosts with their versions, for a message: `v1 on web-03`; `None` where no host is pinned.
    pub fn pinned(&self) -> Option<String> {
        let mut by_version: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let record = &self.rollout.as_ref()?.record;
        for host in &self.hosts {
            if let Some(pinned) = record.pin_of(host.name) {
                by_version.entry(&pinned.version).or_default().push(host.name);
            }
        }
        let words: Vec<String> =
            by_version.iter().map(|(version, hosts)| format!("{version} on {}", list_names(hosts))).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// Whether any host was given this rollout: it runs it, ran it, or is being updated to it.
    pub fn has_begun(&self) -> bool {
        let Some(target) = &self.target else { return false };
        let begun = |host: &HostView<'_>| {
            let task = host.observed.task.as_ref().map(|task| &task.goal);
            let updates = task.is_some_and(|goal| goal.kind == GoalKind::Run && goal.rollout == target.rollout);
            let process = host.observed.view().and_then(|view| view.folder.process.as_ref());
            updates || process.is_some_and(|process| process.uid == target.uid && process.rollout == target.rollout)
        };
        self.hosts.iter().any(begun)
    }

    /// Hosts whose update may have begun: the intent is missing, and they do not answer.
    pub(crate) fn possibly_updating(&self) -> Vec<&'a str> {
        let missing = self.rollout.as_ref().is_some_and(|active| active.intent == IntentOnRecord::Missing);
        let (annotations, handled) = (&self.observed.annotations, &self.before.last_handled);
        let retry_asked = verbs::asked(verbs::RETRY, annotations, handled, self.observed.is_first_decision()).is_some();
        if !missing || retry_asked {
            return Vec::new();
        }
        let silent = |host: &&HostView<'a>| matches!(host.state, HostState::Unreachable(_) | HostState::Unknown);
        self.hosts.iter().filter(silent).map(|host| host.name).collect()
    }
}

impl HostView<'_> {
    /// It lacks the release, and the first update waits for it: one whose line was too slow once does not count.
    pub(crate) fn is_waited_for(&self) -> bool {
        matches!(self.state, HostState::Staging | HostState::Unstaged) && self.observed.slow.is_none()
    }

    /// Its application serves, of the target or of an earlier release, and no update of the host is under way.
    pub(crate) fn is_available(&self) -> bool {
        match self.state {
            HostState::Ready | HostState::ByHand { serves: true } => true,
            HostState::Pending
            | HostState::Unstaged
            | HostState::Staging
            | HostState::Slow(_)
            | HostState::UnmetPin(_) => self.observed.is_serving(),
            _ => false,
        }
    }
}
