//! The steps of a build, done. Each may be done again after a crash at any instant: it finds what was there, or does it once.

use crate::model::Failure;
use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{context::BuildContext, leftovers, observe::whole_seconds, records, registry::Found};
use crate::{
    api::{
        Build, Project, Reason, SecretKeyRef,
        build::{Attempt, BuiltCommit},
        common,
        lifecycle::CacheRule,
        project::ExternalContent,
    },
    controllers::{records::to_json, repository::repository, tasks::delete_with_retries},
    effects::{
        executor::{self, AttemptId, BuildStep, Cache, Caches, Limits, Secrets, StepState},
        git::{CheckoutRequest, GitError, Source, TagRequest, kept_refs},
        release,
        store::keys,
    },
    model::{
        Class,
        build::{BuildPlan, ReleaseRecord, listed, secrets as secrets_of},
        format::FORMAT,
        version::VersionRecord,
    },
    plan::{
        builds::{resources, template},
        secret_use::{Purpose, SecretUse},
    },
};

/// Interval of polls of a running script, and the polls between two copies of its output to the store.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
const POLLS_PER_SEAL: u32 = 15;
const DELETION_POLLS: u32 = 50;
/// Time that followers of a deleted build's log have for the rest of it.
const LOG_READ_TIME: Duration = Duration::from_secs(10);

type Done = Result<Found, Failure>;

/// Finds out what the revision means now, and pins that commit.
pub(super) async fn resolve(build: Build, context: Arc<BuildContext>) -> Done {
    let (namespace, uid) = (build.namespace().unwrap_or_default(), build.uid().unwrap_or_default());
    let project = context.shared.api::<Project>(&namespace).get(&build.spec.project_ref.name).await;
    let spec = project.map_err(|error| Failure::of(Reason::InternalError, Class::Transient, &error))?.spec;
    // Before it is queued: a build that waits for a Secret must not block the others.
    secrets(&namespace, &build.spec.project_ref.name, secrets_of(&spec.build.env), &context).await?;
    let source = spec.source;
    let secret = source.secret_ref.as_ref().map(|secret| secret.name.as_str());
    let repository =
        repository(&context.secrets, &namespace, &build.spec.project_ref.name, &source.url, secret).await?;
    context.git.fetch(&context.shared.gate, &repository).await?;
    let found = context.git.resolve(&repository, &build.spec.revision, &source.branches).await?;
    context.git.folder(&repository, &found.commit.sha, &source.path).await?;
    context.git.pin(&repository, &found.commit.sha, &kept_refs::name(&namespace, &uid)).await?;
    let tags = context.git.tags(&repository).await?;
    let numbers = tags.iter().filter_map(|tag| template::number_of(&spec.build.tag.template, tag));
    let highest_tag = numbers.max().unwrap_or(0);
    let commit = BuiltCommit {
        sha: found.commit.sha,
        subject: found.commit.subject,
        author: found.commit.author,
        time: Time(whole_seconds(found.commit.time)),
        branch: found.branch,
    };
    Ok(Found::Resolved { commit, highest_tag })
}

/// Sees that the script may run and its tag is free; then writes the checkout.
pub(super) async fn prepare(uid: String, attempt: i64, context: Arc<BuildContext>) -> Done {
    let plan = records::granted(&context.store, &uid).await?;
    context.executor.check().await?;
    secrets(&plan.namespace, &plan.project, plan.secrets(), &context).await?;
    if plan.push {
        let target = context.git.tag_target(&of_plan(&plan, &context).await?, &plan.version).await?;
        if let Some(existing) = target.filter(|sha| *sha != plan.commit.sha) {
            return Err(GitError::TagConflict { name: plan.version, existing }.into());
        }
    }
    let id = AttemptId::new(uid.clone(), attempt);
    if context.executor.state(&id).await? == StepState::Absent {
        checkout(&plan, &id, &context).await?;
        if let Some(caches) = caches(&plan) {
            context.executor.fits(&id, &caches).await?;
        }
    }
    Ok(Found::Prepared(attempt))
}

