//! What is left, and which objects exist. It must not decide what is needed.

use crate::model::Failure;
use std::collections::{BTreeMap, BTreeSet};

use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    core::DeserializeGuard,
};

use super::context::GarbageContext;
use crate::{
    api::{
        Build, Project, Reason,
        conditions::{READY, status_of},
    },
    controllers::{error::api_message, records::read_json},
    effects::{git, store::keys},
    model::{Class, build::BuildPlan},
    plan::gc::leftovers::Observed,
};

/// Builds and Projects are listed last: whatever lay around before has its own in the list, or it has none. One that can't be read is there
/// all the same, and stops nothing. Whose it is need be known of the rest alone.
pub(super) async fn everything(context: &GarbageContext, scope: Option<&str>) -> Result<Observed, Failure> {
    let caches = context.executor.cached_projects().await?.into_iter().collect();
    let push_records = context.store.list(&keys::all_triggers()?).await?;
    let push_records = push_records.iter().filter_map(keys::project_of_trigger).map(str::to_owned).collect();
    let mirrors = context.git.mirrors().await?;
    let folders = context.executor.builds().await?;
    let records = context.store.list(&keys::builds()?).await?;
    let records: BTreeSet<String> =
        records.iter().filter_map(|key| Some(keys::build_parts(key)?.0.to_owned())).collect();
    let existing = projects(context, scope).await?;
    let builds = builds(context, scope).await?;
    let (folders, records) =
        (namespaces_of(folders, &builds, context).await?, namespaces_of(records, &builds, context).await?);
    Ok(Observed {
        scope: scope.map(str::to_owned),
        builds,
        folders,
        records,
        mirrors,
        sources: existing.iter().filter_map(mirror_of).collect(),
        projects: existing.iter().filter_map(ResourceExt::uid).collect(),
        caches,
        push_records,
    })
}

/// Caches, each by namespace and uid of its Project; and the uids of the Projects that exist in this namespace.
pub(super) async fn caches_of(
    namespace: &str,
    context: &GarbageContext,
) -> Result<(BTreeSet<(String, String)>, BTreeSet<String>), Failure> {
    let caches: BTreeSet<(String, String)> = context.executor.cached_projects().await?.into_iter().collect();
    let existing = projects(context, Some(namespace)).await?;
    Ok((caches, existing.iter().filter_map(ResourceExt::uid).collect()))
}

/// The namespaces of those that have no Build.
async fn namespaces_of(
    uids: impl IntoIterator<Item = String>,
    builds: &BTreeMap<String, bool>,
    context: &GarbageContext,
) -> Result<BTreeMap<String, Option<String>>, Failure> {
    let mut found = BTreeMap::new();
    for uid in uids.into_iter().filter(|uid| !builds.contains_key(uid)) {
        let plan: Option<BuildPlan> = match read_json(&context.store, &keys::build_plan(&uid)?).await {
            // A record that can't be parsed tells nothing, now or later.
            Err(failure) if failure.class == Class::Terminal => None,
            plan => plan?,
        };
        found.insert(uid, plan.map(|plan| plan.namespace));
    }
    Ok(found)
}

/// Uids, and whether they are published.
async fn builds(context: &GarbageContext, scope: Option<&str>) -> Result<BTreeMap<String, bool>, Failure> {
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

/// As they stand there: one that can't be read exists all the same.
async fn projects(context: &GarbageContext, scope: Option<&str>) -> Result<Vec<DynamicObject>, Failure> {
    let (client, resource) = (context.shared.client.clone(), ApiResource::erase::<Project>(&()));
    let api: Api<DynamicObject> = match scope {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    Ok(api.list(&ListParams::default()).await.map_err(unlisted)?.items)
}

/// Name of the Project's mirror. Of a Project that can't be read this one field can.
fn mirror_of(project: &DynamicObject) -> Option<String> {
    let url = project.data.pointer("/spec/source/url")?.as_str()?;
    git::mirror_of(&project.namespace()?, url).ok()
}

fn unlisted(error: kube::Error) -> Failure {
    Failure::of(Reason::InternalError, Class::Transient, &api_message(&error))
}
