//! Groups as they are watched now, and what the fleet knows of each of their hosts. It reads and passes on; it asks no host.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::{
    check::{self, Differs, differs, differs_for_group},
    config::{GroupConfig, GroupKey, HostKey},
    ledger::Ledger,
    users::HostUsers,
    workers::{HostWorkerKey, HostWorkers},
};
use crate::{
    api::Reason,
    controllers::frame::Requeue,
    effects::{
        clock,
        host::{HostError, folder_name},
        program::{LogPart, LogStream, ProgramError},
    },
    fleet::{Changed, Fleet, FleetError, Hold, HostId, Known, Link, NoSession, Order, Outcome, Priority, Ticket, Work},
    model::{
        Failure,
        facts::{FolderFacts, HostFacts},
        ids::{FolderName, Owner},
    },
    plan::hostgroup::HostCheck,
};

/// How long a look may take beyond the wait for its session.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// The hosts of all groups. One for all kinds of one operator.
pub struct Hosts {
    fleet: Fleet,
    requeue: Requeue,
    /// Uid of the namespace `kube-system`: which control plane this is.
    pub control_plane_id: String,
    /// What is being done on hosts.
    pub workers: HostWorkers,
    /// Which hosts are in an update, over all Deployments of a group.
    pub(crate) ledger: Ledger,
    groups: Mutex<HashMap<(String, String), Group>>,
    users: HostUsers,
}

#[derive(Default)]
struct Group {
    config: Option<Arc<GroupConfig>>,
    secret: Option<Failure>,
    /// Since when it is that failure.
    secret_since: Option<Instant>,
    /// What whoever is woken was woken for last, by host.
    told: HashMap<String, Told>,
}

#[derive(Default)]
struct Told {
    check: HostCheck,
    version: u64,
}

/// How a host is reached.
pub struct Reach {
    pub config: Arc<GroupConfig>,
    pub address: String,
}

impl Hosts {
    pub fn new(fleet: Fleet, requeue: Requeue, control_plane_id: String) -> Self {
        let (workers, groups, users) = (HostWorkers::default(), Mutex::default(), HostUsers::default());
        Self { fleet, requeue, control_plane_id, workers, ledger: Ledger::default(), groups, users }
    }

    fn with<T>(&self, namespace: &str, group: &str, read: impl FnOnce(&mut Group) -> T) -> T {
        read(self.groups.lock().entry((namespace.to_owned(), group.to_owned())).or_default())
    }

    fn read<T>(&self, namespace: &str, group: &str, read: impl FnOnce(&Group) -> Option<T>) -> Option<T> {
        self.groups.lock().get(&(namespace.to_owned(), group.to_owned())).and_then(read)
    }

    /// Takes over how a group is reached now. Hosts that left are forgotten with their connections; where the address, the user or the Secrets
    /// changed, what was known is dropped. Where it has no key every connection is closed; what was begun on a host goes on there.
    pub(crate) fn configure(&self, namespace: &str, group: &str, config: GroupConfig) {
        let config = Arc::new(config);
        let (access, replaced) = self.with(namespace, group, |known| {
            let old = known.config.replace(config.clone());
            let replaced = old.filter(|old| old.uid != config.uid);
            if replaced.is_some() {
                known.told.clear();
            }
            known.told.retain(|name, _| config.key.is_some() && config.hosts.contains_key(name));
            (config.access(namespace), replaced)
        });
        // A group that was deleted and made again is another one.
        if let Some(replaced) = replaced {
            self.fleet.forget(namespace, &replaced.uid);
        }
        let Some(access) = access else {
            self.fleet.forget(namespace, &config.uid);
            return self.wake_group(namespace, group);
        };
        self.fleet.configure(namespace, &config.uid, access);
        self.request_check(namespace, group, config.hosts.keys());
    }

    /// Wakes the group and whoever reads its hosts.
    fn wake_group(&self, namespace: &str, group: &str) {
        self.requeue.host_group(namespace, group);
        self.wake(&HostKey::new(namespace, group, ""), &Differs::Host);
    }

