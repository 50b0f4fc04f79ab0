//! State of a namespace that the object of leaders lies in. One that is being deleted takes the object and the right to it along, and then waits for our
//! finalizers, which could not be removed without that lease. It must not decide what is released.

use k8s_openapi::api::events::v1::Event;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

use crate::effects::api_server::post_params;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NamespaceState {
    Active,
    /// It is being deleted. That is final, and nothing can be created in it any longer, a lease neither.
    Terminating,
    Gone,
}

/// Reads the state without a right to namespaces: by the dry run of an event, which this operator may create everywhere. An error tells
/// nothing.
pub(crate) async fn namespace_state(client: &Client, namespace: &str) -> Result<NamespaceState, kube::Error> {
    let name = format!("landfall-asks-{:016x}", rand::random::<u64>());
    let event = Event { metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() }, ..Event::default() };
    let asking = PostParams { dry_run: true, ..post_params() };
    match Api::<Event>::namespaced(client.clone(), namespace).create(&asking, &event).await {
        // Admission checks the namespace before it validates the event.
        Ok(_) => Ok(NamespaceState::Active),
        Err(kube::Error::Api(status)) if status.code == 422 => Ok(NamespaceState::Active),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(NamespaceState::Gone),
        Err(kube::Error::Api(status)) if status.code == 403 && is_terminating(&status) => {
            Ok(NamespaceState::Terminating)
        }
        Err(error) => Err(error),
    }
}

fn is_terminating(status: &kube::core::Status) -> bool {
    status.details.iter().flat_map(|details| &details.causes).any(|cause| cause.reason == "NamespaceTerminating")
}
