//! The broom: what Builds left that are gone, also those that went while no operator ran. What one Build leaves when it ends or goes is
//! tidied up by its own controller; this is for what was missed. It must not decide what is needed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kube::{Api, ResourceExt, api::ListParams};

use super::{
    build::{broken::Broken, read_json, remove_leftovers},
    world::World,
};
use crate::{
    api::{
        Build, Reason,
        conditions::{READY, status_of},
    },
    effects::{
        class::Class,
        store::keys::{self, BadPart},
    },
    plan::{
        build::BuildPlan,
        garbage::{self, Seen},
    },
};

const EVERY: Duration = Duration::from_secs(6 * 3600);

/// Sweeps now, and every six hours, for as long as it is polled.
pub async fn keep(world: Arc<World>, scope: Option<String>) {
    loop {
        if let Err(broken) = sweep(&world, scope.as_deref()).await {
            tracing::warn!(reason = %broken.reason, message = %broken.message, "leftovers are removed later");
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn sweep(world: &World, scope: Option<&str>) -> Result<(), Broken> {
    let litter = garbage::plan(&observe(world, scope).await?);
    for uid in &litter.folders {
        world.executor.forget(&world.gate, uid).await?;
    }
    for uid in &litter.records {
        remove_leftovers(uid, world).await?;
    }
    for pin in &litter.pins {
        world.git.unpin(&world.gate, pin).await?;
    }
    let files = world.store.sweep(&world.gate).await?;
    if files + litter.folders.len() + litter.records.len() + litter.pins.len() > 0 {
        let records = litter.records.len();
        tracing::info!(
            builds = litter.folders.len(),
            records,
            pins = litter.pins.len(),
            files,
            "leftovers are removed"
        );
    }
    Ok(())
}

/// The Builds are listed last: whatever lay around before has its Build in the list, or it has none. Whose it is need be known of the
/// rest alone.
async fn observe(world: &World, scope: Option<&str>) -> Result<Seen, Broken> {
    let pins = world.git.pins().await?;
    let folders = world.executor.builds().await?;
    let records = world.store.list(&keys::builds().map_err(bad_key)?).await?;
    let records: BTreeSet<String> =
        records.iter().filter_map(|key| Some(keys::build_parts(key)?.0.to_owned())).collect();
    let api: Api<Build> = match scope {
        Some(namespace) => world.api(namespace),
        None => Api::all(world.client.clone()),
    };
    let listed = api.list(&ListParams::default()).await;
    let builds = listed.map_err(|error| Broken::new(Reason::InternalError, Class::Transient, &error))?.items;
    let published =
        |build: &Build| build.status.as_ref().is_some_and(|status| status_of(&status.conditions, READY) == Some(true));
    let builds: BTreeMap<_, _> =
        builds.iter().map(|build| (build.uid().unwrap_or_default(), published(build))).collect();
    let (folders, records) = (of(folders, &builds, world).await?, of(records, &builds, world).await?);
    Ok(Seen { scope: scope.map(str::to_owned), builds, folders, records, pins })
}

/// The namespaces of those that have no Build.
async fn of(
    uids: impl IntoIterator<Item = String>,
    builds: &BTreeMap<String, bool>,
    world: &World,
) -> Result<BTreeMap<String, Option<String>>, Broken> {
    let mut found = BTreeMap::new();
    for uid in uids.into_iter().filter(|uid| !builds.contains_key(uid)) {
        let plan: Option<BuildPlan> = read_json(world, &keys::build_plan(&uid).map_err(bad_key)?).await?;
        found.insert(uid, plan.map(|plan| plan.namespace));
    }
    Ok(found)
}

fn bad_key(error: BadPart) -> Broken {
    Broken::new(Reason::InternalError, Class::Terminal, &error)
}
