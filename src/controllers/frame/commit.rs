//! The status on record, before anything is done: whole, by server-side apply.
//!
//! A decision is written with the version that was read as its precondition: one made on an old view is refused and taken again. What is for
//! display alone needs none, so a foreign writer who is faster can't keep it away.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use parking_lot::Mutex;
use serde_json::Value;

use super::{
    Context, DISPLAY_EVERY, Kind, ReconcileError, Shared, Worth,
    events::{Once, publish},
    key, worth_writing_now,
};
use crate::{
    api::FIELD_MANAGER,
    effects::{clock, gate::Effect},
    plan::{Milestone, Plan},
};

const WRITES_AT_ONCE: u32 = 10;
/// Conflicts in a row over foreign marks alone, after which a decision is written without a version.
const CONFLICTS_MAX: u32 = 3;
/// More entries than that are looked through for old ones.
const WRITTEN_MAX: usize = 1024;

/// What this operator knows of its own writes.
#[derive(Default)]
pub(super) struct Writes {
    /// Objects of whose last status nobody knows whether it was written.
    uncertain: Mutex<HashSet<String>>,
    /// When the status of an object was written last.
    written: Mutex<HashMap<String, Instant>>,
}

impl Writes {
    /// An error may be the answer to a write that was done all the same (a 504, a 409 to the client's own second try). The next reconcile
    /// finds the status as it shall be, and nobody who depends on it would ever hear.
    fn mark_uncertain(&self, key: &str) {
        self.uncertain.lock().insert(key.to_owned());
    }

    /// Whether the last write of this object's status was in doubt; it is no longer.
    fn take_uncertain(&self, key: &str) -> bool {
        self.uncertain.lock().remove(key)
    }

    fn is_uncertain(&self, key: &str) -> bool {
        self.uncertain.lock().contains(key)
    }

    fn note(&self, key: &str, now: Instant) {
        let mut written = self.written.lock();
        if written.len() >= WRITTEN_MAX {
            written.retain(|_, at| now.duration_since(*at) < DISPLAY_EVERY);
        }
        written.insert(key.to_owned(), now);
    }

    fn last(&self, key: &str) -> Option<Instant> {
        self.written.lock().get(key).copied()
    }

    pub(super) fn forget(&self, key: &str) {
        self.written.lock().remove(key);
        self.uncertain.lock().remove(key);
    }
}

pub(super) struct Committed<K> {
    /// The object with its status as it is on record now.
    pub(super) object: K,
    /// The status differs in what is for display, and is to be written so much later.
    pub(super) write_after: Option<Duration>,
}

/// Puts the next status on record, if it differs or acts follow, and publishes the plan's events.
pub(super) async fn commit<K: Kind>(
    object: K,
    plan: &Plan<K::Status, K::Action>,
    context: &K::Context,
) -> Result<Committed<K>, ReconcileError> {
    let (shared, key) = (context.shared(), key(&object));
    let same = object.status() == Some(&plan.status);
    if same && plan.actions.is_empty() {
        if shared.writes.take_uncertain(&key) {
            object.wake_dependents(context);
        }
        publish_all(&object, plan, Once::AnHour, shared).await;
        return Ok(Committed { object, write_after: None });
    }
    let status = serde_json::to_value(&plan.status)?;
    // Events of a change that waits are drafted again when it is written: the plan compares with what is on record.
    let decides = !plan.actions.is_empty() || shared.writes.is_uncertain(&key);
    let precondition = match worth(&object, &status, shared.writes.last(&key))? {
        _ if decides => Precondition::Version,
        Worth::Decision => Precondition::Version,
        Worth::Display => Precondition::Uid,
        Worth::Later(wait) => return Ok(Committed { object, write_after: Some(wait) }),
    };
    let effect = Effect::new("status.commit", format!("{}/{}", K::KIND, object.name_any()));
    let written = shared.gate.pass(effect, write(&object, &status, precondition, shared)).await;
    let committed = written.inspect_err(|_| shared.writes.mark_uncertain(&key))?;
    shared.writes.note(&key, clock::monotonic());
    let doubted = shared.writes.take_uncertain(&key);
    K::milestones(object.status(), &plan.status).iter().for_each(log);
    publish_all(&object, plan, if same { Once::AnHour } else { Once::AChange }, shared).await;
    if !same || doubted {
        committed.wake_dependents(context);
    }
    // On record, but decided on an older view: decided again before anything is done.
    if !asks_the_same(&object, &committed) {
        return Err(ReconcileError::Outdated);
    }
    Ok(Committed { object: committed, write_after: None })
}

async fn publish_all<K: Kind>(object: &K, plan: &Plan<K::Status, K::Action>, once: Once, shared: &Shared) {
    for draft in &plan.events {
        publish(object, draft, once, shared).await;
    }
}

/// The line names the object by the fields of the reconcile.
fn log(milestone: &Milestone) {
    match milestone {
        Milestone::Begun { what, id, version } => tracing::info!(%id, %version, "{what} begun"),
        Milestone::Ended { what, id, version, outcome, seconds } => {
            tracing::info!(%id, %version, %outcome, seconds, "{what} ended");
        }
    }
}

fn worth<K: Kind>(object: &K, after: &Value, last_written: Option<Instant>) -> Result<Worth, ReconcileError> {
    let before = object.status().map(serde_json::to_value).transpose()?.unwrap_or_default();
    Ok(worth_writing_now(&before, after, K::DISPLAY, last_written, clock::monotonic()))
}

/// Why the object itself could not be written: it may be gone by now.
pub(super) fn of_object(error: kube::Error) -> ReconcileError {
    match error {
        kube::Error::Api(status) if status.code == 404 => ReconcileError::NotFound,
        other => ReconcileError::from(other),
    }
}

/// What must be as it was read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Precondition {
    /// The whole object. Where only a foreign mark on the object is new the decision stands, and is written with that version; where foreign
    /// marks come faster than a read and a write, without one.
    Version,
    /// That it is the same object at all.
    Uid,
}

async fn write<K: Kind>(
    object: &K,
    status: &Value,
    precondition: Precondition,
    shared: &Shared,
) -> Result<K, ReconcileError> {
    let (name, api) = (object.name_any(), shared.api::<K>(&object.namespace().unwrap_or_default()));
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let mut metadata = serde_json::Map::new();
    metadata.insert("name".to_owned(), name.as_str().into());
    metadata.insert("uid".to_owned(), object.uid().into());
    if precondition == Precondition::Version {
        metadata.insert("resourceVersion".to_owned(), object.resource_version().into());
    }
    for nth in 0..WRITES_AT_ONCE {
        let apply = serde_json::json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": metadata, "status": status,
        });
        match api.patch_status(&name, &params, &Patch::Apply(apply)).await.map_err(of_object) {
            Err(ReconcileError::Outdated) => {}
            done => return done,
        }
        let Some(latest) = api.get_opt(&name).await?.filter(|latest| reads_the_same(object, latest)) else { break };
        if precondition == Precondition::Uid {
            continue;
        }
        metadata.insert("resourceVersion".to_owned(), latest.resource_version().into());
        // Nobody else writes a status while this process holds the lease, so only a foreign mark can come between; nothing is done before
        // the object that was written is seen to ask the same.
        if nth + 1 >= CONFLICTS_MAX && shared.gate.token().is_ok() {
            metadata.remove("resourceVersion");
        }
    }
    Err(ReconcileError::Outdated)
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