    /// The key that the group's hosts are signed in to with, and their addresses.
    pub(crate) fn key(&self, namespace: &str, group: &str, uid: &str) -> Option<(GroupKey, BTreeMap<String, String>)> {
        self.read(namespace, group, |group| {
            let config = group.config.as_ref().filter(|config| config.uid == uid)?;
            Some((config.key.clone()?, config.hosts.clone()))
        })
    }

    /// Whether the group is watched with this very configuration.
    pub(crate) fn is_watched(&self, namespace: &str, group: &str, hash: u64) -> bool {
        self.read(namespace, group, |group| Some(group.config.as_ref()?.config_hash == hash)).unwrap_or_default()
    }

    /// Records why no host of the group can be signed in to; `None`: nothing is in the way.
    pub(crate) fn record_secret_failure(&self, namespace: &str, group: &str, failure: Option<Failure>) {
        self.with(namespace, group, |group| {
            let reason = |failure: &Option<Failure>| failure.as_ref().map(|failure| failure.reason);
            if reason(&group.secret) != reason(&failure) {
                group.secret_since = failure.is_some().then(clock::monotonic);
            }
            group.secret = failure;
        });
    }

    /// How long no host of the group can be signed in to for this reason.
    pub(crate) fn secret_refused_for(&self, namespace: &str, group: &str, reason: Reason) -> Duration {
        let since = self.read(namespace, group, |group| {
            group.secret.as_ref().filter(|failure| failure.reason == reason)?;
            group.secret_since
        });
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    pub(crate) fn secret_failure(&self, namespace: &str, group: &str) -> Option<Failure> {
        self.read(namespace, group, |group| group.secret.clone())
    }

    /// The group is gone: every connection is closed.
    pub fn forget(&self, namespace: &str, group: &str) {
        let name = (namespace.to_owned(), group.to_owned());
        self.ledger.forget_group(&name);
        let gone = self.groups.lock().remove(&name);
        if let Some(config) = gone.and_then(|group| group.config) {
            self.fleet.forget(namespace, &config.uid);
        }
    }

    /// The same, where it is the group of this uid that is known.
    pub(crate) fn forget_of(&self, namespace: &str, group: &str, uid: &str) {
        let is_known = self.read(namespace, group, |group| Some(group.config.as_ref()?.uid == uid)).unwrap_or_default();
        if is_known {
            self.forget(namespace, group);
        }
    }

    /// This operator does not lead any more: every connection is closed.
    pub(crate) fn forget_all(&self) {
        self.groups.lock().clear();
        self.fleet.forget_all();
    }

    fn id(&self, key: &HostKey) -> Option<HostId> {
        self.read(&key.namespace, &key.group, |group| {
            Some(HostId::new(&key.namespace, &group.config.as_ref()?.uid, &key.host))
        })
    }

    fn known(&self, key: &HostKey) -> Option<Known> {
        self.fleet.known(&self.id(key)?)
    }

    /// What is known of a host.
    pub fn check(&self, key: &HostKey) -> HostCheck {
        self.known(key).map_or_else(|| self.check_of_absent(key), |known| check::check(&key.host, &known))
    }

    /// Of a host that the fleet does not have: the key to it was taken away, or it is not dialled yet.
    fn check_of_absent(&self, key: &HostKey) -> HostCheck {
        let withdrawn = self.read(&key.namespace, &key.group, |group| {
            let config = group.config.as_ref().filter(|config| config.is_withdrawn)?;
            group.secret.clone().filter(|_| config.hosts.contains_key(&key.host))
        });
        withdrawn.map_or(HostCheck::Unknown, HostCheck::Failed)
    }

    /// The same, and when its uptime was so.
    pub(crate) fn check_and_time(&self, key: &HostKey) -> (HostCheck, Option<Timestamp>) {
        match self.known(key) {
            Some(known) => (check::check(&key.host, &known), known.told_at),
            None => (self.check_of_absent(key), None),
        }
    }

    /// The same, and when the host said something last.
    pub(crate) fn check_and_heard(&self, key: &HostKey) -> (HostCheck, Option<Timestamp>) {
        match self.known(key) {
            Some(known) => (check::check(&key.host, &known), known.heard_at),
            None => (self.check_of_absent(key), None),
        }
    }

    /// One project's folder on every host of a group, as they told last.
    pub(crate) fn folders(&self, namespace: &str, group: &str, folder: &FolderName) -> Vec<(String, FolderFacts)> {
        let config = self.read(namespace, group, |group| group.config.clone());
        let hosts = config.iter().flat_map(|config| config.hosts.keys().map(|host| (&config.uid, host)));
        let of = |(uid, host): (&String, &String)| {
            let known = self.fleet.known(&HostId::new(namespace, uid, host))?;
            let reached = !matches!(known.link, Link::Lost(_));
            let facts = known.host.filter(|_| reached)?;
            Some((host.clone(), facts.folders.get(folder)?.clone()))
        };
        hosts.filter_map(of).collect()
    }

    /// Folders of a host that fit, as it told last, where it is not lost.
    pub(crate) fn folders_that(&self, key: &HostKey, fit: impl Fn(&FolderFacts) -> bool) -> Vec<FolderName> {
        let known = self.known(key).filter(|known| !matches!(known.link, Link::Lost(_)));
        let facts = known.and_then(|known| known.host);
        let folders = facts.iter().flat_map(|facts| &facts.folders);
        folders.filter(|(_, facts)| fit(facts)).map(|(name, _)| name.clone()).collect()
    }

    /// What the host told over the session that it has now: the host refuses acts that are planned on an older view.
    pub(crate) fn facts(&self, key: &HostKey) -> Option<Arc<HostFacts>> {
        self.known(key).filter(|known| matches!(known.link, Link::Connected)).and_then(|known| known.host)
    }

    pub(crate) fn is_lost(&self, key: &HostKey) -> bool {
        self.known(key).is_none_or(|known| matches!(known.link, Link::Lost(_)))
    }

    /// How a host is reached; `None` where it is not in a watched group.
    pub(crate) fn reach(&self, key: &HostKey) -> Option<Reach> {
        self.read(&key.namespace, &key.group, |group| {
            let config = group.config.clone()?;
            let address = config.hosts.get(&key.host)?.clone();
            Some(Reach { config, address })
        })
    }

    /// Has these hosts looked at now, or dialled where they are waited for.
    pub(crate) fn request_check<'a>(&self, namespace: &str, group: &str, hosts: impl IntoIterator<Item = &'a String>) {
        let uid = self.read(namespace, group, |group| Some(group.config.as_ref()?.uid.clone()));
        let Some(uid) = uid else { return };
        for host in hosts {
            self.fleet.look_now(&HostId::new(namespace, &uid, host));
        }
    }

