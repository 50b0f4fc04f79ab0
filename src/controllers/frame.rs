//! One frame for every kind: observe → plan → commit → act.
//!
//! A kind says how to look (`observe`), what to decide (`plan`, pure) and how to do one thing (`act`). The frame does the rest,
//! once, and decides nothing itself. Long work is started by an act as a task that outlives the reconcile and wakes the object.

use std::{
    collections::{HashMap, HashSet},
    fmt::Debug,
    future::Future,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    core::{DeserializeGuard, NamespaceResourceScope},
    runtime::{
        Config, Controller, Predicate, WatchStreamExt,
        controller::{self, Action as ReconcileAction},
        events::{Event, EventType, Recorder},
        predicates, reflector,
        reflector::ObjectRef,
        watcher,
    },
};
use parking_lot::Mutex;
use rand::Rng;
use serde::{Serialize, de::DeserializeOwned};

pub use super::error::ReconcileError;
use super::{deletions::DeletionWatch, error::api_message, requeue::Requeue};
use crate::{
    api::{FIELD_MANAGER, FINALIZER, conditions::clip},
    effects::{
        clock,
        gate::{Effect, Gate},
    },
    plan::{EventDraft, Plan},
};

const DECISIONS_AT_ONCE: u32 = 5;
const WRITES_AT_ONCE: u32 = 10;
const OBJECTS_AT_ONCE: u16 = 32;
/// A reconcile only reads, writes a status and starts tasks: what takes longer hangs.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(60);
/// Shorter than the default, so that a watch that died silently is noticed.
const WATCH_SECONDS: u32 = 60;
/// An event is for people's eyes: a reconcile does not wait longer for it.
const EVENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Requeue delay while this process does not hold the lease.
const NOT_LEADING_RETRY: Duration = Duration::from_secs(2);
/// The longest pause after failures in a row.
const BACKOFF_MAX_SECONDS: u64 = 60;

/// What the frame itself needs, for all kinds of one operator. What a kind needs beside is in its own context.
pub struct Shared {
    pub client: Client,
    pub gate: Gate,
    pub recorder: Recorder,
    pub requeue: Requeue,
    /// Seconds between full lists.
    resync: Duration,
    /// Reconciles that failed in a row, by kind and object.
    failures: Mutex<HashMap<String, u32>>,
    /// Objects of whose last status nobody knows whether it was written.
    uncertain: Mutex<HashSet<String>>,
}

impl Shared {
    pub fn new(client: Client, gate: Gate, recorder: Recorder, resync: Duration) -> Self {
        Self {
            client,
            gate,
            recorder,
            requeue: Requeue::default(),
            resync,
            failures: Mutex::default(),
            uncertain: Mutex::default(),
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
    /// Called with the object as it is after a commit changed its status: wakes who depends on it.
    fn wake_dependents(&self, context: &Self::Context);
    /// Called when the object is gone, at least once where this operator watched: to tidy up after it.
    fn on_deleted(&self, _context: &Arc<Self::Context>) {}
}

/// Puts the next status on record, if it differs or acts follow; answers the object as it is then. The version that was read is a
/// precondition: a decision made on an old view is refused by the API server and taken again.
async fn commit<K: Kind>(
    object: K,
    plan: &Plan<K::Status, K::Action>,
    context: &K::Context,
) -> Result<K, ReconcileError> {
    let same = object.status() == Some(&plan.status);
    if same && plan.actions.is_empty() {
        if take_uncertain(&object, context.shared()) {
            object.wake_dependents(context);
        }
        return Ok(object);
    }
    let effect = Effect::new("status.commit", format!("{}/{}", K::KIND, object.name_any()));
    let written = context.shared().gate.pass(effect, write(&object, &plan.status, context.shared())).await;
    let committed = written.inspect_err(|_| mark_uncertain(&object, context.shared()))?;
    let doubted = take_uncertain(&object, context.shared());
    if !same {
        for event_draft in &plan.events {
            publish_event(&object, event_draft, context.shared()).await;
        }
    }
    if !same || doubted {
        committed.wake_dependents(context);
    }
    Ok(committed)
}

/// Why the object itself could not be written: it may be gone by now.
fn of_object(error: kube::Error) -> ReconcileError {
    match error {
        kube::Error::Api(status) if status.code == 404 => ReconcileError::NotFound,
        other => ReconcileError::from(other),
    }
}

/// The status, with the version that was read as a precondition. Where only somebody else's mark on the object is new the decision stands,
/// and is written with that version: a second writer may be faster than every look, but not than a read and a write.
async fn write<K: Kind>(object: &K, status: &K::Status, shared: &Shared) -> Result<K, ReconcileError> {
    let (name, api) = (object.name_any(), shared.api::<K>(&object.namespace().unwrap_or_default()));
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let status = serde_json::to_value(status)?;
    let mut version = object.resource_version();
    for _ in 0..WRITES_AT_ONCE {
        let apply = serde_json::json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": { "name": name, "resourceVersion": version }, "status": status,
        });
        match api.patch_status(&name, &params, &Patch::Apply(apply)).await.map_err(of_object) {
            Err(ReconcileError::Outdated) => {}
            done => return done,
        }
        match api.get_opt(&name).await?.filter(|latest| reads_the_same(object, latest)) {
            Some(latest) => version = latest.resource_version(),
            None => break,
        }
    }
    Err(ReconcileError::Outdated)
}

