//! What retention no longer keeps, collected in the background. It must not decide what that is.
//!
//! No intent is on record: each act may be done twice, and what a crash cut short is found by the next run.

use crate::model::Failure;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Preconditions},
    core::DeserializeGuard,
};

use super::{context::ProjectContext, pushes::WriteError};
use crate::{
    api::{
        Build, Project, Reason,
        conditions::{READY, status_of},
        verbs::{self, RETRY},
    },
    controllers::{
        frame,
        gc::releases::{Excluding, Releases, needed_versions},
        records::read_json,
    },
    effects::{
        api_server::api_message,
        clock,
        executor::AttemptId,
        gate::Effect,
        store::{Entry, keys},
    },
    model::{Class, version::VersionRecord},
    plan::{
        builds::stage,
        gc::retention::{self, Action, BuildObserved, LogObserved, Observed, VersionObserved},
    },
};

/// What was collected, for people.
#[derive(Default)]
pub(super) struct Collected {
    builds: Vec<String>,
    versions: Vec<String>,
    logs: usize,
}

impl Collected {
    /// `None` where it is nothing.
    pub(super) fn note(&self) -> Option<String> {
        if self.builds.len() + self.versions.len() + self.logs == 0 {
            return None;
        }
        let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let (versions, builds, logs) = (list(&self.versions), list(&self.builds), self.logs);
        Some(format!(
            "collected beyond spec.retention: versions: {versions}; Builds: {builds}; logs of attempts: {logs}"
        ))
    }
}

/// Collects what the project no longer keeps. What was collected first is named also where the rest failed.
pub(super) async fn collect(project: &Project, context: &Arc<ProjectContext>) -> (Collected, Result<(), Failure>) {
    let mut collected = Collected::default();
    let mut done = Ok(true);
    // An expired version is looked at once more before its bytes go.
    while matches!(done, Ok(true)) {
        done = collect_once(project, &mut collected, context).await;
    }
    (collected, done.map(|_| ()))
}

/// One run. True: versions expired, and another run is to follow.
async fn collect_once(
    project: &Project,
    collected: &mut Collected,
    context: &Arc<ProjectContext>,
) -> Result<bool, Failure> {
    let (observed, builds) = observe(project, context).await?;
    let actions = retention::plan(&observed, clock::now());
    delete_releases(project, &actions, collected, context).await?;
    let mut again = false;
    for action in &actions {
        match action {
            Action::DeleteRelease { .. } => {}
            Action::RestoreVersion { version } => restore(project, version, context).await?,
            Action::ExpireVersion { version, digest } => {
                expire(project, version, digest, context).await?;
                again = true;
            }
            Action::DeleteLog { uid, attempt } => {
                delete_log(uid, *attempt, context).await?;
                collected.logs += 1;
            }
            Action::DeleteBuild { name, uid } => {
                if let Some(build) = builds.get(uid)
                    && delete(build, context).await?
                {
                    collected.builds.push(name.clone());
                }
            }
        }
    }
    Ok(again)
}

/// From here on no Deployment takes it any more.
async fn expire(project: &Project, version: &str, digest: &str, context: &ProjectContext) -> Result<(), Failure> {
    let record = serde_json::json!({ "version": version, "digest": digest, "at": clock::now() });
    context
        .store
        .create(&context.shared.gate, &removed_key(project, version)?, record.to_string().into_bytes())
        .await?;
    Ok(())
}

/// A Deployment took it before it was on record as removed.
async fn restore(project: &Project, version: &str, context: &ProjectContext) -> Result<(), Failure> {
    let (namespace, name) = (project.namespace().unwrap_or_default(), project.name_any());
    let key = keys::version(&namespace, &name, version)?;
    let Some(record) = read_json::<VersionRecord>(&context.store, &key).await? else { return Ok(()) };
    let _alone = context.store.judge_releases().await;
    if context.store.has_release(&record.digest).await? {
        context.store.remove(&context.shared.gate, &removed_key(project, version)?).await?;
        context.shared.requeue.deployments_in(&namespace);
    }
    Ok(())
}

async fn delete_releases(
    project: &Project,
    actions: &[Action],
    collected: &mut Collected,
    context: &ProjectContext,
) -> Result<(), Failure> {
    if !actions.iter().any(|action| matches!(action, Action::DeleteRelease { .. })) {
        return Ok(());
    }
    let (namespace, name) = (project.namespace().unwrap_or_default(), project.name_any());
    let releases = Releases::observe(&context.store).await?;
    for action in actions {
        let Action::DeleteRelease { version, digest } = action else { continue };
        let key = keys::version(&namespace, &name, version)?;
        if releases.delete(digest, Excluding::Version(&key), &context.shared, &context.store).await? {
            collected.versions.push(version.clone());
        }
    }
    Ok(())
}

async fn delete_log(uid: &str, attempt: i64, context: &ProjectContext) -> Result<(), Failure> {
    context.executor.remove_log(&context.shared.gate, &AttemptId::new(uid.to_owned(), attempt)).await?;
    let folder = keys::log_folder(uid, &attempt.to_string())?;
    Ok(context.store.remove_below(&context.shared.gate, &folder, None).await?)
}