    /// Closes the connection and has another one made: its key is checked again.
    pub(crate) fn renew(&self, key: &HostKey) {
        if let Some(id) = self.id(key) {
            self.fleet.renew(&id);
        }
    }

    pub(crate) fn submit(&self, key: &HostKey, order: Order) -> Result<Ticket, FleetError> {
        let id = self.id(key).ok_or(FleetError::Forgotten)?;
        Ok(self.fleet.submit(&id, order))
    }

    /// Keeps the connection open while one who has several orders has this.
    pub(crate) fn hold(&self, key: &HostKey) -> Option<Hold> {
        self.fleet.hold(&self.id(key)?)
    }

    /// Looks at a host, after a wait of `patience` for its session.
    pub(crate) async fn look(&self, key: &HostKey, patience: Duration) -> Result<Arc<HostFacts>, FleetError> {
        let ticket = self.submit(key, Order { priority: Priority::Look, work: Work::Look, patience })?;
        match tokio::time::timeout(patience + LOOK_TIMEOUT, ticket.done()).await {
            Ok(Ok(Outcome::Done | Outcome::Ended { .. })) => self.facts(key).ok_or(FleetError::NotReachedYet),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(FleetError::NotReachedYet),
        }
    }

    /// Opens an application's log for people, over the session that there is.
    pub(crate) async fn log(&self, key: &HostKey, folder: &FolderName, part: LogPart) -> Result<LogStream, NoSession> {
        let bad = |_: HostError| {
            let why = format!("{folder} is none");
            NoSession::Host(ProgramError::BadInput { what: "the name of a project's folder", why })
        };
        let name = folder_name(folder).map_err(bad)?;
        self.fleet.log(&self.id(key).ok_or(NoSession::Unwatched)?, name, part).await
    }