/// Whether a decision about one is a decision about the other.
fn reads_the_same<K: Kind>(one: &K, other: &K) -> bool {
    let (a, b) = (one.meta(), other.meta());
    a.uid == b.uid
        && a.generation == b.generation
        && a.deletion_timestamp == b.deletion_timestamp
        && one.annotations() == other.annotations()
        && one.finalizers() == other.finalizers()
        && one.status() == other.status()
}

/// An error may be the answer to a write that was done all the same (a 504, a 409 to the client's own second try). The next look finds
/// the status as it shall be, and nobody who depends on it would ever hear.
fn mark_uncertain<K: Kind>(object: &K, shared: &Shared) {
    shared.uncertain.lock().insert(key(object));
}

/// Whether the last write of this object's status was in doubt; clears that.
fn take_uncertain<K: Kind>(object: &K, shared: &Shared) -> bool {
    shared.uncertain.lock().remove(&key(object))
}

/// Publishes an event about what is on record.
pub(super) async fn publish_event<K: Kind>(object: &K, event_draft: &EventDraft, shared: &Shared) {
    let event = Event {
        type_: if event_draft.warning { EventType::Warning } else { EventType::Normal },
        reason: event_draft.reason.to_string(),
        note: Some(clip(&event_draft.note, 1024)),
        action: event_draft.action.to_owned(),
        secondary: None,
    };
    let lost = match tokio::time::timeout(EVENT_TIMEOUT, shared.recorder.publish(&event, &object.object_ref(&()))).await
    {
        Ok(Ok(())) => return,
        Ok(Err(error)) => api_message(&error),
        Err(_) => format!("no answer within {} s", EVENT_TIMEOUT.as_secs()),
    };
    tracing::warn!(error = lost, "an event is lost; the record is elsewhere");
}

/// Makes the finalizer what the plan says. True if that was a change, after which the world is to be observed anew.
async fn sync_finalizer<K: Kind>(object: &K, wanted: bool, shared: &Shared) -> Result<bool, ReconcileError> {
    let held = object.finalizers().iter().any(|name| name == FINALIZER);
    if held == wanted || (wanted && object.meta().deletion_timestamp.is_some()) {
        return Ok(false);
    }
    let others = object.finalizers().iter().filter(|name| *name != FINALIZER).cloned();
    let finalizers: Vec<String> = others.chain(wanted.then(|| FINALIZER.to_owned())).collect();
    let merge = serde_json::json!({
        "metadata": { "resourceVersion": object.resource_version(), "finalizers": finalizers },
    });
    let api = shared.api::<K>(&object.namespace().unwrap_or_default());
    let subject = format!("{}/{}", K::KIND, object.name_any());
    let effect = if wanted { Effect::new("finalizer.set", subject) } else { Effect::new("finalizer.remove", subject) };
    shared
        .gate
        .pass(effect, async {
            api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(merge)).await.map_err(of_object)
        })
        .await?;
    Ok(true)
}

async fn reconcile<K: Kind>(
    cached: Arc<DeserializeGuard<K>>,
    context: Arc<K::Context>,
) -> Result<ReconcileAction, ReconcileError> {
    let cached = match &cached.0 {
        Ok(object) => object,
        Err(unreadable) => {
            let name = unreadable.metadata.name.as_deref().unwrap_or_default();
            tracing::error!(kind = K::KIND, name, error = %unreadable.error, "can't be read, so it is left alone");
            return Ok(ReconcileAction::await_change());
        }
    };
    let decided = AssertUnwindSafe(tokio::time::timeout(RECONCILE_TIMEOUT, with_conflict_retries(cached, &context)))
        .catch_unwind()
        .await;
    let decided = match decided {
        Ok(Ok(decided)) => decided,
        Ok(Err(_)) => Err(ReconcileError::Internal("a look at this object did not end within a minute".to_owned())),
        Err(_) => Err(ReconcileError::Internal("a look at this object panicked; the log has the place".to_owned())),
    };
    if decided.is_ok() {
        context.shared().failures.lock().remove(&key(cached));
    }
    decided
}

/// A refused decision is taken again at once, a few times, not after a backoff.
async fn with_conflict_retries<K: Kind>(
    cached: &K,
    context: &Arc<K::Context>,
) -> Result<ReconcileAction, ReconcileError> {
    for _ in 1..DECISIONS_AT_ONCE {
        match reconcile_fresh(cached, context).await {
            Err(ReconcileError::Outdated) => continue,
            decided => return decided,
        }
    }
    reconcile_fresh(cached, context).await
}

