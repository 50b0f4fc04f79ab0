//! Lists, watches and requeues become reconciles, until a stop.

use std::{future::Future, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt, stream};
use kube::{
    Api, ResourceExt,
    api::ListParams,
    core::DeserializeGuard,
    runtime::{
        Config, Controller, Predicate, WatchStreamExt, controller, predicates, reflector, reflector::ObjectRef, watcher,
    },
};
use rand::Rng;

use super::{
    backoff::retry,
    deletions::DeletionWatch,
    kind::{Context, Kind},
    overwritten,
    reconcile::reconcile,
};
use crate::controllers::error::ReconcileError;

const OBJECTS_AT_ONCE: u16 = 32;
/// Shorter than the default, so that a watch that died silently is noticed.
const WATCH_SECONDS: u32 = 60;

/// The objects of a list that can be read. One that can't be must not hide the others; its own reconcile reports it.
pub async fn list_readable<K: Kind>(api: Api<DeserializeGuard<K>>, of: &ListParams) -> Result<Vec<K>, ReconcileError> {
    Ok(api.list(of).await?.items.into_iter().filter_map(|one| one.0.ok()).collect())
}

/// A watch that starts again from time to time, with a list: whatever got lost on the way is found then. An object that did not change
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
        .subscribe(K::KIND)
        .map(|(namespace, name)| ObjectRef::<DeserializeGuard<K>>::new(&name).within(&namespace));
    let heard = context.shared().requeue.clone();
    let watching = context.clone();
    let (reader, writer) = reflector::store();
    let mut deletions = DeletionWatch::new(context.clone(), reader.clone());
    let changes = reflector::reflector(writer, watched(scope, context.shared().resync))
        .default_backoff()
        .inspect_ok(move |event| deletions.observe_event(event))
        .touched_objects()
        .inspect_ok(move |object| overwritten::observe::<K>(object, &watching))
        .predicate_filter(
            predicates::generation.combine(predicates::annotations).combine(predicates::finalizers),
            Default::default(),
        )
        .inspect_ok(move |object| heard.changes().note(&object.namespace().unwrap_or_default()));
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
