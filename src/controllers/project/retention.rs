//! What is kept no longer, removed in the background. It must not decide what that is.
//!
//! No intent is on record: each act may be done twice, and what a crash cut short is found by the next look.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Preconditions},
    core::DeserializeGuard,
};

use super::pushes::Refused;
use crate::{
    api::{
        Build, Project, Reason,
        conditions::{READY, status_of},
        verbs::{self, RETRY},
    },
    controllers::{
        build::{broken::Broken, read_json},
        frame,
        releases::{Excluding, Releases, needed_versions},
        world::World,
    },
    effects::{
        clock,
        executor::AttemptId,
        gate::Effect,
        store::{Entry, keys},
    },
    model::{Class, version::VersionRecord},
    plan::{
        build::stage,
        retention::{self, Action, BuildObserved, LogObserved, Observed, VersionObserved},
    },
};

/// What was removed, for people.
#[derive(Default)]
pub(super) struct Gone {
    builds: Vec<String>,
    versions: Vec<String>,
    logs: usize,
}

impl Gone {
    /// `None` where it is nothing.
    pub(super) fn note(&self) -> Option<String> {
        if self.builds.len() + self.versions.len() + self.logs == 0 {
            return None;
        }
        let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let (versions, builds, logs) = (list(&self.versions), list(&self.builds), self.logs);
        Some(format!(
            "spec.retention keeps no longer: versions: {versions}; Builds: {builds}; logs of attempts: {logs}"
        ))
    }
}

/// Looks, and removes what the project keeps no longer. What came first of it is told also where the rest failed.
pub(super) async fn tidy(project: &Project, world: &Arc<World>) -> (Gone, Result<(), Broken>) {
    let mut gone = Gone::default();
    let mut done = Ok(true);
    // What was put on record as removed is looked at once more before its bytes go.
    while matches!(done, Ok(true)) {
        done = once(project, &mut gone, world).await;
    }
    (gone, done.map(|_| ()))
}

/// One look and what follows. True: versions were put on record as removed, and another look is to follow.
async fn once(project: &Project, gone: &mut Gone, world: &Arc<World>) -> Result<bool, Broken> {
    let (observed, builds) = observe(project, world).await?;
    let acts = retention::plan(&observed, clock::now());
    drop_releases(project, &acts, gone, world).await?;
    let mut again = false;
    for act in &acts {
        match act {
            Action::Drop { .. } => {}
            Action::Restore { version } => restore(project, version, world).await?,
            Action::Retire { version, digest } => {
                retire(project, version, digest, world).await?;
                again = true;
            }
            Action::RemoveLog { uid, attempt } => {
                remove_log(uid, *attempt, world).await?;
                gone.logs += 1;
            }
            Action::DeleteBuild { name, uid } => {
                if let Some(build) = builds.get(uid)
                    && delete(build, world).await?
                {
                    gone.builds.push(name.clone());
                }
            }
        }
    }
    Ok(again)
}

/// From here on no Deployment takes it any more.
async fn retire(project: &Project, version: &str, digest: &str, world: &World) -> Result<(), Broken> {
    let record = serde_json::json!({ "version": version, "digest": digest, "at": clock::now() });
    world.store.create(&world.gate, &removed_key(project, version)?, record.to_string().into_bytes()).await?;
    Ok(())
}

/// A Deployment took it before it was on record as removed.
async fn restore(project: &Project, version: &str, world: &World) -> Result<(), Broken> {
    let (namespace, name) = (project.namespace().unwrap_or_default(), project.name_any());
    let key = keys::version(&namespace, &name, version)?;
    let Some(record) = read_json::<VersionRecord>(world, &key).await? else { return Ok(()) };
    let _alone = world.store.judge_releases().await;
    if world.store.has_release(&record.digest).await? {
        world.store.remove(&world.gate, &removed_key(project, version)?).await?;
        world.requeue.deployments_in(&namespace);
    }
    Ok(())
}

async fn drop_releases(project: &Project, acts: &[Action], gone: &mut Gone, world: &World) -> Result<(), Broken> {
    if !acts.iter().any(|act| matches!(act, Action::Drop { .. })) {
        return Ok(());
    }
    let (namespace, name) = (project.namespace().unwrap_or_default(), project.name_any());
    let releases = Releases::look(world).await?;
    for act in acts {
        let Action::Drop { version, digest } = act else { continue };
        let key = keys::version(&namespace, &name, version)?;
        if releases.remove(digest, Excluding::Version(&key), world).await? {
            gone.versions.push(version.clone());
        }
    }
    Ok(())
}

async fn remove_log(uid: &str, attempt: i64, world: &World) -> Result<(), Broken> {
    world.executor.remove_log(&world.gate, &AttemptId::new(uid.to_owned(), attempt)).await?;
    let folder = keys::log_folder(uid, &attempt.to_string())?;
    Ok(world.store.remove_below(&world.gate, &folder, None).await?)
}

