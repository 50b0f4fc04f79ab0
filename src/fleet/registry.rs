//! All workers: groups come, change and go, orders are handed to their host.

use std::{collections::HashMap, sync::Arc, time::Duration};

use landfall_host_protocol::FolderName;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{
    access::{GroupAccess, HostId},
    budget::Connections,
    changes::Changes,
    jump_route::JumpRoute,
    known::Known,
    order::{FleetError, Order, Ticket},
    session::Dialer,
    settings::FleetSettings,
    shared::WorkerBounds,
    worker::{Hold, NoSession, Worker},
};
use crate::effects::program::{LogPart, LogStream};

/// Cheap to clone; all clones are one. Its workers end with the last clone.
#[derive(Clone)]
pub struct Fleet {
    inner: Arc<Inner>,
}

struct Inner {
    dialer: Arc<dyn Dialer>,
    settings: FleetSettings,
    changes: Changes,
    groups: Mutex<HashMap<(String, String), Group>>,
}

struct Group {
    connections: Connections,
    /// It ends with the group.
    route: Arc<JumpRoute>,
    workers: HashMap<String, Worker>,
}

impl Fleet {
    pub fn new(dialer: Arc<dyn Dialer>, settings: FleetSettings) -> Self {
        let (changes, groups) = (Changes::default(), Mutex::default());
        Self { inner: Arc::new(Inner { dialer, settings, changes, groups }) }
    }

    /// Takes over how a group is reached now. Hosts that are new are dialled, those that left are forgotten with their connections, those
    /// that are reached otherwise are dialled again.
    pub fn configure(&self, namespace: &str, group_uid: &str, access: GroupAccess) {
        let GroupAccess { hosts, connections, period, least_rate } = access;
        let mut groups = self.inner.groups.lock();
        let group = groups.entry((namespace.to_owned(), group_uid.to_owned()));
        let group = group.or_insert_with(|| Group {
            connections: self.inner.settings.budgets.group(namespace, connections, hosts.len()),
            route: Arc::new(JumpRoute::that_stays()),
            workers: HashMap::new(),
        });
        group.connections.resize(connections, hosts.len());
        group.workers.retain(|name, _| hosts.contains_key(name));
        for (name, access) in hosts {
            let worker = group.workers.entry(name).or_insert_with_key(|name| {
                let bounds = WorkerBounds {
                    settings: self.inner.settings.clone(),
                    group: group.connections.clone(),
                    route: group.route.clone(),
                };
                let id = HostId::new(namespace, group_uid, name);
                Worker::start(id, access.clone(), self.inner.dialer.clone(), bounds, self.inner.changes.clone())
            });
            worker.set(access, period, least_rate);
        }
    }

    /// The group is gone: its connections are closed, its orders end with `Forgotten`.
    pub fn forget(&self, namespace: &str, group_uid: &str) {
        self.inner.groups.lock().remove(&(namespace.to_owned(), group_uid.to_owned()));
    }

    /// The same of all groups.
    pub fn forget_all(&self) {
        self.inner.groups.lock().clear();
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

    /// The host is looked at now; one that waits for its next try is dialled now.
    pub fn look_now(&self, host: &HostId) {
        self.with(host, Worker::look_now);
    }

    /// The connection is closed, and another one is made: what a sign-in checks is checked again.
    pub fn renew(&self, host: &HostId) {
        self.with(host, Worker::renew);
    }

    /// Keeps the connection open between the orders of one who has several.
    pub fn hold(&self, host: &HostId) -> Option<Hold> {
        self.with(host, Worker::hold)
    }

    /// Opens an application's log over the session that there is. None is made for it, and none is kept for it.
    pub async fn log(&self, host: &HostId, folder: FolderName, part: LogPart) -> Result<LogStream, NoSession> {
        self.with(host, |worker| worker.log(folder, part)).ok_or(NoSession::Unwatched)?.await
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
