//! Caches go with their Project. Whose they are says the folder's name: namespace and uid.

use std::collections::BTreeSet;

use kube::{ResourceExt, api::ListParams};

use crate::{
    api::{Project, Reason},
    controllers::{build::broken::Broken, frame::Shared},
    effects::executor::LocalExecutor,
    model::Class,
};

/// Removes the caches of those Projects of a namespace that are gone. The folders are listed first: whatever lay there before has its Project
/// in the list, or it has none.
pub(super) async fn sweep(shared: &Shared, executor: &LocalExecutor, namespace: &str) -> Result<(), Broken> {
    let cached = executor.cached_projects().await?;
    let cached: Vec<String> = cached.into_iter().filter(|(space, _)| space == namespace).map(|(_, uid)| uid).collect();
    if cached.is_empty() {
        return Ok(());
    }
    // Also those that can't be read.
    let listed = shared.api::<Project>(namespace).list_metadata(&ListParams::default()).await;
    let listed = listed.map_err(|error| Broken::new(Reason::InternalError, Class::Transient, &error))?;
    let projects: BTreeSet<String> = listed.items.iter().filter_map(ResourceExt::uid).collect();
    if cached.iter().any(|uid| !projects.contains(uid)) {
        let gone = executor.forget_caches(&shared.gate, namespace, projects).await?;
        tracing::info!(%namespace, projects = gone.len(), "caches of projects that are gone are removed");
    }
    Ok(())
}
