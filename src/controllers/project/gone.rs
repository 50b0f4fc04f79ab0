//! What Projects left that are gone: with each of them, and by the garbage collector what was missed because no operator ran then.

use std::collections::BTreeSet;

use kube::{Api, ResourceExt, api::ListParams};

use super::{caches, context::ProjectContext, pushes};
use crate::{
    api::{Project, Reason},
    controllers::{build::broken::Broken, gc::GarbageContext},
    effects::store::keys,
    model::Class,
};

/// What this one left.
pub(super) async fn tidy(uid: &str, namespace: &str, context: &ProjectContext) -> Result<(), Broken> {
    caches::sweep(&context.shared, &context.executor, namespace).await?;
    pushes::forget(uid, &context.shared.gate, &context.store).await
}

/// What all left. `scope`: the one namespace whose Projects may be listed; `None`: those of all.
pub async fn sweep(context: &GarbageContext, scope: Option<&str>) -> Result<(), Broken> {
    let cached = context.executor.cached_projects().await?.into_iter().map(|(namespace, _)| namespace);
    let namespaces: BTreeSet<String> = cached.filter(|one| scope.is_none_or(|scope| scope == one)).collect();
    for namespace in namespaces {
        caches::sweep(&context.shared, &context.executor, &namespace).await?;
    }
    match scope {
        None => sweep_pushes(context).await,
        // A record of a push says the Project's uid and not its namespace: whoever does not see all Projects can't tell.
        Some(_) => Ok(()),
    }
}

/// The records are listed first, so each had its Project by the time of the list, or has none.
async fn sweep_pushes(context: &GarbageContext) -> Result<(), Broken> {
    let records = context.store.list(&keys::all_triggers()?).await?;
    let recorded: BTreeSet<&str> = records.iter().filter_map(keys::project_of_trigger).collect();
    if recorded.is_empty() {
        return Ok(());
    }
    let listed = Api::<Project>::all(context.shared.client.clone()).list_metadata(&ListParams::default()).await;
    let listed = listed.map_err(|error| Broken::new(Reason::InternalError, Class::Transient, &error))?;
    let projects: BTreeSet<String> = listed.items.iter().filter_map(ResourceExt::uid).collect();
    for uid in recorded.into_iter().filter(|uid| !projects.contains(*uid)) {
        pushes::forget(uid, &context.shared.gate, &context.store).await?;
    }
    Ok(())
}