/// Exactly the Build that was looked at: one that was touched since is looked at again, and none of ours to tell of (`false`). What
/// it leaves is removed when it is gone.
async fn delete(build: &Build, world: &World) -> Result<bool, Broken> {
    let name = build.name_any();
    let api = world.api::<Build>(&build.namespace().unwrap_or_default());
    let exactly = Preconditions { uid: build.uid(), resource_version: build.resource_version() };
    let params = DeleteParams { preconditions: Some(exactly), ..DeleteParams::default() };
    let deleted = world
        .gate
        .pass(Effect::new("build.delete", name.clone()), async {
            api.delete(&name, &params).await.map(|_| ()).map_err(Refused::Api)
        })
        .await;
    match deleted {
        Ok(()) => Ok(true),
        Err(Refused::Api(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(false),
        Err(Refused::Shut(shut)) => Err(Broken::new(Reason::InternalError, Class::Waiting, &shut)),
        Err(Refused::Api(error)) => {
            let message = format!(
                "the Build {name} is kept no longer (spec.retention) and can't be deleted: {error}; see that the operator has the rights of manifests/operator-rights.yaml"
            );
            Err(Broken { reason: Reason::RetentionFailed, class: Class::Transient, message })
        }
    }
}

/// The store is listed first: a Deployment that is not in the list then sees what is on record as removed by now.
async fn observe(project: &Project, world: &World) -> Result<(Observed, HashMap<String, Build>), Broken> {
    let (namespace, name) = (project.namespace().unwrap_or_default(), project.name_any());
    let versions = versions(&namespace, &name, world).await?;
    let selector = ListParams::default().fields(&format!("spec.projectRef.name={name}"));
    let builds = frame::readable(world.api::<DeserializeGuard<Build>>(&namespace), &selector).await;
    let builds = builds.map_err(|error| Broken::new(Reason::RetentionFailed, Class::Transient, &error))?;
    let mut logs = Vec::new();
    for uid in builds.iter().filter_map(ResourceExt::uid) {
        logs.extend(logs_of(&uid, world).await?);
    }
    let observed = Observed {
        retention: project.spec.retention.clone(),
        builds: builds.iter().map(checked_at).collect(),
        needed: needed_versions(&namespace, &name, world).await?,
        versions,
        logs,
    };
    Ok((observed, builds.into_iter().filter_map(|build| Some((build.uid()?, build))).collect()))
}

fn checked_at(build: &Build) -> BuildObserved {
    let status = build.status.as_ref();
    let asked = status.is_some_and(|status| {
        verbs::asked(RETRY, build.annotations(), &status.last_handled, status.observed_generation < 0).is_some()
    });
    BuildObserved {
        name: build.name_any(),
        uid: build.uid().unwrap_or_default(),
        created: build.metadata.creation_timestamp.as_ref().map_or_else(clock::now, |time| time.0),
        stage: stage::of(build),
        published: status.is_some_and(|status| status_of(&status.conditions, READY) == Some(true)),
        busy: asked || build.metadata.deletion_timestamp.is_some(),
        version: status.and_then(|status| status.version.clone()),
    }
}

async fn versions(namespace: &str, name: &str, world: &World) -> Result<Vec<VersionObserved>, Broken> {
    let removed = removed(namespace, name, world).await?;
    let mut versions = Vec::new();
    for key in world.store.list(&keys::versions(namespace, name)?).await? {
        let Some(record) = read_json::<VersionRecord>(world, &key).await? else { continue };
        versions.push(VersionObserved {
            removed: removed.contains(&record.version),
            stored: world.store.has_release(&record.digest).await?,
            version: record.version,
            built_at: record.built_at,
            digest: record.digest,
        });
    }
    Ok(versions)
}

/// Versions of a project that are on record as removed.
pub(super) async fn removed(namespace: &str, name: &str, world: &World) -> Result<BTreeSet<String>, Broken> {
    let keys = world.store.list(&keys::all_removed(namespace, name)?).await?;
    Ok(keys.iter().map(|key| key.name().to_owned()).collect())
}

/// What a build's attempts said, as far as it is in the store.
async fn logs_of(uid: &str, world: &World) -> Result<Vec<LogObserved>, Broken> {
    let folder = keys::logs(uid)?;
    let mut logs = BTreeMap::<i64, LogObserved>::new();
    for Entry { key, bytes, at } in world.store.entries(&folder).await? {
        let piece =
            key.as_str().strip_prefix(folder.as_str()).and_then(|rest| rest.trim_start_matches('/').split_once('/'));
        let Some((attempt, piece)) = piece else { continue };
        let Ok(attempt) = attempt.parse() else { continue };
        let new = || LogObserved { uid: uid.to_owned(), attempt, bytes: 0, at, torn: true };
        let log = logs.entry(attempt).or_insert_with(new);
        log.bytes += bytes;
        log.at = log.at.max(at);
        // The first piece is the first to go.
        log.torn &= piece != "0";
    }
    Ok(logs.into_values().collect())
}

fn removed_key(project: &Project, version: &str) -> Result<keys::Key, Broken> {
    Ok(keys::removed(&project.namespace().unwrap_or_default(), &project.name_any(), version)?)
}
