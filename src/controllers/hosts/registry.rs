//! The facts memory: groups as they are watched now, and the newest look at each of their hosts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore};

use super::{jump_route::JumpRoute, link::ConnectionSlot, workers::HostWorkers};
use crate::{
    api::hostgroup::Become,
    effects::{
        clock,
        ssh::{Credentials, SshTarget},
    },
    model::{Failure, facts::FolderFacts},
    plan::hostgroup::HostCheck,
};

/// One host of one group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostKey {
    pub namespace: String,
    pub group: String,
    pub host: String,
}

impl HostKey {
    pub fn new(namespace: &str, group: &str, host: &str) -> Self {
        Self { namespace: namespace.to_owned(), group: group.to_owned(), host: host.to_owned() }
    }
}

/// How the hosts of a group are reached, as spec and Secrets say at the moment.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// Changes with anything below.
    pub mark: u64,
    /// Changes with what decides whether, and as which user, landfall signs in on a host: earlier observations no longer count then.
    pub way_in: u64,
    pub user: String,
    pub port: u16,
    pub connect_timeout: Duration,
    pub most_connections: usize,
    pub root: String,
    pub period: Duration,
    pub credentials: Credentials,
    /// The hosts that the way leads through, in this order.
    pub jumps: Vec<SshTarget>,
    /// Users that applications may run as.
    pub r#become: Become,
    /// Name → address.
    pub hosts: BTreeMap<String, String>,
}

impl GroupConfig {
    pub fn target(&self, address: &str) -> SshTarget {
        SshTarget {
            address: address.to_owned(),
            port: self.port,
            user: self.user.clone(),
            connect_timeout: self.connect_timeout,
        }
    }

    /// From the first packet to the helper script found: whatever a host says meanwhile, it takes no longer.
    pub(crate) fn sign_in_limit(&self) -> Duration {
        (self.connect_timeout * 2 + Duration::from_secs(10)).max(Duration::from_secs(30))
    }

    /// Every host may keep its connection; else each is closed after its use.
    pub(crate) fn keeps_connections(&self) -> bool {
        self.hosts.len() <= self.most_connections
    }
}

/// Cheap to clone; all clones are one memory.
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
    permits: Option<Permits>,
    route: Arc<JumpRoute>,
    hosts: HashMap<String, HostEntry>,
}

#[derive(Default)]
struct HostEntry {
    check: HostCheck,
    /// When that was.
    at: Option<Timestamp>,
    /// Nothing was done there since that look.
    fresh: bool,
    /// Acts that were begun there.
    acts: u64,
    slot: Arc<ConnectionSlot>,
    request_check: Arc<Notify>,
    /// Looks that were missed in a row.
    missed: u32,
}

/// What a connection is made of.
pub struct Dial {
    pub config: Arc<GroupConfig>,
    pub address: String,
    pub slot: Arc<ConnectionSlot>,
    pub permits: Permits,
    /// The last look at it was missed, and there are fewer permits than hosts.
    pub doubtful: bool,
    pub route: Arc<JumpRoute>,
}

/// The right to have a connection. Hosts that did not answer lately share a quarter of it: each may hold what it has until the last
/// deadline, and a group full of them must not keep the others waiting.
#[derive(Clone)]
pub(crate) struct Permits {
    pub all: Arc<Semaphore>,
    pub doubtful: Arc<Semaphore>,
}

impl Permits {
    fn new(most: usize) -> Self {
        let of = |n: usize| Arc::new(Semaphore::new(n.max(1)));
        Self { all: of(most), doubtful: of(most / 4) }
    }
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

