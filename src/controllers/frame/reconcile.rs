//! The driver: one decision about one object as it was just read, and what follows. It must not decide.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use kube::{ResourceExt, core::DeserializeGuard, runtime::controller::Action as ReconcileAction};
use serde_json::Value;
use tracing::Instrument;

use super::{
    commit::{commit, read},
    finalizer::sync_finalizer,
    kind::{Context, Kind, key, key_of, span_of},
    unreadable::report_unreadable,
    writes::OnRecord,
};
use crate::{controllers::error::ReconcileError, effects::clock};

const DECISIONS_AT_ONCE: u32 = 5;
/// A reconcile only reads, writes a status and starts tasks: what takes longer hangs.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn reconcile<K: Kind>(
    cached: Arc<DeserializeGuard<K>>,
    context: Arc<K::Context>,
) -> Result<ReconcileAction, ReconcileError> {
    let deciding = async {
        match &cached.0 {
            Ok(object) => with_conflict_retries(object, &context).await,
            Err(_) => report_unreadable(cached.as_ref(), context.shared()).await,
        }
    };
    let deciding = deciding.instrument(span_of::<K>(cached.as_ref()));
    let decided = AssertUnwindSafe(tokio::time::timeout(RECONCILE_TIMEOUT, deciding)).catch_unwind().await;
    let decided = match decided {
        Ok(Ok(decided)) => decided,
        Ok(Err(_)) => {
            Err(ReconcileError::Internal("a reconcile of this object did not end within a minute".to_owned()))
        }
        Err(_) => {
            Err(ReconcileError::Internal("a reconcile of this object panicked; the log has the place".to_owned()))
        }
    };
    if decided.is_ok() {
        context.shared().failures.forget(&key_of::<K>(cached.as_ref()));
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
    let shared = context.shared();
    let (namespace, name) = (cached.namespace().unwrap_or_default(), cached.name_any());
    // Without the lease nothing may be done, so nothing is read.
    shared.gate.token()?;
    let decided = match read::<K>(shared, &namespace, &name).await? {
        Some((object, raw)) => observe_plan_act(object, &raw, context).await,
        None => Err(ReconcileError::NotFound),
    };
    if let Err(ReconcileError::NotFound) = decided {
        shared.requeue.forget(K::KIND, &namespace, &name);
        shared.writes.forget(&key(cached));
        cached.wake_dependents(context);
        cached.on_deleted(context);
        return Ok(ReconcileAction::await_change());
    }
    decided
}

async fn observe_plan_act<K: Kind>(
    object: K,
    raw: &Value,
    context: &Arc<K::Context>,
) -> Result<ReconcileAction, ReconcileError> {
    let shared = context.shared();
    shared.requeue.know(K::KIND, &object.namespace().unwrap_or_default(), &object.name_any());
    let observed = object.observe(context).await?;
    let plan = K::plan(&observed, clock::now());
    if plan.finalizer && sync_finalizer(&object, true, shared).await? {
        return Err(ReconcileError::Outdated);
    }
    object.grant(&observed, &plan, context)?;
    let committed = commit(object, raw, &plan, context).await?;
    if let Some(now) = OnRecord::of(&committed.object) {
        shared.writes.decided(&key(&committed.object), now);
    }
    for action in plan.actions {
        tracing::debug!(?action, "act");
        committed.object.act(action, context).await?;
    }
    // Of that very version: whatever came in between is observed before the finalizer goes.
    if !plan.finalizer && sync_finalizer(&committed.object, false, shared).await? {
        return Ok(ReconcileAction::await_change());
    }
    let next = [plan.next, committed.write_after].into_iter().flatten().min();
    Ok(next.map_or_else(ReconcileAction::await_change, ReconcileAction::requeue))
}