async fn reconcile_fresh<K: Kind>(cached: &K, context: &Arc<K::Context>) -> Result<ReconcileAction, ReconcileError> {
    let (namespace, name) = (cached.namespace().unwrap_or_default(), cached.name_any());
    // Who may not act need not look.
    context.shared().gate.token()?;
    let decided = match context.shared().api::<K>(&namespace).get_opt(&name).await? {
        Some(object) => observe_plan_act(object, context).await,
        None => Err(ReconcileError::NotFound),
    };
    if let Err(ReconcileError::NotFound) = decided {
        context.shared().requeue.forget(K::KIND, &namespace, &name);
        cached.wake_dependents(context);
        cached.on_deleted(context);
        return Ok(ReconcileAction::await_change());
    }
    decided
}

/// One decision about an object as it was just read, and what follows.
async fn observe_plan_act<K: Kind>(object: K, context: &Arc<K::Context>) -> Result<ReconcileAction, ReconcileError> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    context.shared().requeue.know(K::KIND, &namespace, &name);
    let observed = object.observe(context).await?;
    let plan = K::plan(&observed, clock::now());
    if plan.finalizer && sync_finalizer(&object, true, context.shared()).await? {
        return Err(ReconcileError::Outdated);
    }
    let committed = commit(object, &plan, context).await?;
    for act in plan.actions {
        tracing::debug!(kind = K::KIND, %namespace, %name, ?act, "act");
        committed.act(act, context).await?;
    }
    // Of that very version: whatever came in between is looked at before the object is let go.
    if !plan.finalizer && sync_finalizer(&committed, false, context.shared()).await? {
        return Ok(ReconcileAction::await_change());
    }
    Ok(plan.next.map_or_else(ReconcileAction::await_change, ReconcileAction::requeue))
}

/// Those of a list that can be read. One that can't be must not hide the others, and its own reconcile says so.
pub async fn readable<K: Kind>(api: Api<DeserializeGuard<K>>, of: &ListParams) -> Result<Vec<K>, ReconcileError> {
    Ok(api.list(of).await?.items.into_iter().filter_map(|one| one.0.ok()).collect())
}

/// A watch that begins anew from time to time, with a list: whatever got lost on the way is found then. An object that did not change
/// meanwhile is not reconciled for it.
fn watched<K: Kind>(
    scope: Api<DeserializeGuard<K>>,
    resync: Duration,
) -> impl Stream<Item = watcher::Result<watcher::Event<DeserializeGuard<K>>>> + Send {
    stream::repeat(()).flat_map(move |()| {
        let round = resync.mul_f64(rand::rng().random_range(0.9..1.1));
        watcher(scope.clone(), watcher::Config::default().timeout(WATCH_SECONDS)).take_until(tokio::time::sleep(round))
    })
}

/// Runs a kind until `stop` resolves; what is being reconciled then is finished first.
pub async fn run<K: Kind>(
    context: Arc<K::Context>,
    scope: Api<DeserializeGuard<K>>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let requeue = context
        .shared()
        .requeue
        .listen(K::KIND)
        .map(|(namespace, name)| ObjectRef::<DeserializeGuard<K>>::new(&name).within(&namespace));
    let (reader, writer) = reflector::store();
    let mut deletions = DeletionWatch::new(context.clone(), reader.clone());
    let changes = reflector::reflector(writer, watched(scope, context.shared().resync))
        .default_backoff()
        .inspect_ok(move |event| deletions.observe_event(event))
        .touched_objects()
        .predicate_filter(
            predicates::generation.combine(predicates::annotations).combine(predicates::finalizers),
            Default::default(),
        );
    Controller::for_stream(changes, reader)
        .with_config(Config::default().concurrency(OBJECTS_AT_ONCE))
        .reconcile_on(requeue)
        .graceful_shutdown_on(stop)
        .run(reconcile, retry, context)
        .for_each(|done| {
            if let Err(controller::Error::QueueError(error)) = done {
                tracing::warn!(kind = K::KIND, %error, "can't be listed or watched; trying again");
            }
            std::future::ready(())
        })
        .await;
}

fn key<K: Kind>(object: &K) -> String {
    format!("{}/{}/{}", K::KIND, object.namespace().unwrap_or_default(), object.name_any())
}

/// Later each time: 1 s, 2 s … up to a minute, and not all at the same moment.
fn retry<K: Kind>(
    cached: Arc<DeserializeGuard<K>>,
    trouble: &ReconcileError,
    context: Arc<K::Context>,
) -> ReconcileAction {
    let Ok(object) = &cached.0 else { return ReconcileAction::await_change() };
    let key = key(object);
    if matches!(trouble, ReconcileError::GateShut(_)) {
        return ReconcileAction::requeue(NOT_LEADING_RETRY);
    }
    if matches!(trouble, ReconcileError::Outdated) {
        return ReconcileAction::requeue(Duration::from_secs(1).mul_f64(rand::rng().random_range(0.1..1.0)));
    }
    let failures = {
        let mut all = context.shared().failures.lock();
        let failures = all.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        *failures
    };
    tracing::warn!(object = key, %trouble, failures, "looked at again later");
    let longest = Duration::from_secs((1_u64 << failures.saturating_sub(1).min(6)).min(BACKOFF_MAX_SECONDS));
    ReconcileAction::requeue(longest.mul_f64(rand::rng().random_range(0.5..1.0)))
}
