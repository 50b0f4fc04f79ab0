//! The broom: what Builds left that are gone, also those that went while no operator ran. What one Build leaves when it ends or goes is
//! tidied up by its own controller; this is for what was missed. It must not decide what is needed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::{Api, ResourceExt, api::ListParams};

use super::{
    build::{broken::Broken, read_json},
    world::World,
};
use crate::{
    api::{
        Build, Reason,
        conditions::{READY, status_of},
    },
    effects::{class::Class, store::keys},
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
    for pin in &litter.pins {
        world.git.unpin(&world.gate, pin).await?;
    }
    let files = world.store.sweep(&world.gate).await?;
    if files + litter.folders.len() + litter.pins.len() > 0 {
        tracing::info!(builds = litter.folders.len(), pins = litter.pins.len(), files, "leftovers are removed");
    }
    Ok(())
}

/// The Builds are listed last: whatever lay around before has its Build in the list, or it has none.
async fn observe(world: &World, scope: Option<&str>) -> Result<Seen, Broken> {
    let pins = world.git.pins().await?;
    let mut folders = BTreeMap::new();
    for uid in world.executor.builds().await? {
        let key =
            keys::build_plan(&uid).map_err(|error| Broken::new(Reason::InternalError, Class::Terminal, &error))?;
        let plan: Option<BuildPlan> = read_json(world, &key).await?;
        folders.insert(uid, plan.map(|plan| plan.namespace));
    }
    let api: Api<Build> = match scope {
        Some(namespace) => world.api(namespace),
        None => Api::all(world.client.clone()),
    };
    let listed = api.list(&ListParams::default()).await;
    let builds = listed.map_err(|error| Broken::new(Reason::InternalError, Class::Transient, &error))?.items;
    let published =
        |build: &Build| build.status.as_ref().is_some_and(|status| status_of(&status.conditions, READY) == Some(true));
    let builds = builds.iter().map(|build| (build.uid().unwrap_or_default(), published(build))).collect();
    Ok(Seen { scope: scope.map(str::to_owned), builds, folders, pins })
}
