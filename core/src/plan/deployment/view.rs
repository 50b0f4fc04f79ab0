//! What one decision looks at: every selected host and its state, and the rollout that they are on. Made once; it borrows.

use std::collections::HashMap;

use super::{
    host_state::{self, HostState},
    observed::{HostObserved, Observed},
    rollout::ActiveRollout,
    target::Target,
    targets::{Targets, list_names},
};
use crate::{
    api::deployment::{DeploymentStatus, RolloutException},
    model::{Failure, rollout::HostFailure},
};

pub struct View<'a> {
    pub observed: &'a Observed,
    pub targets: &'a Targets<'a>,
    /// The selected hosts, in the group's order.
    pub hosts: Vec<HostView<'a>>,
    pub rollout: Option<ActiveRollout>,
    /// What the rollout brings to a host.
    pub target: Option<Target>,
    /// Why the spec can't be met now: no new update begins, what runs is watched and healed.
    pub unmet: Option<Failure>,
    /// The status as it was read.
    pub before: &'a DeploymentStatus,
}

/// One selected host.
pub struct HostView<'a> {
    pub name: &'a str,
    pub observed: &'a HostObserved,
    pub state: HostState,
    /// What the status said of it.
    pub exception: Option<&'a RolloutException>,
}

impl<'a> View<'a> {
    pub fn new(
        observed: &'a Observed,
        targets: &'a Targets<'a>,
        rollout: Option<ActiveRollout>,
        unmet: Option<Failure>,
    ) -> Self {
        let before = observed.before();
        let target = rollout.as_ref().map(|rollout| rollout.target(observed));
        let exceptions: HashMap<&str, &RolloutException> =
            before.exceptions.iter().map(|exception| (exception.host.as_str(), exception)).collect();
        let failures = failures(observed, target.as_ref());
        let host_view = |host: &&'a crate::api::hostgroup::Host| {
            let name = host.name.as_str();
            let exception = exceptions.get(name).copied();
            let host = observed.host(name);
            let input = host_state::StateInput {
                observed,
                host,
                target: target.as_ref(),
                failure: failures.get(name).copied(),
                exception,
            };
            HostView { name, observed: host, state: input.state(), exception }
        };
        let hosts = targets.hosts.iter().map(host_view).collect();
        Self { observed, targets, hosts, rollout, target, unmet, before }
    }

    /// How many hosts are so.
    pub fn number(&self, fits: impl Fn(&HostState) -> bool) -> usize {
        self.hosts.iter().filter(|host| fits(&host.state)).count()
    }

    /// Names of the hosts that are so, for a message.
    pub fn names(&self, fits: impl Fn(&HostState) -> bool) -> String {
        let names: Vec<&str> = self.hosts.iter().filter(|host| fits(&host.state)).map(|host| host.name).collect();
        list_names(&names)
    }

    /// Whether any host failed in this attempt by what was done there; that stands until a retry.
    pub fn any_failure_recorded(&self) -> bool {
        self.rollout.as_ref().is_some_and(|active| host_state::any_failed(self.observed, &active.rollout))
    }
}

/// Failures of this attempt, by host.
fn failures<'a>(observed: &'a Observed, target: Option<&Target>) -> HashMap<&'a str, &'a HostFailure> {
    let Some(target) = target else { return HashMap::new() };
    let current = |failure: &&HostFailure| failure.rollout == target.rollout && failure.attempt == target.attempt;
    // The first of a host stands.
    let newest_first = observed.verdicts.iter().rev().filter(current);
    newest_first.map(|failure| (failure.host.as_str(), failure)).collect()
}
