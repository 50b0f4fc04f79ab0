//! Everything that a decision about a Project needs, read freshly. It must not decide, nor ask git.

use crate::model::Failure;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{ResourceExt, api::ListParams, core::DeserializeGuard};

use super::{context::ProjectContext, listing, pushes, retention};
use crate::{
    api::{Build, Project, project::VersionView},
    controllers::{
        frame::{self, ReconcileError},
        object::observed_object,
        records::read_json,
    },
    effects::{clock, store::keys},
    model::{Class, build::BuildPlan, version::VersionRecord},
    plan::{
        builds::stage::{self, BuildStage},
        project::{Candidate, Claim, GrantObserved, Observed, Planned},
    },
};

pub(super) async fn observe(project: &Project, context: &ProjectContext) -> Result<Observed, ReconcileError> {
    let (namespace, name) = (project.namespace().unwrap_or_default(), project.name_any());
    let known = context.sources.known(&project.uid().unwrap_or_default(), &listing::source(project));
    let status = project.status.clone().filter(|status| status.observed_generation > 0);
    let active = status.as_ref().and_then(|status| status.active_build.clone());
    let selector = ListParams::default().fields(&format!("spec.projectRef.name={name}"));
    let builds = frame::list_readable(context.shared.api::<DeserializeGuard<Build>>(&namespace), &selector).await?;
    let retention = context.sources.schedules.observed(&project.uid().unwrap_or_default(), kept(project, &builds)?);
    let mut candidates = Vec::new();
    for build in builds {
        let stage = stage::of(&build);
        let is_active = active.as_ref().map(|active| &active.uid) == build.metadata.uid.as_ref();
        if is_active || matches!(stage, BuildStage::Queued | BuildStage::Active) {
            candidates.push(candidate(build, stage, context).await?);
        }
    }
    let grant = match &active {
        Some(active) => Some(granted(context, &namespace, &name, &active.uid, active.number).await?),
        None => None,
    };
    Ok(Observed {
        object: observed_object(project, project.spec.clone(), status),
        pushes: pushes::observed(&project.uid().unwrap_or_default(), context).await?,
        listing: known.listing,
        listing_now: known.running,
        ticked: known.ticked.is_some() && known.ticked == listing::interval(project),
        retry_state: known.retry_state,
        versions: versions(context, &namespace, &name).await?,
        highest: highest(context, &namespace, &name).await?,
        builds: candidates,
        grant,
        announced: context.builds.queue(&namespace, &name),
        retention,
    })
}

/// What `retention` is about: another text is a reason for another run.
fn kept(project: &Project, builds: &[Build]) -> Result<String, ReconcileError> {
    let ended = builds.iter().filter(|build| stage::of(build) == BuildStage::Ended);
    let mut uids: Vec<String> = ended.filter_map(ResourceExt::uid).collect();
    uids.sort();
    Ok(format!("{} {}", uids.join(","), serde_json::to_string(&project.spec.retention)?))
}

async fn candidate(build: Build, stage: BuildStage, context: &ProjectContext) -> Result<Candidate, Failure> {
    let uid = build.uid().unwrap_or_default();
    Ok(Candidate {
        name: build.name_any(),
        created: build.metadata.creation_timestamp.clone().unwrap_or_else(|| Time(clock::now())),
        stage,
        highest_tag: context.builds.highest_tag(&uid),
        planned: planned(context, &uid).await?,
        uid,
    })
}

async fn planned(context: &ProjectContext, uid: &str) -> Result<Option<Planned>, Failure> {
    let plan: Option<BuildPlan> = read_json(&context.store, &keys::build_plan(uid)?).await?;
    Ok(plan.map(|plan| Planned { number: plan.number, granted_at: plan.granted_at }))
}

async fn granted(
    context: &ProjectContext,
    namespace: &str,
    name: &str,
    uid: &str,
    number: i64,
) -> Result<GrantObserved, Failure> {
    let claim = match context.store.get(&keys::number(namespace, name, number)?).await? {
        None => Claim::Unclaimed,
        Some(holder) if holder == uid.as_bytes() => Claim::Own,
        Some(_) => Claim::Foreign,
    };
    Ok(GrantObserved { claim, planned: planned(context, uid).await? })
}

async fn highest(context: &ProjectContext, namespace: &str, name: &str) -> Result<i64, Failure> {
    let keys = context.store.list(&keys::numbers(namespace, name)?).await?;
    Ok(keys.iter().filter_map(|key| key.name().parse().ok()).max().unwrap_or(0))
}

/// Every version of the project that was not removed, newest first. A record never changes, so each is read once.
async fn versions(context: &ProjectContext, namespace: &str, name: &str) -> Result<Vec<VersionView>, Failure> {
    let mut keys = context.store.list(&keys::versions(namespace, name)?).await?;
    let removed = retention::removed(namespace, name, context).await?;
    keys.retain(|key| !removed.contains(key.name()));
    let mut before = context.sources.versions(namespace, name);
    let mut known = BTreeMap::new();
    for key in keys {
        if let Some(view) = before.remove(key.name()) {
            known.insert(key.name().to_owned(), view);
            continue;
        }
        match read_json::<VersionRecord>(&context.store, &key).await {
            Ok(Some(record)) => {
                known.insert(key.name().to_owned(), view(record));
            }
            Ok(None) => {}
            Err(failure) if failure.class == Class::Terminal => {
                tracing::warn!(%key, message = %failure.message, "a version is not shown");
            }
            Err(failure) => return Err(failure),
        }
    }
    context.sources.remember(namespace, name, known.clone());
    let mut versions: Vec<_> = known.into_values().collect();
    versions.sort_by(|a, b| b.built_at.0.cmp(&a.built_at.0).then_with(|| b.version.cmp(&a.version)));
    Ok(versions)
}

fn view(record: VersionRecord) -> VersionView {
    VersionView {
        version: record.version,
        commit: record.commit,
        build: record.build,
        digest: format!("sha256:{}", record.digest),
        built_at: Time(record.built_at),
    }
}
