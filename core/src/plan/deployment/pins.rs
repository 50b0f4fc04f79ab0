//! Pins: which hosts have another version than the one of the spec, and what a host's target is by that. It must not decide when a host
//! is updated.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    deployable::deployable,
    observed::{Group, Observed},
    references::{hashes, references},
    select::matches,
    target::Configured,
    value::effective_env,
};
use crate::{
    api::{
        Reason,
        deployment::{DeploymentSpec, Pin},
        hostgroup::Host,
    },
    model::{
        Failure,
        rollout::{PinnedHosts, PinnedRelease},
        version::VersionRecord,
    },
    plan::list_names,
};

/// Hosts that are pinned to one version, with what is wrong with it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pinned {
    pub hosts: PinnedHosts,
    /// Why its version can't be deployed: its hosts wait, and the others go on.
    pub unmet: Option<Failure>,
}

impl Pin {
    /// Whether it has not ended.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.until.as_ref().is_none_or(|until| until.0 > now)
    }
}

/// Hosts with a pin, one entry for each version, by its name; or why no pin can be relied on.
pub(crate) fn in_force(
    observed: &Observed,
    group: &Group,
    selected: &[&Host],
    now: Timestamp,
) -> Result<Vec<Pinned>, Failure> {
    let left = left(observed, selected);
    let mut pin_of: BTreeMap<&str, usize> = BTreeMap::new();
    let mut versions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (n, pin) in observed.spec.pins.iter().enumerate().filter(|(_, pin)| pin.is_in_force(now)) {
        let gone = left.get(pin.version.as_str());
        let hosts = hosts(observed, n, selected, gone)?;
        for host in &hosts {
            if let Some(other) = pin_of.insert(host, n) {
                return Err(pinned_twice(observed, host, other, n));
            }
        }
        let of_version = versions.entry(&pin.version).or_default();
        of_version.extend(hosts.into_iter().map(str::to_owned));
        of_version.extend(gone.into_iter().flatten().filter(|host| is_named(pin, host)).cloned());
    }
    let pinned = versions.into_iter().map(|(version, hosts)| match deployable(observed, version) {
        Ok(record) => {
            let release = Some(release(observed, group, record));
            Pinned { hosts: PinnedHosts { version: version.to_owned(), hosts, release }, unmet: None }
        }
        Err(failure) => {
            let hosts = PinnedHosts { version: version.to_owned(), hosts, release: None };
            Pinned { hosts, unmet: Some(failure) }
        }
    });
    Ok(pinned.collect())
}

/// Hosts of pins of the newest revision that are not selected any more, by version.
fn left<'a>(observed: &'a Observed, selected: &[&Host]) -> BTreeMap<&'a str, BTreeSet<String>> {
    let newest = observed.records.iter().max_by_key(|record| record.revision);
    let is_selected = |name: &String| selected.iter().any(|host| host.name == *name);
    let left = |pinned: &'a PinnedHosts| {
        let hosts = pinned.hosts.iter().filter(|host| !is_selected(host)).cloned();
        (pinned.version.as_str(), hosts.collect())
    };
    newest.into_iter().flat_map(|record| &record.pinned).map(left).collect()
}

/// A pin by labels keeps hosts that left: which labels they would have, nobody knows.
fn is_named(pin: &Pin, host: &str) -> bool {
    pin.hosts.names.as_ref().is_none_or(|names| names.iter().any(|name| name == host))
}

/// Selected hosts of one pin. `gone`: hosts of its version that have left since it took effect.
fn hosts<'a>(
    observed: &Observed,
    n: usize,
    selected: &[&'a Host],
    gone: Option<&BTreeSet<String>>,
) -> Result<Vec<&'a str>, Failure> {
    let pin = &observed.spec.pins[n];
    let (version, deployment) = (&pin.version, &observed.name);
    let has_left = |name: &String| gone.is_some_and(|gone| gone.contains(name));
    let unknown = pin.hosts.names.iter().flatten().filter(|name| !selected.iter().any(|host| host.name == **name));
    let unknown: Vec<&String> = unknown.filter(|name| !has_left(name)).collect();
    if !unknown.is_empty() {
        let text = format!(
            "spec.pins[{n}].hosts.names: Deployment {deployment} selects no host {}, which is pinned to {version}; correct the name, or \
             remove it. No update begins meanwhile",
            list_names(&unknown)
        );
        return Err(Failure::terminal(Reason::HostsNotFound, text));
    }
    let hosts: Vec<&str> =
        selected.iter().filter(|host| matches(&pin.hosts, host)).map(|host| host.name.as_str()).collect();
    if hosts.is_empty() && gone.is_none_or(BTreeSet::is_empty) {
        let text = format!(
            "spec.pins[{n}].hosts: no host of Deployment {deployment} has these labels, so none is pinned to {version}; correct the \
             selector, or remove the pin. No update begins meanwhile"
        );
        return Err(Failure::terminal(Reason::NoHosts, text));
    }
    Ok(hosts)
}

fn pinned_twice(observed: &Observed, host: &str, one: usize, two: usize) -> Failure {
    let name = |n: usize| {
        let Pin { version, reason, .. } = &observed.spec.pins[n];
        format!("spec.pins[{n}] to {version} ({reason})")
    };
    let text = format!(
        "host {host} is pinned twice: by {} and by {}; take it out of one of the two. No update begins meanwhile",
        name(one),
        name(two)
    );
    Failure::terminal(Reason::HostPinnedTwice, text)
}

fn release(observed: &Observed, group: &Group, version: &VersionRecord) -> PinnedRelease {
    PinnedRelease {
        commit: version.commit.clone(),
        digest: version.digest.clone(),
        size: version.size,
        env: effective_env(&version.run.env, &group.env, &observed.spec.env),
        values: hashes(observed, &references(&observed.spec, group, version)),
        run: version.run.clone(),
    }
}

impl PinnedRelease {
    pub(crate) fn configured(&self) -> Configured<'_> {
        Configured { digest: &self.digest, env: &self.env, values: &self.values }
    }
}

/// The time until a pin ends: its hosts are updated then, and nothing else would wake the Deployment.
pub(crate) fn next_end(spec: &DeploymentSpec, now: Timestamp) -> Option<Duration> {
    let ends = spec.pins.iter().filter_map(|pin| pin.until.as_ref()).filter(|until| until.0 > now);
    let left = ends.map(|until| until.0.duration_since(now)).min()?;
    // Whole seconds, and none too early.
    Some(Duration::from_secs(u64::try_from(left.as_secs()).unwrap_or(0).saturating_add(1)))
}

/// Versions of the hosts that a pin in force gives one, for a screen. A spec that is refused pins what it can.
pub fn pinned_versions<'a>(spec: &'a DeploymentSpec, hosts: &'a [Host], now: Timestamp) -> BTreeMap<&'a str, &'a str> {
    let pins = spec.pins.iter().filter(|pin| pin.is_in_force(now));
    let of_pin = |pin: &'a Pin| {
        let hosts = hosts.iter().filter(|host| matches(&pin.hosts, host));
        hosts.map(|host| (host.name.as_str(), pin.version.as_str()))
    };
    pins.flat_map(of_pin).collect()
}
