//! What the frame itself needs, for all kinds of one operator.

use std::time::Duration;

use kube::{Api, Client, Resource, core::NamespaceResourceScope};

use super::{failures::Failures, recent_events::RecentEvents, requeue::Requeue, writes::Writes};
use crate::effects::gate::Gate;

/// What a kind needs beside is in its own context.
pub struct Shared {
    pub client: Client,
    pub gate: Gate,
    /// The user that this operator is to the API server; `None` where it did not say.
    pub user: Option<String>,
    pub requeue: Requeue,
    /// Time between full lists, which find what a watch missed.
    pub(super) resync: Duration,
    pub(super) failures: Failures,
    pub(super) writes: Writes,
    pub(super) recent_events: RecentEvents,
}

impl Shared {
    pub fn new(client: Client, gate: Gate, user: Option<String>, resync: Duration) -> Self {
        Self {
            client,
            gate,
            user,
            requeue: Requeue::default(),
            resync,
            failures: Failures::default(),
            writes: Writes::default(),
            recent_events: RecentEvents::default(),
        }
    }

    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }
}
