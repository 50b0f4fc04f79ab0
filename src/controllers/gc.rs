//! The broom: what Builds and Projects left that are gone, also those that went while no operator ran. What one Build leaves when it ends
//! or goes is tidied up by its own controller; this is for what was missed. It must not decide what is needed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    core::DeserializeGuard,
};

use super::{
    build::{broken::Broken, read_json, remove_leftovers},
    project,
    world::World,
};
use crate::{
    api::{
        Build, Project, Reason,
        conditions::{READY, status_of},
    },
    effects::{clock, git, store::keys},
    model::Class,
    plan::{
        build::BuildPlan,
        gc::{self, Observed},
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
    let litter = gc::plan(&observe(world, scope).await?, clock::now());
    for uid in &litter.folders {
        world.executor.forget(&world.gate, uid).await?;
    }
    for uid in &litter.records {
        remove_leftovers(uid, world).await?;
    }
    for pin in &litter.pins {
        world.git.unpin(&world.gate, pin).await?;
    }
    let mut mirrors = 0;
    for mirror in litter.mirrors {
        mirrors += usize::from(world.git.forget(&world.gate, mirror).await?);
    }
    project::gone::sweep(world, scope).await?;
    let files = world.store.sweep(&world.gate).await?;
    let (builds, records, kept_refs) = (litter.folders.len(), litter.records.len(), litter.pins.len());
    if files + builds + records + kept_refs + mirrors > 0 {
        tracing::info!(builds, records, kept_refs, mirrors, files, "leftovers are removed");
    }
    Ok(())
}

/// Builds and Projects are listed last: whatever lay around before has its own in the list, or it has none. One that can't be read is there
/// all the same, and stops nothing. Whose it is need be known of the rest alone.
async fn observe(world: &World, scope: Option<&str>) -> Result<Observed, Broken> {
    let mirrors = world.git.mirrors().await?;
    let folders = world.executor.builds().await?;
    let records = world.store.list(&keys::builds()?).await?;
    let records: BTreeSet<String> =
        records.iter().filter_map(|key| Some(keys::build_parts(key)?.0.to_owned())).collect();
    let sources = sources(world, scope).await?;
    let builds = builds(world, scope).await?;
    let (folders, records) = (of(folders, &builds, world).await?, of(records, &builds, world).await?);
    Ok(Observed { scope: scope.map(str::to_owned), builds, folders, records, mirrors, sources })
}

/// The namespaces of those that have no Build.
async fn of(
    uids: impl IntoIterator<Item = String>,
    builds: &BTreeMap<String, bool>,
    world: &World,
) -> Result<BTreeMap<String, Option<String>>, Broken> {
    let mut found = BTreeMap::new();
    for uid in uids.into_iter().filter(|uid| !builds.contains_key(uid)) {
        let plan: Option<BuildPlan> = match read_json(world, &keys::build_plan(&uid)?).await {
            // A record that is no more one tells nothing, and will tell nothing later.
            Err(broken) if broken.class == Class::Terminal => None,
            plan => plan?,
        };
        found.insert(uid, plan.map(|plan| plan.namespace));
    }
    Ok(found)
}

/// Uids, and whether they are published.
async fn builds(world: &World, scope: Option<&str>) -> Result<BTreeMap<String, bool>, Broken> {
    let client = world.client.clone();
    let api: Api<DeserializeGuard<Build>> = match scope {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let published = |build: &DeserializeGuard<Build>| {
        let status = build.0.as_ref().ok().and_then(|build| build.status.as_ref());
        status.is_some_and(|status| status_of(&status.conditions, READY) == Some(true))
    };
    let listed = api.list(&ListParams::default()).await.map_err(unlisted)?.items;
    Ok(listed.iter().map(|build| (build.uid().unwrap_or_default(), published(build))).collect())
}

/// The names of the Projects' mirrors. Of a Project that can't be read this one field can.
async fn sources(world: &World, scope: Option<&str>) -> Result<BTreeSet<String>, Broken> {
    let (client, resource) = (world.client.clone(), ApiResource::erase::<Project>(&()));
    let api: Api<DynamicObject> = match scope {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let mirror = |project: &DynamicObject| {
        let url = project.data.pointer("/spec/source/url")?.as_str()?;
        git::mirror_of(&project.namespace()?, url).ok()
    };
    let listed = api.list(&ListParams::default()).await.map_err(unlisted)?.items;
    Ok(listed.iter().filter_map(mirror).collect())
}

fn unlisted(error: kube::Error) -> Broken {
    Broken::new(Reason::InternalError, Class::Transient, &error)
}
