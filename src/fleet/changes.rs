//! Which hosts changed since somebody asked last, and what of them. A host that changes often is one entry.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use landfall_host_protocol::{FolderFacts, FolderName, HostFacts};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::access::HostId;

/// Cheap to clone; all clones are one. One reader.
#[derive(Clone, Default)]
pub struct Changes {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    hosts: Mutex<BTreeMap<HostId, Changed>>,
    some: Notify,
}

/// What of a host changed, in one change or in several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The host itself, or whether it is reached.
    Host,
    /// These folders alone.
    Folders(BTreeSet<FolderName>),
}

impl Changed {
    /// From what was known to what is.
    pub(super) fn between(old: &HostFacts, new: &HostFacts) -> Self {
        if of_host(old) != of_host(new) {
            return Self::Host;
        }
        let all: BTreeSet<&FolderName> = old.folders.keys().chain(new.folders.keys()).collect();
        let differs = |name: &&FolderName| !is_same(old.folders.get(*name), new.folders.get(*name));
        Self::Folders(all.into_iter().filter(differs).cloned().collect())
    }

    fn join(&mut self, other: Self) {
        match (self, other) {
            (Self::Host, _) => {}
            (Self::Folders(all), Self::Folders(more)) => all.extend(more),
            (all, Self::Host) => *all = Self::Host,
        }
    }
}

/// The facts without folders, and without what always moves.
fn of_host(facts: &HostFacts) -> HostFacts {
    let HostFacts { machine, root, folders: _, cannot_become, sudo_too_wide, users_pending } = facts;
    let mut machine = machine.clone();
    (machine.clock_millis, machine.uptime_seconds, machine.uptime_millis) = (0, 0, 0);
    let mut root = root.clone();
    (root.free_bytes, root.free_inodes) = (0, None);
    let (cannot_become, folders) = (cannot_become.clone(), BTreeMap::new());
    let (sudo_too_wide, users_pending) = (*sudo_too_wide, *users_pending);
    HostFacts { machine, root, folders, cannot_become, sudo_too_wide, users_pending }
}

/// But for when they were read.
fn is_same(old: Option<&FolderFacts>, new: Option<&FolderFacts>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => old == new || FolderFacts { seen: new.seen, ..old.clone() } == *new,
        (old, new) => old.is_none() && new.is_none(),
    }
}

impl Changes {
    pub(super) fn add(&self, host: &HostId, changed: Changed) {
        match self.inner.hosts.lock().entry(host.clone()) {
            Entry::Occupied(mut entry) => entry.get_mut().join(changed),
            Entry::Vacant(entry) => _ = entry.insert(changed),
        }
        self.inner.some.notify_one();
    }

    /// The hosts that changed; waits until there are some.
    pub async fn next(&self) -> BTreeMap<HostId, Changed> {
        loop {
            let some = self.inner.some.notified();
            let hosts = std::mem::take(&mut *self.inner.hosts.lock());
            if !hosts.is_empty() {
                return hosts;
            }
            some.await;
        }
    }
}
