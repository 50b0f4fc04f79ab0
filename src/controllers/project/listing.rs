//! The background listing of a repository.

use crate::model::Failure;
use std::{sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{
    context::ProjectContext,
    registry::{Listed, Source, TaskSlot},
};
use crate::{
    api::{
        Project,
        common::seconds,
        project::{BranchView, CommitView},
    },
    controllers::repository::repository,
    effects::git::Branch,
    plan::{builds::template, project::Head},
};

pub(super) fn source(project: &Project) -> Source {
    let source = &project.spec.source;
    let secret = source.secret_ref.as_ref().map(|secret| secret.name.clone());
    let on_push = project.spec.build.trigger.as_ref().map(|trigger| trigger.on_push.clone());
    let template = project.spec.build.tag.template.clone();
    Source { url: source.url.clone(), branches: source.branches.clone(), secret, on_push, template }
}

/// Starts a listing, or has the running one list once more.
pub(super) fn start(project: &Project, again: bool, context: &Arc<ProjectContext>) {
    let source = source(project);
    let uid = project.uid().unwrap_or_default();
    let Some(occupied) = context.sources.occupy(&uid, &source, again) else { return };
    let (namespace, name, then) = (project.namespace().unwrap_or_default(), project.name_any(), context.clone());
    let interval = interval(project);
    let _ = context.tasks.start(occupied.key(), async move {
        let end = list_until_settled(&occupied, (&namespace, &name, &uid), &source, &then).await;
        match interval.filter(|_| !end.failed) {
            Some(interval) => tick(&uid, (namespace.clone(), name.clone()), source, interval, &then),
            // The gate may be shut: not to try again at once.
            None => tokio::time::sleep(Duration::from_millis(200)).await,
        }
        drop(occupied);
        then.shared.requeue.project(&namespace, &name);
    });
}

struct ListingEnd {
    failed: bool,
    /// A planner would see something new.
    changed: bool,
}

/// Lists, and once more where a refresh was requested meanwhile.
async fn list_until_settled(
    occupied: &TaskSlot,
    project: (&str, &str, &str),
    source: &Source,
    context: &ProjectContext,
) -> ListingEnd {
    let mut changed = false;
    loop {
        let result = list(project, source, context).await;
        let failed = result.is_err();
        let settled = occupied.settle(result);
        changed |= settled.changed;
        if !settled.again {
            return ListingEnd { failed, changed };
        }
    }
}

/// `source.interval`, where it is one.
pub(super) fn interval(project: &Project) -> Option<Duration> {
    let interval = seconds(&project.spec.source.interval)?;
    u64::try_from(interval).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

/// Lists at every interval, and requeues the project only if there is news: an idle project costs the API server nothing. Where a listing
/// fails the planner takes over, with its backoff.
fn tick(
    uid: &str,
    (namespace, name): (String, String),
    source: Source,
    interval: Duration,
    context: &Arc<ProjectContext>,
) {
    context.sources.tick(uid, &source, Some(interval));
    let (uid, then) = (uid.to_owned(), context.clone());
    let task = format!("project/{uid}/tick/{}", interval.as_secs());
    context.tasks.start(task, async move {
        let mine = || then.sources.known(&uid, &source).ticked == Some(interval);
        loop {
            tokio::time::sleep(interval).await;
            if !then.shared.requeue.knows_project(&namespace, &name) {
                return then.sources.remove(&uid);
            }
            if !mine() {
                return;
            }
            let Some(occupied) = then.sources.occupy(&uid, &source, false) else { continue };
            let end = list_until_settled(&occupied, (&namespace, &name, &uid), &source, &then).await;
            drop(occupied);
            if end.failed {
                then.sources.tick(&uid, &source, None);
            }
            if end.failed || end.changed {
                then.shared.requeue.project(&namespace, &name);
            }
            if end.failed {
                return;
            }
        }
    });
}

async fn list(
    (namespace, name, uid): (&str, &str, &str),
    source: &Source,
    context: &ProjectContext,
) -> Result<Listed, Failure> {
    let repository =
        repository(&context.secrets, namespace, name, &source.url, source.secret.as_deref()).await?.read_by(uid);
    context.git.fetch(&context.shared.gate, &repository).await?;
    let branches = context.git.branches(&repository, &source.branches, None).await?;
    let tags = context.git.tags(&repository).await?;
    let heads = match &source.on_push {
        None => vec![],
        Some(wanted) => context.git.heads(&repository, &source.branches, wanted).await?,
    };
    let heads = heads.into_iter().map(|(branch, sha)| Head { branch, sha }).collect();
    let numbers = tags.iter().filter_map(|tag| template::number_of(&source.template, tag));
    let highest_tag = numbers.max().unwrap_or(0);
    Ok(Listed { branches: branches.into_iter().map(view).collect(), heads, highest_tag })
}

fn view(branch: Branch) -> BranchView {
    let commit = |commit: crate::effects::git::Commit| CommitView {
        sha: commit.sha,
        subject: commit.subject,
        author: commit.author,
        time: Time(commit.time),
        version: None,
    };
    BranchView { name: branch.name, head: branch.head, commits: branch.commits.into_iter().map(commit).collect() }
}
