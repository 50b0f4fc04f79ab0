//! What is known of every host: groups as they are watched now, and the newest check of each of their hosts.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::{
    config::{GroupConfig, HostKey},
    slot::ConnectionSlot,
    workers::HostWorkers,
};
use crate::{
    effects::clock,
    fleet::{Budgets, Connections, JumpRoute},
    model::{
        Class, Failure,
        facts::{FolderFacts, HostFacts},
        ids::FolderName,
    },
    plan::hostgroup::HostCheck,
};

/// Cheap to clone; all clones share one content.
#[derive(Clone, Default)]
pub struct Registry {
    groups: Arc<Mutex<HashMap<(String, String), Group>>>,
    /// What is being done on hosts.
    pub workers: HostWorkers,
}

#[derive(Default)]
struct Group {
    config: Option<Arc<GroupConfig>>,
    secret: Option<Failure>,
    connections: Option<Connections>,
    route: Option<Arc<JumpRoute>>,
    hosts: HashMap<String, HostEntry>,
}

#[derive(Default)]
struct HostEntry {
    check: HostCheck,
    /// When that was.
    at: Option<Timestamp>,
    /// Nothing was done there since that check.
    fresh: bool,
    /// Number of acts begun there.
    acts: u64,
    slot: Arc<ConnectionSlot>,
    request_check: Arc<Notify>,
    /// Checks that failed in a row.
    failed: u32,
}

/// What a connection is made of.
pub struct Dial {
    pub config: Arc<GroupConfig>,
    pub address: String,
    pub slot: Arc<ConnectionSlot>,
    pub connections: Connections,
    /// Its last check failed.
    pub doubtful: bool,
    pub route: Arc<JumpRoute>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Group>> {
        self.groups.lock()
    }

    fn with<T>(&self, key: &HostKey, read: impl FnOnce(&mut Group, &str) -> T) -> T {
        let mut groups = self.lock();
        let group = groups.entry((key.namespace.clone(), key.group.clone())).or_default();
        read(group, &key.host)
    }

    /// Takes over how a group is reached now, and answers which of its hosts are not watched yet. Those that left are forgotten; their
    /// watchers end. Where the address, the user or the Secrets changed, what was known is dropped.
    pub(crate) fn configure(
        &self,
        namespace: &str,
        group: &str,
        config: GroupConfig,
        budgets: &Budgets,
    ) -> Vec<String> {
        let mut groups = self.lock();
        let known = groups.entry((namespace.to_owned(), group.to_owned())).or_default();
        let old = known.config.replace(Arc::new(config.clone()));
        let (most, hosts) = (config.max_connections, config.hosts.len());
        known.connections.get_or_insert_with(|| budgets.group(most, hosts)).resize(most, hosts);
        known.route.get_or_insert_with(|| Arc::new(JumpRoute::that_stays()));
        known.secret = None;
        known.hosts.retain(|name, _| config.hosts.contains_key(name));
        let mut new = Vec::new();
        for (name, address) in &config.hosts {
            if !known.hosts.contains_key(name) {
                new.push(name.clone());
            }
            let one = known.hosts.entry(name.clone()).or_default();
            let same =
                |old: &GroupConfig| old.hosts.get(name) == Some(address) && old.access_hash == config.access_hash;
            if old.as_deref().is_some_and(|old| !same(old)) {
                one.fresh = false;
                one.check = HostCheck::Unknown;
                one.acts += 1;
            }
            one.request_check.notify_one();
        }
        new
    }

    /// Whether the group is watched with this very configuration.
    pub(crate) fn is_watched(&self, namespace: &str, group: &str, hash: u64) -> bool {
        let groups = self.lock();
        let known = groups.get(&(namespace.to_owned(), group.to_owned()));
        known.and_then(|group| group.config.as_ref()).is_some_and(|config| config.config_hash == hash)
    }

    /// Records why no host of the group can be signed in to; `None`: nothing is in the way.
    pub(crate) fn record_secret_failure(&self, namespace: &str, group: &str, failure: Option<Failure>) {
        self.lock().entry((namespace.to_owned(), group.to_owned())).or_default().secret = failure;
    }

    pub(crate) fn secret_failure(&self, namespace: &str, group: &str) -> Option<Failure> {
        self.lock().get(&(namespace.to_owned(), group.to_owned()))?.secret.clone()
    }

    /// The group is gone: every connection is closed, and its watchers end.
    pub fn forget(&self, namespace: &str, group: &str) {
        self.lock().remove(&(namespace.to_owned(), group.to_owned()));
    }

    /// What is known of a host; `Unknown` where something was done there since its last check.
    pub fn check(&self, key: &HostKey) -> HostCheck {
        self.with(key, |group, host| match group.hosts.get(host) {
            Some(one) if one.fresh => one.check.clone(),
            _ => HostCheck::Unknown,
        })
    }

    /// The newest check, although something may have been done since.
    pub(crate) fn last_check(&self, key: &HostKey) -> HostCheck {
        self.with(key, |group, host| group.hosts.get(host).map(|one| one.check.clone()).unwrap_or_default())
    }

