//! The status on record, before anything is done: what differs of it, as a JSON patch.
//!
//! A decision is written on the object that it is about: one made on an old view is refused and taken again. That is the version that was
//! read; and where foreign marks are new, whatever a decision can rest on, which the API server compares, so that no foreign writer is too
//! fast. What is for display carries nothing else, and needs the same object alone.

use std::{borrow::Cow, time::Duration};

use futures::{StreamExt, stream};
use kube::{
    ResourceExt,
    api::Patch,
    core::{Request, params::GetParams},
};
use serde_json::Value;

use super::{
    events::publish,
    kind::{Context, Kind, key},
    patch,
    recent_events::RepeatPolicy,
    shared::Shared,
    throttle::{WriteUrgency, worth_writing_now},
};
use crate::{
    controllers::error::ReconcileError,
    effects::{api_server::patch_params, clock, gate::Effect},
    plan::{Milestone, Plan},
};

/// Attempts at one write, against foreign marks that come between.
const WRITES_MAX: u32 = 10;
const EVENTS_AT_ONCE: usize = 16;

pub(super) struct Committed<K> {
    /// The object with its status as it is on record now.
    pub(super) object: K,
    /// The status differs in what is for display, and is to be written so much later.
    pub(super) write_after: Option<Duration>,
}

/// Puts the next status on record, if it differs or acts follow, and publishes the plan's events.
pub(super) async fn commit<K: Kind>(
    object: K,
    raw: &Value,
    plan: &Plan<K::Status, K::Action>,
    context: &K::Context,
) -> Result<Committed<K>, ReconcileError> {
    let (shared, key) = (context.shared(), key(&object));
    let same = object.status() == Some(&plan.status);
    if same && plan.actions.is_empty() {
        if shared.writes.take_uncertain(&key) {
            object.wake_dependents(context);
        }
        publish_all(&object, plan, RepeatPolicy::Hourly, shared).await;
        return Ok(Committed { object, write_after: None });
    }
    let before = object.status().map(serde_json::to_value).transpose()?.unwrap_or_default();
    let after = serde_json::to_value(&plan.status)?;
    // Events of a change that waits are drafted again when it is written: the plan compares with what is on record.
    let decides = !plan.actions.is_empty() || shared.writes.is_uncertain(&key);
    let scope = match worth_writing_now(&before, &after, K::DISPLAY, shared.writes.last(&key), clock::monotonic()) {
        _ if decides => ChangeScope::Decision,
        WriteUrgency::Decision => ChangeScope::Decision,
        WriteUrgency::Display if patch::display(&raw["status"], &before, &after, K::DISPLAY).is_none() => {
            ChangeScope::Decision
        }
        WriteUrgency::Display => ChangeScope::Display,
        WriteUrgency::Later(wait) => return Ok(Committed { object, write_after: Some(wait) }),
    };
    let (effect, change) =
        (Effect::new("status.commit", format!("{}/{}", K::KIND, object.name_any())), Change { before, after, scope });
    let written = shared.gate.pass(effect, write(&object, raw, &change, shared)).await;
    let committed = written.inspect_err(|_| shared.writes.mark_uncertain(&key))?;
    shared.writes.note(&key, clock::monotonic());
    let was_uncertain = shared.writes.take_uncertain(&key);
    K::milestones(object.status(), &plan.status).iter().for_each(log);
    if !same || was_uncertain {
        committed.wake_dependents(context);
    }
    // On record, so it is told: the next plan finds it there, and no change.
    publish_all(&object, plan, if same { RepeatPolicy::Hourly } else { RepeatPolicy::EachChange }, shared).await;
    // Display may be on record although the decision was made on an older view: decided again before anything is done.
    if !asks_the_same(&object, &committed) {
        return Err(ReconcileError::Outdated);
    }
    Ok(Committed { object: committed, write_after: None })
}

async fn publish_all<K: Kind>(object: &K, plan: &Plan<K::Status, K::Action>, repeat: RepeatPolicy, shared: &Shared) {
    // Side by side: many of them hold up the acts no longer than one.
    stream::iter(&plan.events)
        .for_each_concurrent(EVENTS_AT_ONCE, |draft| publish(object.object_ref(&()), draft, repeat, shared))
        .await;
}

/// The line names the object by the fields of the reconcile.
fn log(milestone: &Milestone) {
    match milestone {
        Milestone::Begun { what, id, version, by } => {
            let by = by.as_deref().unwrap_or("unknown");
            tracing::info!(%id, %version, by, "{what} begun");
        }
        Milestone::Ended { what, id, version, outcome, seconds } => {
            tracing::info!(%id, %version, %outcome, seconds, "{what} ended");
        }
    }
}