/// What survives between the builds of this project. A size that can't be read is none that was admitted.
fn caches(plan: &BuildPlan) -> Option<Caches> {
    // Where the script begins, as for artifacts.
    let folder = plan.path.split('/').filter(|part| !matches!(*part, "" | "."));
    let below = |path: &str| folder.clone().map(str::to_owned).chain([path.to_owned()]).collect::<Vec<_>>().join("/");
    let cache = |rule: &CacheRule| Cache {
        name: rule.name.clone(),
        path: if rule.path.starts_with("~/") { rule.path.clone() } else { below(&rule.path) },
        max_bytes: common::bytes(&rule.max_bytes).unwrap_or_default(),
    };
    let folders: Vec<Cache> = plan.caches.iter().map(cache).collect();
    let (namespace, project) = (plan.namespace.clone(), plan.project_uid.clone());
    (!folders.is_empty()).then_some(Caches { namespace, project, folders })
}

/// The plan's repository. Its Secret is the one that the Project names by now: who mends a refused push may have to name another.
async fn of_plan(plan: &BuildPlan, context: &BuildContext) -> Result<Source, Failure> {
    let project = context.shared.api::<Project>(&plan.namespace).get_opt(&plan.project).await;
    let project = project.map_err(|error| Failure::of(Reason::InternalError, Class::Transient, &error))?;
    let source = project.map(|project| project.spec.source).filter(|source| source.url == plan.url);
    let secret = match source {
        Some(source) => source.secret_ref.map(|secret| secret.name),
        None => plan.secret.clone(),
    };
    repository(&context.secrets, &plan.namespace, &plan.project, &plan.url, secret.as_deref()).await
}

/// The values of a script's secret variables, from Secrets that are labelled for it.
async fn secrets(
    namespace: &str,
    project: &str,
    wanted: Vec<(String, SecretKeyRef)>,
    context: &BuildContext,
) -> Result<Secrets, Failure> {
    let usage = SecretUse { namespace, purpose: Purpose::Build, user: project };
    let mut found = Vec::new();
    for (variable, at) in wanted {
        let text = context.secrets.secret(&at.name, &at.key, &usage).await?;
        if text.expose().contains('\0') || text.expose().len() > executor::VALUE_MAX {
            let (name, key) = (at.name, at.key);
            let message = format!(
                "the key {key:?} of the Secret {name} can't be an environment variable: it has a NUL, or more than 64 KiB; replace it"
            );
            return Err(Failure::new(Reason::SecretInvalid, Class::Transient, message));
        }
        found.push((variable, text.expose().to_owned()));
    }
    Ok(Secrets(found))
}

/// Writes the commit's files. A mirror that was lost with the data folder is fetched again first.
async fn checkout(plan: &BuildPlan, id: &AttemptId, context: &BuildContext) -> Result<(), Failure> {
    let folder = context.executor.checkout_dir(id);
    let mirror = Source::open(&plan.namespace, &plan.url);
    let request = CheckoutRequest {
        sha: plan.commit.sha.clone(),
        path: plan.path.clone(),
        ignore_submodules: plan.submodules == ExternalContent::Ignore,
        ignore_lfs: plan.lfs == ExternalContent::Ignore,
    };
    let done = match context.git.checkout(&mirror, &request, &folder).await {
        Err(GitError::CommitGone { .. } | GitError::Failed { .. }) => {
            let repository = of_plan(plan, context).await?;
            // Not to wait for a whole history; where the server does not give one commit alone, there is no other way.
            match context.git.checkout_one(&context.shared.gate, &repository, &request, &folder).await {
                Err(GitError::Unreachable { .. } | GitError::CommitGone { .. } | GitError::Failed { .. }) => {
                    context.git.fetch(&context.shared.gate, &repository).await?;
                    context.git.pin(&mirror, &plan.commit.sha, &kept_refs::name(&plan.namespace, &id.uid)).await?;
                    context.git.checkout(&mirror, &request, &folder).await
                }
                done => done,
            }
        }
        done => done,
    };
    Ok(done?)
}

