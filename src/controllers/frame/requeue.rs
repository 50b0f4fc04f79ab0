//! Requeues: how background work and other kinds have an object reconciled now.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use parking_lot::Mutex;

use super::changes::Changes;

/// Namespace and name of an object.
pub(crate) type ObjectName = (String, String);

const PROJECT: &str = "Project";
const BUILD: &str = "Build";
const HOST_GROUP: &str = "HostGroup";
const DEPLOYMENT: &str = "Deployment";

/// Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Requeue {
    kinds: Arc<Mutex<BTreeMap<&'static str, Subscriber>>>,
    changes: Arc<Changes>,
    /// Objects, with their kind, that are woken soon.
    later: Arc<Mutex<BTreeSet<(&'static str, ObjectName)>>>,
}

/// The controller of a kind, and which objects of that kind it has reconciled.
#[derive(Default)]
struct Subscriber {
    sender: Option<UnboundedSender<ObjectName>>,
    known: BTreeSet<ObjectName>,
}

impl Requeue {
    /// The requeued objects of a kind from now on; one subscriber a kind.
    pub fn subscribe(&self, kind: &'static str) -> UnboundedReceiver<ObjectName> {
        let (sender, receiver) = mpsc::unbounded();
        self.with(kind, |subscriber| subscriber.sender = Some(sender));
        receiver
    }

    pub fn project(&self, namespace: &str, name: &str) {
        self.wake(PROJECT, namespace, name);
    }

    pub fn build(&self, namespace: &str, name: &str) {
        self.wake(BUILD, namespace, name);
    }

    pub(crate) fn host_group(&self, namespace: &str, name: &str) {
        self.wake(HOST_GROUP, namespace, name);
    }

    /// Wakes it within a second: for what is shown and decides nothing.
    pub(crate) fn host_group_later(&self, namespace: &str, name: &str) {
        self.wake_later(HOST_GROUP, namespace, name, Duration::from_secs(1));
    }

    /// Wakes it soon: for how far an update has come, which decides nothing.
    pub(crate) fn deployment_later(&self, namespace: &str, name: &str) {
        self.wake_later(DEPLOYMENT, namespace, name, Duration::from_millis(300));
    }

    pub fn deployment(&self, namespace: &str, name: &str) {
        self.wake(DEPLOYMENT, namespace, name);
    }

    pub(crate) fn all_deployments(&self) {
        self.wake_known(DEPLOYMENT, |_| true);
    }

    pub(crate) fn deployments_in(&self, namespace: &str) {
        self.changes.note(namespace);
        self.wake_known(DEPLOYMENT, |of| of == namespace);
    }

    /// What was heard of changed objects.
    pub(crate) fn changes(&self) -> &Changes {
        &self.changes
    }

    pub(super) fn know(&self, kind: &'static str, namespace: &str, name: &str) {
        self.with(kind, |subscriber| subscriber.known.insert((namespace.to_owned(), name.to_owned())));
    }

    pub(super) fn forget(&self, kind: &'static str, namespace: &str, name: &str) {
        self.with(kind, |subscriber| subscriber.known.remove(&(namespace.to_owned(), name.to_owned())));
    }

    /// Whether a Project of this name has been reconciled.
    pub(crate) fn knows_project(&self, namespace: &str, name: &str) -> bool {
        self.with(PROJECT, |subscriber| subscriber.known.contains(&(namespace.to_owned(), name.to_owned())))
    }

    pub(super) fn wake(&self, kind: &'static str, namespace: &str, name: &str) {
        // After a shutdown there is no receiver, which is fine.
        self.with(kind, |subscriber| {
            subscriber.sender.as_ref().map(|sender| sender.unbounded_send((namespace.to_owned(), name.to_owned())))
        });
    }

    /// Once for all that is told until then.
    fn wake_later(&self, kind: &'static str, namespace: &str, name: &str, wait: Duration) {
        let object = (kind, (namespace.to_owned(), name.to_owned()));
        if !self.later.lock().insert(object.clone()) {
            return;
        }
        let requeue = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            requeue.later.lock().remove(&object);
            let (kind, (namespace, name)) = object;
            requeue.wake(kind, &namespace, &name);
        });
    }

    fn wake_known(&self, kind: &'static str, in_namespace: impl Fn(&str) -> bool) {
        self.with(kind, |subscriber| {
            for wake in subscriber.known.iter().filter(|(of, _)| in_namespace(of)) {
                subscriber.sender.as_ref().map(|sender| sender.unbounded_send(wake.clone()));
            }
        });
    }

    fn with<T>(&self, kind: &'static str, work: impl FnOnce(&mut Subscriber) -> T) -> T {
        work(self.kinds.lock().entry(kind).or_default())
    }
}
