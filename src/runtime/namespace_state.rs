//! What becomes of a namespace that a lease lies in. One that is being deleted takes the lease and the right to it along, and then waits
//! for our finalizers, which nobody could take off without that lease. It must not decide what is let go.

use k8s_openapi::api::events::v1::Event;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceState {
    Standing,
    /// It is being deleted. That is final, and nothing can be created in it any more: so no lease either.
    Ending,
    Gone,
}

/// Asks without a right to namespaces: by an event that is not to be kept, as this operator may create them everywhere. An error is no
/// answer.
pub async fn fate(client: &Client, namespace: &str) -> Result<NamespaceState, kube::Error> {
    let name = format!("landfall-asks-{:016x}", rand::random::<u64>());
    let event = Event { metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() }, ..Event::default() };
    let asking = PostParams { dry_run: true, ..PostParams::default() };
    match Api::<Event>::namespaced(client.clone(), namespace).create(&asking, &event).await {
        // Whether that would be a good event is asked after whether there could be one.
        Ok(_) => Ok(NamespaceState::Standing),
        Err(kube::Error::Api(status)) if status.code == 422 => Ok(NamespaceState::Standing),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(NamespaceState::Gone),
        Err(kube::Error::Api(status)) if status.code == 403 && is_ending(&status) => Ok(NamespaceState::Ending),
        Err(error) => Err(error),
    }
}

fn is_ending(status: &kube::core::Status) -> bool {
    status.details.iter().flat_map(|details| &details.causes).any(|cause| cause.reason == "NamespaceTerminating")
}
