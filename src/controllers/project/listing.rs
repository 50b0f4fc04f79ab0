//! The background listing of a repository.

use std::{sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::memory::Source;
use crate::{
    api::{
        Project,
        project::{BranchView, CommitView},
    },
    controllers::{build::broken::Broken, repository::repository, world::World},
    effects::git::Branch,
};

pub(super) fn source(project: &Project) -> Source {
    let source = &project.spec.source;
    let secret = source.secret_ref.as_ref().map(|secret| secret.name.clone());
    Source { url: source.url.clone(), branches: source.branches.clone(), secret }
}

/// Starts a listing, or tells the one that runs to look once more.
pub(super) fn start(project: &Project, again: bool, world: &Arc<World>) {
    let source = source(project);
    let uid = project.uid().unwrap_or_default();
    let Some(occupied) = world.sources.occupy(&uid, &source, again) else { return };
    let (namespace, name, world_then) = (project.namespace().unwrap_or_default(), project.name_any(), world.clone());
    let _ = world.tasks.start(occupied.key(), async move {
        loop {
            let result = list(&namespace, &source, &world_then).await;
            let failed = result.is_err();
            let again = occupied.settle(result);
            if !again {
                // The gate may be shut: not to try again at once.
                if failed {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                break;
            }
        }
        drop(occupied);
        world_then.wakes.project(&namespace, &name);
    });
}

async fn list(namespace: &str, source: &Source, world: &World) -> Result<Vec<BranchView>, Broken> {
    let repository = repository(world, namespace, &source.url, source.secret.as_deref()).await?;
    world.git.fetch(&world.gate, &repository).await?;
    let branches = world.git.branches(&repository, &source.branches, None).await?;
    Ok(branches.into_iter().map(view).collect())
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
