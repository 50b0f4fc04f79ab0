//! The garbage collector: observes what is left and what exists, and deletes what `plan::gc` says is not needed. What one Build leaves
//! when it ends or goes is collected by its own controller; this finds what was missed, for example because no operator ran. It must not
//! decide what is needed.

mod context;
mod observe;
pub(super) mod releases;

use crate::model::Failure;
use std::{sync::Arc, time::Duration};

pub use self::context::GarbageContext;
use super::{builds::delete_records, project::pushes::delete_push_records};
use crate::{
    effects::clock,
    plan::gc::{
        Collectable,
        leftovers::{self, Garbage},
    },
};

const COLLECTION_INTERVAL: Duration = Duration::from_secs(6 * 3600);
/// Delay after a run that failed: the lease was away for a moment, or the API server did not answer.
const RETRY_DELAY: Duration = Duration::from_secs(60);

/// Collects now, and every six hours, for as long as it is polled; a run that failed is made up for within a minute.
pub async fn keep(context: Arc<GarbageContext>, scope: Option<String>) {
    loop {
        let delay = match collect(&context, scope.as_deref()).await {
            Ok(()) => COLLECTION_INTERVAL,
            Err(failure) => {
                tracing::warn!(reason = %failure.reason, message = %failure.message, "garbage is collected later");
                RETRY_DELAY
            }
        };
        tokio::time::sleep(delay).await;
    }
}

/// One run over all that Builds and Projects left. `scope`: the one namespace whose objects are known; `None`: those of all.
async fn collect(context: &GarbageContext, scope: Option<&str>) -> Result<(), Failure> {
    let garbage = leftovers::plan(&observe::everything(context, scope).await?, clock::now());
    let mut deleted = Vec::new();
    for one in garbage {
        let kind = one.kind();
        if delete(one, context).await? {
            deleted.push(kind);
        }
    }
    let files = context.store.sweep(&context.shared.gate).await?;
    if files + deleted.len() > 0 {
        let count = |kind: Collectable| deleted.iter().filter(|one| **one == kind).count();
        tracing::info!(
            folders = count(Collectable::BuildFolder),
            records = count(Collectable::BuildRecords),
            pins = count(Collectable::Pin),
            mirrors = count(Collectable::Mirror),
            caches = count(Collectable::Caches),
            push_records = count(Collectable::PushRecords),
            files,
            "garbage is collected"
        );
    }
    Ok(())
}

/// What one Project left that is deleted.
pub(super) async fn collect_project(uid: &str, namespace: &str, context: &GarbageContext) -> Result<(), Failure> {
    let (caches, projects) = observe::caches_of(namespace, context).await?;
    for one in leftovers::of_project(uid, namespace, &caches, &projects) {
        delete(one, context).await?;
    }
    Ok(())
}

/// False: it is not as it was seen, and stays. Deleting twice is deleting once.
async fn delete(garbage: Garbage, context: &GarbageContext) -> Result<bool, Failure> {
    let gate = &context.shared.gate;
    match garbage {
        Garbage::BuildFolder { uid } => context.executor.delete_build(gate, &uid).await?,
        Garbage::BuildRecords { uid } => delete_records(&uid, &context.shared, &context.store).await?,
        Garbage::Pin { name } => context.git.delete_pin(gate, &name).await?,
        Garbage::Mirror(mirror) => return Ok(context.git.delete_mirror(gate, mirror).await?),
        Garbage::Caches { namespace, projects } => {
            context.executor.delete_caches(gate, &namespace, projects).await?;
        }
        Garbage::PushRecords { project } => delete_push_records(&project, gate, &context.store).await?,
    }
    Ok(true)
}
