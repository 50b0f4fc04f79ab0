//! The target of each host of a rollout: that of the spec's version, or of the version that it is pinned to.

use std::{collections::BTreeMap, sync::Arc};

use super::{observed::Observed, pins::Pinned, rollout::ActiveRollout, target::Target, targets::Targets};
use crate::model::Failure;

/// Targets of the hosts of a rollout: one of the spec's version, and one for each pinned version.
pub(crate) struct HostTargets {
    others: Arc<Target>,
    /// `None`: the version could not be deployed.
    pinned: BTreeMap<String, Option<Arc<Target>>>,
}

impl HostTargets {
    pub fn new(observed: &Observed, rollout: &ActiveRollout) -> Self {
        let mut pinned = BTreeMap::new();
        for of_version in &rollout.record.pinned {
            let mut target = None;
            for host in &of_version.hosts {
                if target.is_none() {
                    let record = rollout.record.on_host(host);
                    target = record.map(|record| Arc::new(rollout.target_of(observed, &record)));
                }
                pinned.insert(host.clone(), target.clone());
            }
        }
        Self { others: Arc::new(rollout.target_of(observed, &rollout.record)), pinned }
    }

    /// What this host is to run; `None` where its pinned version can't be deployed.
    pub fn of(&self, host: &str) -> Option<&Arc<Target>> {
        match self.pinned.get(host) {
            Some(target) => target.as_ref(),
            None => Some(&self.others),
        }
    }

    /// That of all hosts without a pin.
    pub fn others(&self) -> &Arc<Target> {
        &self.others
    }
}

/// Why hosts have no target, by name: what they are pinned to can't be deployed.
pub(crate) fn unmet_pins<'a>(targets: &'a Targets<'_>) -> BTreeMap<&'a str, &'a Failure> {
    let of_version = |pinned: &'a Pinned| {
        let unmet = pinned.unmet.as_ref();
        pinned.hosts.hosts.iter().filter_map(move |host| Some((host.as_str(), unmet?)))
    };
    targets.pins.iter().flat_map(of_version).collect()
}
