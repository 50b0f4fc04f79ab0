//! What a grant freezes: everything that attempts read later.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{parameters, template};
use crate::{
    api::{Build, Project},
    model::{build::BuildPlan, format::FORMAT},
};

/// Why nothing could be granted; the Build's own planner says so to people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FreezeError {
    #[error("the Build has no commit yet")]
    NoCommit,
    #[error("{0}")]
    Parameter(String),
    #[error("the object has no {0}")]
    Incomplete(&'static str),
}

/// The plan of a build as it is granted with this number.
pub fn freeze(project: &Project, build: &Build, number: i64, granted_at: Time) -> Result<BuildPlan, FreezeError> {
    let recipe = &project.spec.build;
    let commit = build.status.as_ref().and_then(|status| status.commit.clone()).ok_or(FreezeError::NoCommit)?;
    let parameters = parameters::resolve(&recipe.parameters, &build.spec.parameters)
        .map_err(|bad| FreezeError::Parameter(bad.message))?;
    let grant = template::Grant { number, at: granted_at.0 };
    Ok(BuildPlan {
        format: FORMAT,
        namespace: build.metadata.namespace.clone().ok_or(FreezeError::Incomplete("namespace"))?,
        project: project.metadata.name.clone().ok_or(FreezeError::Incomplete("name"))?,
        build: build.metadata.name.clone().ok_or(FreezeError::Incomplete("name"))?,
        uid: build.metadata.uid.clone().ok_or(FreezeError::Incomplete("uid"))?,
        number,
        granted_at,
        version: build.spec.tag.clone().unwrap_or_else(|| template::fill(&recipe.tag.template, grant)),
        push: recipe.tag.push,
        url: project.spec.source.url.clone(),
        secret: project.spec.source.secret_ref.as_ref().map(|secret| secret.name.clone()),
        path: project.spec.source.path.clone(),
        submodules: project.spec.source.submodules,
        lfs: project.spec.source.lfs,
        commit,
        script: recipe.script.clone(),
        env: recipe.env.clone(),
        parameters,
        artifacts: recipe.artifacts.clone(),
        project_uid: project.metadata.uid.clone().ok_or(FreezeError::Incomplete("uid"))?,
        caches: recipe.caches.clone(),
        resources: recipe.resources.clone(),
        timeout_seconds: recipe.timeout_seconds,
        idle_timeout_seconds: recipe.idle_timeout_seconds,
        run: project.spec.run.granted(),
    })
}