    /// One project's folder on every host of a group, as their newest checks show it.
    pub(crate) fn folders(&self, namespace: &str, group: &str, folder: &FolderName) -> Vec<(String, FolderFacts)> {
        let groups = self.lock();
        let Some(group) = groups.get(&(namespace.to_owned(), group.to_owned())) else { return Vec::new() };
        let of = |(name, host): (&String, &HostEntry)| match &host.check {
            HostCheck::Facts(facts) => Some((name.clone(), facts.folders.get(folder)?.clone())),
            HostCheck::Unknown | HostCheck::Failed(_) => None,
        };
        group.hosts.iter().filter_map(of).collect()
    }

    /// When that check was.
    pub(crate) fn checked_at(&self, key: &HostKey) -> Option<Timestamp> {
        self.with(key, |group, host| group.hosts.get(host)?.at)
    }

    /// Has the watchers of these hosts check them now.
    pub(crate) fn request_check<'a>(&self, namespace: &str, group: &str, hosts: impl IntoIterator<Item = &'a String>) {
        let groups = self.lock();
        let Some(known) = groups.get(&(namespace.to_owned(), group.to_owned())) else { return };
        for one in hosts.into_iter().filter_map(|host| known.hosts.get(host)) {
            one.request_check.notify_one();
        }
    }

    /// From now on what is known of the host is out of date.
    pub(crate) fn begin_act(&self, key: &HostKey) {
        self.with(key, |group, host| {
            if let Some(one) = group.hosts.get_mut(host) {
                one.fresh = false;
                one.acts += 1;
            }
        });
    }

    /// Number of acts begun, for [`Registry::record_check`].
    pub fn acts(&self, key: &HostKey) -> u64 {
        self.with(key, |group, host| group.hosts.get(host).map_or(0, |one| one.acts))
    }

    /// Keeps a check that was begun when `acts` acts had been begun; one that an act overtook is dropped. Answers what depends on
    /// the difference.
    pub(crate) fn record_check(&self, key: &HostKey, check: HostCheck, acts: u64) -> CheckChange {
        self.with(key, |group, host| {
            let Some(one) = group.hosts.get_mut(host).filter(|one| one.acts == acts) else {
                return CheckChange::default();
            };
            let change = CheckChange {
                deployments: !one.fresh || differs(&one.check, &check),
                group: differs(&of_group(&one.check), &of_group(&check)),
            };
            one.failed = match &check {
                // It is waited for.
                HostCheck::Failed(failure) if failure.class == Class::Waiting => one.failed,
                HostCheck::Failed(_) => one.failed.saturating_add(1),
                HostCheck::Facts(_) | HostCheck::Unknown => 0,
            };
            one.check = check;
            one.at = Some(clock::now());
            one.fresh = true;
            change
        })
    }

    /// How a host is dialled; `None` where it is not in a watched group.
    pub(crate) fn dial(&self, key: &HostKey) -> Option<Dial> {
        self.with(key, |group, host| {
            let config = group.config.clone()?;
            let address = config.hosts.get(host)?.clone();
            let one = group.hosts.get(host)?;
            let (slot, doubtful) = (one.slot.clone(), one.failed > 0);
            Some(Dial {
                config,
                address,
                slot,
                connections: group.connections.clone()?,
                doubtful,
                route: group.route.clone()?,
            })
        })
    }

    /// For a watcher: what wakes it, the period, and how many checks failed in a row.
    pub fn watching(&self, key: &HostKey) -> Option<(Arc<Notify>, Duration, u32)> {
        self.with(key, |group, host| {
            let period = group.config.as_ref()?.period;
            let one = group.hosts.get(host)?;
            Some((one.request_check.clone(), period, one.failed))
        })
    }
}

/// Which decisions may differ after a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CheckChange {
    pub deployments: bool,
    pub group: bool,
}

/// The part of a check that a group's status shows: whether the host answers, and which process runs there; not how far an act has come.
fn of_group(check: &HostCheck) -> HostCheck {
    let HostCheck::Facts(facts) = check else { return check.clone() };
    let mut facts = facts.clone();
    for folder in facts.folders.values_mut() {
        *folder = FolderFacts { process: folder.process.take(), ..FolderFacts::default() };
    }
    HostCheck::Facts(facts)
}

/// Whether a planner would see a difference.
fn differs(old: &HostCheck, new: &HostCheck) -> bool {
    match (old, new) {
        (HostCheck::Facts(old), HostCheck::Facts(new)) => settled(old) != settled(new),
        (HostCheck::Failed(old), HostCheck::Failed(new)) => old.reason != new.reason,
        _ => true,
    }
}

/// Facts without what always moves and means nothing to a planner: free space, time, and the words of a failing probe.
fn settled(facts: &HostFacts) -> HostFacts {
    let mut facts = HostFacts { free_bytes: 0, free_inodes: None, uptime: 0, ..facts.clone() };
    let processes = facts.folders.values_mut().filter_map(|folder| folder.process.as_mut());
    for words in processes.filter_map(|process| process.unready.as_mut()) {
        words.clear();
    }
    facts
}
