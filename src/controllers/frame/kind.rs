//! What a kind has to say of itself, so that the frame can reconcile it.

use std::{fmt::Debug, future::Future, sync::Arc};

use jiff::Timestamp;
use kube::{Resource, ResourceExt, core::NamespaceResourceScope};
use serde::{Serialize, de::DeserializeOwned};

use super::shared::Shared;
use crate::{
    controllers::error::ReconcileError,
    plan::{Milestone, Plan},
};

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
    /// Called with a plan before it is put on record. Where it rests on what another object was granted since, the error is
    /// [`ReconcileError::Outdated`]: it is decided again.
    fn grant(
        &self,
        _observed: &Self::Observed,
        _plan: &Plan<Self::Status, Self::Action>,
        _context: &Self::Context,
    ) -> Result<(), ReconcileError> {
        Ok(())
    }
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
    /// Called with the object as it is after a commit changed its status: wakes its dependents.
    fn wake_dependents(&self, context: &Self::Context);
    /// Called when the object is gone, at least once where this operator watched: to collect what it left.
    fn on_deleted(&self, _context: &Arc<Self::Context>) {}
}

/// The object in maps of the frame.
pub(super) fn key<K: Kind>(object: &K) -> String {
    key_of::<K>(object)
}

/// The same of an object that may be unreadable.
pub(super) fn key_of<K: Kind>(object: &impl ResourceExt) -> String {
    format!("{}/{}/{}", K::KIND, object.namespace().unwrap_or_default(), object.name_any())
}

/// The fields that every log line about this object carries.
pub(super) fn span_of<K: Kind>(object: &impl ResourceExt) -> tracing::Span {
    tracing::info_span!(
        "reconcile",
        kind = K::KIND,
        namespace = object.namespace().unwrap_or_default(),
        name = object.name_any()
    )
}