/// The intent is on record: the script begins, if it did not before.
pub(super) async fn start(uid: String, attempt: i64, context: &Arc<BuildContext>) -> Result<(), Failure> {
    let plan = records::granted(&context.store, &uid).await?;
    let secrets = secrets(&plan.namespace, &plan.project, plan.secrets(), context).await?;
    // Checked before the grant.
    let limits = resources::read(plan.resources.as_ref()).unwrap_or_default();
    let seconds = |n: i64| Duration::from_secs(u64::try_from(n).unwrap_or(1));
    let step = BuildStep {
        env: plan.environment(),
        timeout: seconds(plan.timeout_seconds),
        idle_timeout: seconds(plan.idle_timeout_seconds),
        caches: caches(&plan),
        folder: plan.path,
        limits: Limits { cpu: limits.cpu, memory: limits.memory, pids: limits.pids },
        script: plan.script,
    };
    Ok(context.executor.start(&context.shared.gate, &AttemptId::new(uid, attempt), step, secrets).await?)
}

/// Looks after a script until it has ended. Its output goes to the store as it comes; the rest follows when it has ended, in a task of
/// its own, so that nobody waits for it.
pub(super) async fn watch(uid: String, attempt: i64, context: Arc<BuildContext>) -> Done {
    let id = AttemptId::new(uid, attempt);
    let mut polls = 0_u32;
    while let StepState::Running { .. } = context.executor.state(&id).await? {
        polls = polls.wrapping_add(1);
        if polls.is_multiple_of(POLLS_PER_SEAL) {
            seal(&id, &context).await;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    seal_rest(id, &context);
    Ok(Found::Nothing)
}

/// Idempotent.
fn seal_rest(id: AttemptId, context: &Arc<BuildContext>) {
    let then = context.clone();
    let _ = context.tasks.start(format!("build/{id}/seal"), async move { seal(&id, &then).await });
}

async fn seal(id: &AttemptId, context: &BuildContext) {
    if let Err(error) = context.executor.seal(&context.shared.gate, &context.store, id).await {
        tracing::warn!(attempt = %id, %error, "output is not in the store yet; it stays in the executor's folder");
    }
}

/// Waits until a deleted Build is gone, then wakes its project. Whether it goes at once is up to others' finalizers.
pub(super) async fn wait_until_deleted(build: Build, context: Arc<BuildContext>) {
    let (namespace, uid) = (build.namespace().unwrap_or_default(), build.uid());
    for _ in 0..DELETION_POLLS {
        tokio::time::sleep(POLL_INTERVAL).await;
        let there = context.shared.api::<Build>(&namespace).get_opt(&build.name_any()).await;
        if there.is_ok_and(|there| there.is_none_or(|there| there.uid() != uid)) {
            break;
        }
    }
    context.shared.requeue.project(&namespace, &build.spec.project_ref.name);
}

/// The build is over: its checkouts and the pin of its commit are deleted. Logs and records stay; what of a log is not in the store yet comes
/// there first, for nobody looks after the build once its checkouts are gone.
pub(super) async fn delete_checkouts(uid: String, upto: i64, pin: Option<String>, context: Arc<BuildContext>) {
    let delete = async || {
        for attempt in context.executor.attempts(&uid).await?.into_iter().filter(|attempt| *attempt <= upto) {
            context.executor.seal(&context.shared.gate, &context.store, &AttemptId::new(uid.clone(), attempt)).await?;
        }
        if let Some(pin) = &pin {
            context.git.delete_pin(&context.shared.gate, pin).await?;
        }
        Ok(context.executor.delete_checkouts(&context.shared.gate, &uid, upto).await?)
    };
    delete_with_retries("what a build left", &uid, delete).await;
}

/// The Build is gone: what still runs for it ends, its folder and its pin go, and at last what it left in the store.
pub(super) async fn delete_leftovers(namespace: String, name: String, uid: String, context: Arc<BuildContext>) {
    // A list may be old: nothing is deleted before the API server itself answers that the Build is not there.
    match context.shared.api::<Build>(&namespace).get_metadata_opt(&name).await {
        Ok(there) if there.as_ref().and_then(ResourceExt::uid).as_ref() != Some(&uid) => {}
        _ => return,
    }
    let remove = async || {
        for attempt in context.executor.attempts(&uid).await? {
            let id = AttemptId::new(uid.clone(), attempt);
            context.executor.cancel(&context.shared.gate, &id).await?;
            seal(&id, &context).await;
        }
        context.executor.delete_build(&context.shared.gate, &uid).await?;
        context.git.delete_pin(&context.shared.gate, &kept_refs::name(&namespace, &uid)).await?;
        tokio::time::sleep(LOG_READ_TIME).await;
        leftovers::delete_records(&uid, &context.shared, &context.store).await
    };
    delete_with_retries("what a build left that is gone", &uid, remove).await;
}

pub(super) async fn cancel(uid: String, attempt: i64, context: Arc<BuildContext>) -> Done {
    context.executor.cancel(&context.shared.gate, &AttemptId::new(uid, attempt)).await?;
    Ok(Found::Nothing)
}

pub(super) async fn record(uid: String, end: &Attempt, context: &Arc<BuildContext>) -> Result<(), Failure> {
    let key = records::end_key(&uid, end.number)?;
    context.store.create(&context.shared.gate, &key, to_json(end)?).await?;
    // A script that ended before anybody saw it run was not watched.
    seal_rest(AttemptId::new(uid, end.number), context);
    Ok(())
}

/// Packs what the script made, stores it under its digest, and puts that on record.
pub(super) async fn pack(uid: String, attempt: i64, context: Arc<BuildContext>) -> Done {
    let plan = records::granted(&context.store, &uid).await?;
    let id = AttemptId::new(uid.clone(), attempt);
    let checkout = context.executor.checkout_dir(&id);
    let tar = checkout.with_file_name("release.tar");
    let run = plan.run_json().map_err(|error| Failure::of(Reason::InternalError, Class::Terminal, &error))?;
    let packed = release::pack(&checkout, &plan.path, &plan.artifacts, run, &tar).await?;
    // Until the record says who needs it, nobody may take it for unneeded.
    let _kept = context.store.keep_releases().await;
    let stored = context.store.put_release(&context.shared.gate, &tar).await?;
    let artifacts = listed(packed.artifacts);
    let artifact_count = packed.artifact_count;
    let record =
        ReleaseRecord { format: FORMAT, attempt, digest: stored.digest, size: stored.size, artifacts, artifact_count };
    context.store.create(&context.shared.gate, &keys::build_release(&uid)?, to_json(&record)?).await?;
    if let Err(error) = tokio::fs::remove_file(&tar).await {
        tracing::debug!(%error, "a packed release stays behind until its attempt's folder goes");
    }
    Ok(Found::Nothing)
}

pub(super) async fn tag(uid: String, tagged_at: Timestamp, context: Arc<BuildContext>) -> Done {
    let plan = records::granted(&context.store, &uid).await?;
    let message = format!(
        "{}\n\nBuilt by landfall: build {} of {}/{}, number {}\nBuild-Uid: {uid}\n",
        plan.version, plan.build, plan.namespace, plan.project, plan.number
    );
    let repository = of_plan(&plan, &context).await?;
    let request = TagRequest { name: plan.version, sha: plan.commit.sha.clone(), message, tagged_at };
    match context.git.push_tag(&context.shared.gate, &repository, request.clone()).await {
        // The mirror was lost since the commit was resolved.
        Err(GitError::CommitGone { .. }) => {
            context.git.fetch(&context.shared.gate, &repository).await?;
            context.git.pin(&repository, &plan.commit.sha, &kept_refs::name(&plan.namespace, &uid)).await?;
            context.git.push_tag(&context.shared.gate, &repository, request).await?;
        }
        done => _ = done?,
    }
    Ok(Found::Tagged)
}

/// Makes the version deployable. Where another build has it already, the next reconcile reports it.
pub(super) async fn publish(build: &Build, record: &VersionRecord, context: &Arc<BuildContext>) -> Result<(), Failure> {
    let namespace = build.namespace().unwrap_or_default();
    let key = keys::version(&namespace, &build.spec.project_ref.name, &record.version)?;
    let bytes = record.to_bytes().map_err(|error| Failure::of(Reason::InternalError, Class::Terminal, &error))?;
    context.store.create(&context.shared.gate, &key, bytes).await?;
    Ok(())
}
