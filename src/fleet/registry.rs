//! All workers: groups come, change and go, orders are handed to their host.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{
    access::{GroupAccess, HostId},
    budget::{BudgetSettings, Budgets, Connections, raise_descriptors},
    changes::Changes,
    known::Known,
    order::{FleetError, Order, Ticket},
    session::Dialer,
    shared::WorkerBounds,
    worker::Worker,
};

/// How all workers are bounded.
#[derive(Clone, Copy, Debug, Default)]
pub struct FleetSettings {
    pub budgets: BudgetSettings,
    /// Bytes a second below which an upload is given up; `None`: however slow.
    pub least_upload_rate: Option<u64>,
}

/// Cheap to clone; all clones are one. Its workers end with the last clone.
#[derive(Clone)]
pub struct Fleet {
    inner: Arc<Inner>,
}

struct Inner {
    dialer: Arc<dyn Dialer>,
    budgets: Budgets,
    least_rate: Option<u64>,
    changes: Changes,
    groups: Mutex<HashMap<(String, String), Group>>,
}

struct Group {
    connections: Connections,
    workers: HashMap<String, Worker>,
}

impl Fleet {
    /// Raises this process' limit of open files.
    pub fn new(dialer: Arc<dyn Dialer>, settings: FleetSettings) -> Self {
        let budgets = Budgets::new(settings.budgets, raise_descriptors());
        let (changes, groups) = (Changes::default(), Mutex::default());
        let inner = Inner { dialer, budgets, least_rate: settings.least_upload_rate, changes, groups };
        Self { inner: Arc::new(inner) }
    }

    /// Takes over how a group is reached now. Hosts that are new are dialled, those that left are forgotten with their connections, those
    /// that are reached otherwise are dialled again.
    pub fn configure(&self, namespace: &str, group_uid: &str, access: GroupAccess) {
        let GroupAccess { hosts, connections, period } = access;
        let mut groups = self.inner.groups.lock();
        let group = groups.entry((namespace.to_owned(), group_uid.to_owned()));
        let group = group.or_insert_with(|| Group {
            connections: self.inner.budgets.group(connections, hosts.len()),
            workers: HashMap::new(),
        });
        group.connections.resize(connections, hosts.len());
        group.workers.retain(|name, _| hosts.contains_key(name));
        for (name, access) in hosts {
            let worker = group.workers.entry(name).or_insert_with_key(|name| {
                let bounds = WorkerBounds {
                    budgets: self.inner.budgets.clone(),
                    group: group.connections.clone(),
                    least_rate: self.inner.least_rate,
                };
                let id = HostId::new(namespace, group_uid, name);
                Worker::start(id, access.clone(), self.inner.dialer.clone(), bounds, self.inner.changes.clone())
            });
            worker.set(access, period);
        }
    }

    /// The group is gone: its connections are closed, its orders end with `Forgotten`.
    pub fn forget(&self, namespace: &str, group_uid: &str) {
        self.inner.groups.lock().remove(&(namespace.to_owned(), group_uid.to_owned()));
    }

    /// Hands an order to its host. One that is not in the fleet answers `Forgotten`.
    pub fn submit(&self, host: &HostId, order: Order) -> Ticket {
        self.with(host, |worker| worker.add(order)).unwrap_or_else(|| {
            let (_, events) = mpsc::channel(1);
            let (nobody, done) = oneshot::channel();
            let _ = nobody.send(Err(FleetError::Forgotten));
            Ticket { events, done }
        })
    }

    /// What is known of a host; it asks nobody.
    pub fn known(&self, host: &HostId) -> Option<Known> {
        self.with(host, Worker::known)
    }

    /// A host that waits for its next try is dialled now.
    pub fn redial(&self, host: &HostId) {
        self.with(host, Worker::redial);
    }

    /// Which hosts changed. One reader.
    pub fn changes(&self) -> Changes {
        self.inner.changes.clone()
    }

    /// Waits until every host of a group was reached, or could not be, at least once.
    pub async fn settled(&self, namespace: &str, group_uid: &str, patience: Duration) -> bool {
        let settled = || {
            let groups = self.inner.groups.lock();
            let group = groups.get(&(namespace.to_owned(), group_uid.to_owned()));
            group.is_none_or(|group| {
                group.workers.values().all(|worker| {
                    let known = worker.known();
                    known.facts.is_some() || known.failed > 0
                })
            })
        };
        let waiting = async {
            while !settled() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(patience, waiting).await.is_ok()
    }

    fn with<T>(&self, host: &HostId, read: impl FnOnce(&Worker) -> T) -> Option<T> {
        let groups = self.inner.groups.lock();
        let group = groups.get(&(host.namespace.clone(), host.group_uid.clone()))?;
        group.workers.get(&host.host).map(read)
    }
}
