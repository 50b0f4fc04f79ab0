//! Garbage collector: what Builds and Projects left that are gone, also those that went while no operator ran. What one Build leaves when it ends
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
    error::api_message,
    frame::Shared,
    project,
};
use crate::{
    api::{
        Build, Project, Reason,
        conditions::{READY, status_of},
    },
    effects::{
        clock,
        executor::LocalExecutor,
        git::{self, Git},
        store::{Store, keys},
    },
    model::Class,
    plan::{
        build::BuildPlan,
        gc::{self, Observed},
    },
};

/// What the garbage collector touches.
pub struct GarbageContext {
    pub shared: Arc<Shared>,
    pub executor: LocalExecutor,
    pub git: Git,
    pub store: Store,
}

const EVERY: Duration = Duration::from_secs(6 * 3600);

/// Sweeps now, and every six hours, for as long as it is polled.
pub async fn keep(context: Arc<GarbageContext>, scope: Option<String>) {
    loop {
        if let Err(broken) = sweep(&context, scope.as_deref()).await {
            tracing::warn!(reason = %broken.reason, message = %broken.message, "leftovers are removed later");
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn sweep(context: &GarbageContext, scope: Option<&str>) -> Result<(), Broken> {
    let litter = gc::plan(&observe(context, scope).await?, clock::now());
    for uid in &litter.folders {
        context.executor.forget(&context.shared.gate, uid).await?;
    }
    for uid in &litter.records {
        remove_leftovers(uid, &context.shared, &context.store).await?;
    }
    for pin in &litter.pins {
        context.git.unpin(&context.shared.gate, pin).await?;
    }
    let mut mirrors = 0;
    for mirror in litter.mirrors {
        mirrors += usize::from(context.git.forget(&context.shared.gate, mirror).await?);
    }
    project::gone::sweep(context, scope).await?;
    let files = context.store.sweep(&context.shared.gate).await?;
    let (builds, records, kept_refs) = (litter.folders.len(), litter.records.len(), litter.pins.len());
    if files + builds + records + kept_refs + mirrors > 0 {
        tracing::info!(builds, records, kept_refs, mirrors, files, "leftovers are removed");
    }
    Ok(())
}

/// Builds and Projects are listed last: whatever lay around before has its own in the list, or it has none. One that can't be read is there
/// all the same, and stops nothing. Whose it is need be known of the rest alone.
async fn observe(context: &GarbageContext, scope: Option<&str>) -> Result<Observed, Broken> {
    let mirrors = context.git.mirrors().await?;
    let folders = context.executor.builds().await?;
    let records = context.store.list(&keys::builds()?).await?;
    let records: BTreeSet<String> =
        records.iter().filter_map(|key| Some(keys::build_parts(key)?.0.to_owned())).collect();
    let sources = sources(context, scope).await?;
    let builds = builds(context, scope).await?;
    let (folders, records) = (of(folders, &builds, context).await?, of(records, &builds, context).await?);
    Ok(Observed { scope: scope.map(str::to_owned), builds, folders, records, mirrors, sources })
}

/// The namespaces of those that have no Build.
async fn of(
    uids: impl IntoIterator<Item = String>,
    builds: &BTreeMap<String, bool>,
    context: &GarbageContext,
) -> Result<BTreeMap<String, Option<String>>, Broken> {
    let mut found = BTreeMap::new();
    for uid in uids.into_iter().filter(|uid| !builds.contains_key(uid)) {
        let plan: Option<BuildPlan> = match read_json(&context.store, &keys::build_plan(&uid)?).await {
            // A record that is no more one tells nothing, and will tell nothing later.
            Err(broken) if broken.class == Class::Terminal => None,
            plan => plan?,
        };
        found.insert(uid, plan.map(|plan| plan.namespace));
    }
    Ok(found)
}

/// Uids, and whether they are published.
async fn builds(context: &GarbageContext, scope: Option<&str>) -> Result<BTreeMap<String, bool>, Broken> {
    let client = context.shared.client.clone();
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
async fn sources(context: &GarbageContext, scope: Option<&str>) -> Result<BTreeSet<String>, Broken> {
    let (client, resource) = (context.shared.client.clone(), ApiResource::erase::<Project>(&()));
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
    Broken::new(Reason::InternalError, Class::Transient, &api_message(&error))
}
