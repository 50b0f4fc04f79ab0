//! What Projects left that are gone: with each of them, and by the broom what was missed because no operator ran then.

use std::collections::BTreeSet;

use kube::{Api, ResourceExt, api::ListParams};

use super::{caches, pushes};
use crate::{
    api::{Project, Reason},
    controllers::{build::broken::Broken, world::World},
    effects::store::keys,
    model::Class,
};

/// What this one left.
pub(super) async fn tidy(uid: &str, namespace: &str, world: &World) -> Result<(), Broken> {
    caches::sweep(world, namespace).await?;
    pushes::forget(uid, world).await
}

/// What all left. `scope`: the one namespace whose Projects may be listed; `None`: those of all.
pub async fn sweep(world: &World, scope: Option<&str>) -> Result<(), Broken> {
    let cached = world.executor.cached_projects().await?.into_iter().map(|(namespace, _)| namespace);
    let namespaces: BTreeSet<String> = cached.filter(|one| scope.is_none_or(|scope| scope == one)).collect();
    for namespace in namespaces {
        caches::sweep(world, &namespace).await?;
    }
    match scope {
        None => sweep_pushes(world).await,
        // A record of a push says the Project's uid and not its namespace: whoever does not see all Projects can't tell.
        Some(_) => Ok(()),
    }
}

/// The records are listed first, so each had its Project by the time of the list, or has none.
async fn sweep_pushes(world: &World) -> Result<(), Broken> {
    let records = world.store.list(&keys::all_triggers()?).await?;
    let recorded: BTreeSet<&str> = records.iter().filter_map(keys::project_of_trigger).collect();
    if recorded.is_empty() {
        return Ok(());
    }
    let listed = Api::<Project>::all(world.client.clone()).list_metadata(&ListParams::default()).await;
    let listed = listed.map_err(|error| Broken::new(Reason::InternalError, Class::Transient, &error))?;
    let projects: BTreeSet<String> = listed.items.iter().filter_map(ResourceExt::uid).collect();
    for uid in recorded.into_iter().filter(|uid| !projects.contains(*uid)) {
        pushes::forget(uid, world).await?;
    }
    Ok(())
}