/// Exactly the Build that was looked at: one that was touched since is looked at again, and none of ours to tell of (`false`). What
/// it leaves is removed when it is collected.
async fn delete(build: &Build, context: &ProjectContext) -> Result<bool, Failure> {
    let name = build.name_any();
    let api = context.shared.api::<Build>(&build.namespace().unwrap_or_default());
    let exactly = Preconditions { uid: build.uid(), resource_version: build.resource_version() };
    let params = DeleteParams { preconditions: Some(exactly), ..DeleteParams::default() };
    let deleted = context
        .shared
        .gate
        .pass(Effect::new("build.delete", name.clone()), async {
            api.delete(&name, &params).await.map(|_| ()).map_err(WriteError::Api)
        })
        .await;
    match deleted {
        Ok(()) => Ok(true),
        Err(WriteError::Api(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(false),
        Err(WriteError::Shut(shut)) => Err(Failure::of(Reason::InternalError, Class::Waiting, &shut)),
        Err(WriteError::Api(error)) => {
            let message = format!(
                "the Build {name} is beyond spec.retention and can't be deleted: {}; see that the operator has the rights of manifests/operator-rights.yaml",
                api_message(&error)
            );
            Err(Failure::new(Reason::RetentionFailed, Class::Transient, message))
        }
    }
}

/// The store is listed first: a Deployment that is not in the list then sees what is on record as removed by now.
async fn observe(project: &Project, context: &ProjectContext) -> Result<(Observed, HashMap<String, Build>), Failure> {
    let (namespace, name) = (project.namespace().unwrap_or_default(), project.name_any());
    let (versions, publishers) = versions(&namespace, &name, context).await?;
    let selector = ListParams::default().fields(&format!("spec.projectRef.name={name}"));
    let builds = frame::list_readable(context.shared.api::<DeserializeGuard<Build>>(&namespace), &selector).await;
    let builds = builds.map_err(|error| Failure::of(Reason::RetentionFailed, Class::Transient, &error))?;
    let mut logs = Vec::new();
    for uid in builds.iter().filter_map(ResourceExt::uid) {
        logs.extend(logs_of(&uid, context).await?);
    }
    let observed = Observed {
        retention: project.spec.retention.clone(),
        builds: builds.iter().map(|build| build_observed(build, &publishers)).collect(),
        needed: needed_versions(&namespace, &name, &context.shared).await?,
        versions,
        logs,
    };
    Ok((observed, builds.into_iter().filter_map(|build| Some((build.uid()?, build))).collect()))
}

fn build_observed(build: &Build, publishers: &BTreeMap<String, String>) -> BuildObserved {
    let status = build.status.as_ref();
    let version = status.and_then(|status| status.version.clone().or_else(|| status.tag.clone()));
    let publisher = version.as_ref().and_then(|version| publishers.get(version));
    let published = status.is_some_and(|status| status_of(&status.conditions, READY) == Some(true));
    let asked = status.is_some_and(|status| {
        verbs::asked(RETRY, build.annotations(), &status.last_handled, status.observed_generation < 0).is_some()
    });
    BuildObserved {
        name: build.name_any(),
        uid: build.uid().unwrap_or_default(),
        created: build.metadata.creation_timestamp.as_ref().map_or_else(clock::now, |time| time.0),
        stage: stage::of(build),
        came_back: published && publisher.is_some_and(|publisher| Some(publisher) != build.metadata.uid.as_ref()),
        published,
        busy: asked || build.metadata.deletion_timestamp.is_some(),
        version,
    }
}

/// The versions, and the uid of the Build that published each.
async fn versions(
    namespace: &str,
    name: &str,
    context: &ProjectContext,
) -> Result<(Vec<VersionObserved>, BTreeMap<String, String>), Failure> {
    let removed = removed(namespace, name, context).await?;
    let (mut versions, mut publishers) = (Vec::new(), BTreeMap::new());
    for key in context.store.list(&keys::versions(namespace, name)?).await? {
        let Some(record) = read_json::<VersionRecord>(&context.store, &key).await? else { continue };
        publishers.insert(record.version.clone(), record.build_uid);
        versions.push(VersionObserved {
            removed: removed.contains(&record.version),
            stored: context.store.has_release(&record.digest).await?,
            version: record.version,
            built_at: record.built_at,
            digest: record.digest,
        });
    }
    Ok((versions, publishers))
}

/// Versions of a project that are on record as removed.
pub(super) async fn removed(
    namespace: &str,
    name: &str,
    context: &ProjectContext,
) -> Result<BTreeSet<String>, Failure> {
    let keys = context.store.list(&keys::all_removed(namespace, name)?).await?;
    Ok(keys.iter().map(|key| key.name().to_owned()).collect())
}

/// Logs of a build's attempts, as far as they are in the store.
async fn logs_of(uid: &str, context: &ProjectContext) -> Result<Vec<LogObserved>, Failure> {
    let folder = keys::logs(uid)?;
    let mut logs = BTreeMap::<i64, LogObserved>::new();
    for Entry { key, bytes, at } in context.store.entries(&folder).await? {
        let piece =
            key.as_str().strip_prefix(folder.as_str()).and_then(|rest| rest.trim_start_matches('/').split_once('/'));
        let Some((attempt, piece)) = piece else { continue };
        let Ok(attempt) = attempt.parse() else { continue };
        let new =
            || LogObserved { uid: uid.to_owned(), attempt, bytes: 0, at: jiff::Timestamp::UNIX_EPOCH, torn: true };
        let log = logs.entry(attempt).or_insert_with(new);
        log.bytes += bytes;
        // The index of its times is no output, and written when that has ended.
        if piece != keys::LOG_TIMES {
            log.at = log.at.max(at);
        }
        // The first piece is the first to go.
        log.torn &= piece != "0";
    }
    Ok(logs.into_values().collect())
}

fn removed_key(project: &Project, version: &str) -> Result<keys::Key, Failure> {
    Ok(keys::removed(&project.namespace().unwrap_or_default(), &project.name_any(), version)?)
}