    /// Takes over how a group is reached now, and answers which of its hosts nobody watches yet. Those that left are forgotten; their
    /// watchers notice. Where the address, the user or the Secrets changed, what was known is dropped.
    pub(crate) fn configure(&self, namespace: &str, group: &str, config: GroupConfig) -> Vec<String> {
        let mut groups = self.lock();
        let known = groups.entry((namespace.to_owned(), group.to_owned())).or_default();
        let old = known.config.replace(Arc::new(config.clone()));
        if old.as_ref().is_none_or(|old| old.most_connections != config.most_connections) {
            known.permits = Some(Permits::new(config.most_connections));
        }
        known.secret = None;
        known.hosts.retain(|name, _| config.hosts.contains_key(name));
        let mut new = Vec::new();
        for (name, address) in &config.hosts {
            if !known.hosts.contains_key(name) {
                new.push(name.clone());
            }
            let one = known.hosts.entry(name.clone()).or_default();
            let same = |old: &GroupConfig| old.hosts.get(name) == Some(address) && old.way_in == config.way_in;
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
    pub(crate) fn is_watched(&self, namespace: &str, group: &str, mark: u64) -> bool {
        let groups = self.lock();
        let known = groups.get(&(namespace.to_owned(), group.to_owned()));
        known.and_then(|group| group.config.as_ref()).is_some_and(|config| config.mark == mark)
    }

    /// Notes whether anybody can log in at all.
    pub(crate) fn record_secret_failure(&self, namespace: &str, group: &str, failure: Option<Failure>) {
        self.lock().entry((namespace.to_owned(), group.to_owned())).or_default().secret = failure;
    }

    pub(crate) fn secret_failure(&self, namespace: &str, group: &str) -> Option<Failure> {
        self.lock().get(&(namespace.to_owned(), group.to_owned()))?.secret.clone()
    }

    /// The group is gone: every connection is closed, its watchers end.
    pub fn forget(&self, namespace: &str, group: &str) {
        self.lock().remove(&(namespace.to_owned(), group.to_owned()));
    }

    /// What is known of a host; `Unknown` where something was done there since it was looked at.
    pub fn check(&self, key: &HostKey) -> HostCheck {
        self.with(key, |group, host| match group.hosts.get(host) {
            Some(one) if one.fresh => one.check.clone(),
            _ => HostCheck::Unknown,
        })
    }

    /// The newest look, although something may have been done since.
    pub(crate) fn last_check(&self, key: &HostKey) -> HostCheck {
        self.with(key, |group, host| group.hosts.get(host).map(|one| one.check.clone()).unwrap_or_default())
    }

    /// When that look was.
    pub(crate) fn checked_at(&self, key: &HostKey) -> Option<Timestamp> {
        self.with(key, |group, host| group.hosts.get(host)?.at)
    }

    /// Asks the watchers of these hosts to look now.
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

    /// How many acts were begun; [`Registry::record_check`] takes it back.
    pub fn acts(&self, key: &HostKey) -> u64 {
        self.with(key, |group, host| group.hosts.get(host).map_or(0, |one| one.acts))
    }

    /// Keeps a look that was begun when `acts` acts had been; one that an act overtook is dropped. Answers to whom it told
    /// anything new.
    pub(crate) fn record_check(&self, key: &HostKey, check: HostCheck, acts: u64) -> CheckChange {
        self.with(key, |group, host| {
            let Some(one) = group.hosts.get_mut(host).filter(|one| one.acts == acts) else {
                return CheckChange::default();
            };
            let change = CheckChange {
                deployments: !one.fresh || differs(&one.check, &check),
                group: differs(&of_group(&one.check), &of_group(&check)),
            };
            one.missed = if matches!(check, HostCheck::Failed(_)) { one.missed.saturating_add(1) } else { 0 };
            one.check = check;
            one.at = Some(clock::now());
            one.fresh = true;
            change
        })
    }

    /// How a host is dialled; `None` where it is no host of a watched group (any more).
    pub(crate) fn dial(&self, key: &HostKey) -> Option<Dial> {
        self.with(key, |group, host| {
            let config = group.config.clone()?;
            let address = config.hosts.get(host)?.clone();
            let one = group.hosts.get(host)?;
            // Where there is one for each host nobody takes any from another.
            let (slot, doubtful) = (one.slot.clone(), one.missed > 0 && !config.keeps_connections());
            Some(Dial { config, address, slot, permits: group.permits.clone()?, doubtful, route: group.route.clone() })
        })
    }

    /// For a watcher: what wakes it, the period, and how often in a row its host was missed.
    pub fn watching(&self, key: &HostKey) -> Option<(Arc<Notify>, Duration, u32)> {
        self.with(key, |group, host| {
            let period = group.config.as_ref()?.period;
            let one = group.hosts.get(host)?;
            Some((one.request_check.clone(), period, one.missed))
        })
    }
}

/// Who would decide otherwise after a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CheckChange {
    pub deployments: bool,
    pub group: bool,
}

/// The part of a look that a group tells of: whether the host answers, and which process runs there; not how far an act has come.
fn of_group(check: &HostCheck) -> HostCheck {
    let HostCheck::Facts(facts) = check else { return check.clone() };
    let mut facts = facts.clone();
    for folder in facts.folders.values_mut() {
        *folder = FolderFacts { process: folder.process.take(), ..FolderFacts::default() };
    }
    HostCheck::Facts(facts)
}

/// Whether a planner would see a difference. Free space and time move always and mean nothing to it.
fn differs(old: &HostCheck, new: &HostCheck) -> bool {
    match (old, new) {
        (HostCheck::Facts(old), HostCheck::Facts(new)) => {
            let mut old = old.clone();
            old.free_bytes = new.free_bytes;
            old.free_inodes = new.free_inodes;
            (old.uptime, old.rotated) = (new.uptime, new.rotated);
            old != *new
        }
        (HostCheck::Failed(old), HostCheck::Failed(new)) => old.reason != new.reason,
        _ => true,
    }
}