    /// From now on this Deployment reads that folder on the hosts of that group.
    pub(crate) fn note_user(&self, namespace: &str, deployment: &str, group: &str, folder: &FolderName) {
        self.users.note(namespace, deployment, group, folder);
    }

    pub(crate) fn forget_user(&self, namespace: &str, deployment: &str) {
        self.users.forget(namespace, deployment);
    }

    /// Wakes who reads this folder: what is being done there is over.
    pub(crate) fn wake_users(&self, key: &HostKey, folder: &FolderName) {
        self.wake(key, &Differs::Folders([folder.clone()].into()));
    }

    fn wake(&self, key: &HostKey, differs: &Differs) {
        for deployment in self.users.of(key, differs) {
            self.requeue.deployment(&key.namespace, &deployment);
        }
    }

    pub(super) fn changes(&self) -> crate::fleet::Changes {
        self.fleet.changes()
    }

    /// A host changed: whoever may decide otherwise is woken.
    pub(super) fn take_over(&self, id: &HostId, changed: Changed) {
        let Some(known) = self.fleet.known(id) else { return };
        let check = check::check(&id.host, &known);
        let Some((name, told)) = self.of_uid(id, |group| group.told.remove(&id.host).unwrap_or_default()) else {
            return;
        };
        let key = HostKey::new(&id.namespace, &name, &id.host);
        // What was between this change and the last one may have been read, and acted on. A host may have much to tell: it is compared
        // while nobody waits for that.
        let is_next = known.version == told.version + 1;
        let differs = if is_next { differs(&told.check, &check) } else { Differs::of(changed) };
        let for_group = if is_next { differs_for_group(&told.check, &check) } else { differs.clone() };
        if let HostCheck::Facts(facts) = &check {
            self.note_owners(&key, facts);
        }
        let told = Told { check, version: known.version };
        self.of_uid(id, |group| {
            let is_of_it = group.config.as_ref().is_some_and(|config| config.hosts.contains_key(&id.host));
            is_of_it.then(|| group.told.insert(id.host.clone(), told))
        });
        match for_group {
            Differs::Host => self.requeue.host_group(&key.namespace, &key.group),
            Differs::Folders(folders) if folders.is_empty() => {}
            // Every host of a rollout tells this, more than once.
            Differs::Folders(_) => self.requeue.host_group_later(&key.namespace, &key.group),
        }
        self.wake(&key, &differs);
    }

    /// The group of a host, by its uid, with its name.
    fn of_uid<T>(&self, id: &HostId, work: impl FnOnce(&mut Group) -> T) -> Option<(String, T)> {
        let of_uid = |group: &Group| group.config.as_ref().is_some_and(|config| config.uid == id.group_uid);
        let mut groups = self.groups.lock();
        let found = groups.iter_mut().find(|((namespace, _), group)| *namespace == id.namespace && of_uid(group));
        found.map(|((_, name), group)| (name.clone(), work(group)))
    }

    /// Hosts that an operator before this one acted on are known by their owner files.
    fn note_owners(&self, key: &HostKey, facts: &HostFacts) {
        let owners = facts.folders.values().filter_map(|folder| folder.owner.as_ref());
        // A host tells nothing of other namespaces.
        let ours = |owner: &&Owner| {
            owner.control_plane_id == self.control_plane_id
                && owner.namespace == key.namespace
                && owner.host == key.host
        };
        for owner in owners.filter(ours) {
            self.workers.note(HostWorkerKey { uid: owner.uid.clone(), host: key.host.clone() });
        }
    }
}