/// Why the object itself could not be written: it may be gone by now.
pub(super) fn of_object(error: kube::Error) -> ReconcileError {
    match error {
        kube::Error::Api(status) if status.code == 404 => ReconcileError::NotFound,
        other => ReconcileError::from(other),
    }
}

/// The object, and all of it as it stands: a later version may have written what this one does not know.
pub(super) async fn read<K: Kind>(
    shared: &Shared,
    namespace: &str,
    name: &str,
) -> Result<Option<(K, Value)>, ReconcileError> {
    let request = Request::new(K::url_path(&(), Some(namespace))).get(name, &GetParams::default());
    let request = request.map_err(kube::Error::BuildRequest)?;
    let raw: Value = match shared.client.request(request).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
        read => read?,
    };
    let object = serde_json::from_value(raw.clone()).map_err(kube::Error::SerdeError)?;
    Ok(Some((object, raw)))
}

/// What a write changes, and what must be as it was read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ChangeScope {
    /// The whole status, on the object that the decision is about. Where only a foreign mark on it is new, the decision stands.
    Decision,
    /// What is for display, on the same object at all.
    Display,
}

struct Change {
    before: Value,
    after: Value,
    scope: ChangeScope,
}

impl Change {
    /// As operations on the object as it stands. `version`: that nothing at all changed since, instead of what the decision rests on.
    fn operations<K: Kind>(&self, raw: &Value, version: Option<&str>) -> Option<Vec<Value>> {
        let mut operations = vec![patch::test("/metadata/uid", &raw["metadata"]["uid"])];
        if self.scope == ChangeScope::Display {
            // Of another rollout it says nothing.
            for part in ["/status/rollout/id", "/status/rollout/attempt"] {
                operations.extend(raw.pointer(part).map(|value| patch::test(part, value)));
            }
            operations.extend(patch::display(&raw["status"], &self.before, &self.after, K::DISPLAY)?);
            return Some(operations);
        }
        match version {
            // Answered with a conflict, not as a test that failed.
            Some(version) => operations
                .push(serde_json::json!({ "op": "replace", "path": "/metadata/resourceVersion", "value": version })),
            None => operations.extend(patch::unchanged(raw)),
        }
        operations.extend(patch::all(&raw["status"], &self.before, &self.after));
        Some(operations)
    }
}

async fn write<K: Kind>(object: &K, raw: &Value, change: &Change, shared: &Shared) -> Result<K, ReconcileError> {
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let (mut raw, mut version) = (Cow::Borrowed(raw), object.resource_version());
    for _ in 0..WRITES_MAX {
        // For each try: the lease may be lost by now.
        shared.gate.token()?;
        let Some(operations) = change.operations::<K>(&raw, version.as_deref()) else { break };
        let refused = match send(&name, &namespace, operations, shared).await.map_err(of_object) {
            Err(ReconcileError::Outdated) => None,
            Err(ReconcileError::Api(kube::Error::Api(status))) if status.code == 422 => Some(kube::Error::Api(status)),
            done => return done,
        };
        let latest = read::<K>(shared, &namespace, &name).await?;
        let Some((_, latest)) = latest.filter(|(latest, _)| reads_the_same(object, latest)) else { break };
        if let Some(error) = refused {
            return Err(error.into());
        }
        // Only a foreign mark is new. The next may come before a write of that version would, so the API server compares what counts.
        (raw, version) = (Cow::Owned(latest), None);
    }
    Err(ReconcileError::Outdated)
}

async fn send<K: Kind>(name: &str, namespace: &str, operations: Vec<Value>, shared: &Shared) -> Result<K, kube::Error> {
    let operations = serde_json::from_value(Value::Array(operations)).map_err(kube::Error::SerdeError)?;
    let request = Request::new(K::url_path(&(), Some(namespace)))
        .patch_subresource("status", name, &patch_params(), &Patch::Json::<()>(operations))
        .map_err(kube::Error::BuildRequest)?;
    shared.client.request(request.map(patch::as_go_writes)).await
}

/// Whether a decision about one is a decision about the other.
fn reads_the_same<K: Kind>(one: &K, other: &K) -> bool {
    asks_the_same(one, other) && one.status() == other.status()
}

/// The same without the status, which is ours.
pub(super) fn asks_the_same<K: Kind>(one: &K, other: &K) -> bool {
    let (a, b) = (one.meta(), other.meta());
    a.uid == b.uid
        && a.generation == b.generation
        && a.deletion_timestamp == b.deletion_timestamp
        && one.annotations() == other.annotations()
        && one.finalizers() == other.finalizers()
}
