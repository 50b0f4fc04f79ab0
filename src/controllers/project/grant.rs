//! What follows a grant that is on record: its number claimed, its plan frozen. Both are created once, also when it is repeated.

use std::sync::Arc;

use kube::ResourceExt;

use super::context::ProjectContext;
use crate::{
    api::{Build, Project, Reason, project::ActiveBuild},
    effects::store::keys,
    model::Class,
    model::Failure,
    plan::builds::freeze::freeze,
};

pub(super) async fn grant(
    project: &Project,
    active: &ActiveBuild,
    context: &Arc<ProjectContext>,
) -> Result<(), Failure> {
    let (namespace, name) = (project.namespace().unwrap_or_default(), project.name_any());
    let internal = |error: &dyn std::error::Error| Failure::of(Reason::InternalError, Class::Transient, &error);
    let build =
        context.shared.api::<Build>(&namespace).get_opt(&active.name).await.map_err(|error| internal(&error))?;
    // Gone, or another one of that name: the next reconcile frees the grant.
    let Some(build) = build.filter(|build| build.uid().as_ref() == Some(&active.uid)) else { return Ok(()) };
    let plan_key = keys::build_plan(&active.uid).map_err(|error| internal(&error))?;
    if context.store.get(&plan_key).await?.is_some() {
        return Ok(());
    }
    let plan = match freeze(project, &build, active.number, active.granted_at.clone()) {
        Ok(plan) => plan,
        Err(error) => {
            // The project changed since the build was checked; the build's own planner says what is wrong and ends it.
            tracing::info!(%namespace, build = %active.name, %error, "not granted");
            return Ok(());
        }
    };
    let number_key = keys::number(&namespace, &name, active.number).map_err(|error| internal(&error))?;
    let claimed = context.store.create(&context.shared.gate, &number_key, active.uid.clone().into_bytes()).await?;
    if !claimed.holds(active.uid.as_bytes()) {
        return Ok(());
    }
    let bytes = serde_json::to_vec_pretty(&plan).map_err(|error| internal(&error))?;
    context.store.create(&context.shared.gate, &plan_key, bytes).await?;
    Ok(())
}
