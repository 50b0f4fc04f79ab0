//! Controllers: one frame for every kind, observe → plan → commit → act.
//!
//! A kind says how to observe, what to decide (`plan`, pure) and how to do one thing (`act`). The frame does the rest, once, and decides
//! nothing itself. Long work is started by an act as a task that outlives the reconcile and wakes the object.
//!
//! | file | job |
//! |---|---|
//! | `watch.rs` | lists, watches and wakes become reconciles; `deletions.rs` and `requeue.rs` belong to it, `backoff.rs` says when to try again |
//! | `reconcile.rs` | the driver: one decision about one object, and what follows |
//! | `commit.rs` | the status on record; `patch.rs` is the change as operations, `throttle.rs` says which one can wait |
//! | `finalizer.rs` | the finalizer as the plan says |
//! | `events.rs` | events for people's eyes |

mod backoff;
mod commit;
mod deletions;
mod events;
mod finalizer;
mod patch;
mod reconcile;
mod requeue;
mod throttle;
mod watch;

use std::{fmt::Debug, future::Future, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{Api, Client, Resource, ResourceExt, core::NamespaceResourceScope};
use serde::{Serialize, de::DeserializeOwned};

use self::{backoff::Failures, commit::Writes, events::RecentEvents};
pub use self::{
    events::publish_event,
    requeue::Requeue,
    throttle::{DISPLAY_EVERY, Worth, worth_writing_now},
    watch::{readable, run},
};
pub use super::error::ReconcileError;
use crate::{
    effects::gate::Gate,
    plan::{Milestone, Plan},
};

/// What the frame itself needs, for all kinds of one operator. What a kind needs beside is in its own context.
pub struct Shared {
    pub client: Client,
    pub gate: Gate,
    pub requeue: Requeue,
    /// Time between full lists, which find what a watch missed.
    resync: Duration,
    failures: Failures,
    writes: Writes,
    recent_events: RecentEvents,
}

impl Shared {
    pub fn new(client: Client, gate: Gate, resync: Duration) -> Self {
        Self {
            client,
            gate,
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

/// What a kind touches: its effects and registries, and the frame's own.
pub trait Context: Send + Sync + 'static {
    fn shared(&self) -> &Shared;
}

/// A kind that has no effects of its own.
impl Context for Shared {
    fn shared(&self) -> &Shared {
        self
    }
}

/// A resource kind that this operator reconciles.
pub trait Kind:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// Its name, as in its manifests.
    const KIND: &'static str;
    /// What in its status is for people's eyes alone, as JSON pointers below the status; `*` is every element. No decision rests on it, so
    /// a change of it alone is written at most once in two seconds, and over whatever others wrote meanwhile.
    const DISPLAY: &'static [&'static str] = &["/conditions/*/message"];
    /// Everything that a decision needs, read once. What can't be reached is a value in it, not an error.
    type Observed: Send + Sync;
    /// One thing to do. Carries an id (uid, rollout or grant, attempt), so that doing it twice is doing it once.
    type Action: Debug + Send + Sync;
    type Status: Serialize + Clone + PartialEq + Send + Sync;
    /// What a reconcile of this kind touches beside the frame.
    type Context: Context;

    fn observe(&self, context: &Self::Context) -> impl Future<Output = Result<Self::Observed, ReconcileError>> + Send;
    fn plan(observed: &Self::Observed, now: Timestamp) -> Plan<Self::Status, Self::Action>;
    fn act(
        &self,
        action: Self::Action,
        context: &Arc<Self::Context>,
    ) -> impl Future<Output = Result<(), ReconcileError>> + Send;
    fn status(&self) -> Option<&Self::Status>;
    /// Builds and rollouts that begin or end where a commit replaces the status `before` by `after`: a line of the log each.
    fn milestones(_before: Option<&Self::Status>, _after: &Self::Status) -> Vec<Milestone> {
        Vec::new()
    }
    /// Called with the object as it is after a commit changed its status: wakes who depends on it.
    fn wake_dependents(&self, context: &Self::Context);
    /// Called when the object is gone, at least once where this operator watched: to collect what it left.
    fn on_deleted(&self, _context: &Arc<Self::Context>) {}
}

/// The object in maps of the frame.
fn key<K: Kind>(object: &K) -> String {
    format!("{}/{}/{}", K::KIND, object.namespace().unwrap_or_default(), object.name_any())
}

/// The fields that every log line about this object carries.
fn span<K: Kind>(object: &K) -> tracing::Span {
    tracing::info_span!(
        "reconcile",
        kind = K::KIND,
        namespace = object.namespace().unwrap_or_default(),
        name = object.name_any()
    )
}
