//! Puts landfall's custom resources and rights into a control plane, by server-side apply: a second time changes nothing.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::ServiceAccount, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    runtime::wait::{Condition, await_condition, conditions},
};

use super::error::DevError;

const FIELD_MANAGER: &str = "landfall-dev";
const ESTABLISHED_SECONDS: u64 = 30;
const MANAGED: [&str; 2] = ["kube-system", "default"];

/// What `kubectl apply -k manifests/` applies besides the custom resources; without the operator's Deployment, since here it is a process.
const MANIFESTS: [&str; 3] = [
    include_str!("../../../manifests/namespace.yaml"),
    include_str!("../../../manifests/operator-rights.yaml"),
    include_str!("../../../manifests/user-roles.yaml"),
];

/// Applies everything, and comes back when the custom resources are served and the controllers do their work.
pub async fn install(client: &Client) -> Result<(), DevError> {
    let definitions = crate::api::crds::all();
    let names: Vec<String> = definitions.iter().map(ResourceExt::name_any).collect();
    for definition in definitions {
        let object = serde_json::to_value(&definition).and_then(serde_json::from_value);
        apply(client, &object.map_err(|error| DevError::Manifest(error.to_string()))?).await?;
    }
    for text in MANIFESTS {
        let objects = serde_saphyr::from_multiple(text).map_err(|error| DevError::Manifest(error.to_string()))?;
        for object in objects {
            apply(client, &object).await?;
        }
    }
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for name in &names {
        appears(definitions.clone(), name, conditions::is_crd_established()).await?;
    }
    for namespace in MANAGED {
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        appears(accounts, "default", |account: Option<&ServiceAccount>| account.is_some()).await?;
    }
    Ok(())
}

pub async fn apply(client: &Client, object: &DynamicObject) -> Result<(), DevError> {
    let name = object.name_any();
    let kind = object.types.as_ref().ok_or_else(|| DevError::Manifest(format!("{name} has no kind")))?;
    let gvk = GroupVersionKind::try_from(kind).map_err(|error| DevError::Manifest(format!("{name}: {error}")))?;
    let resource = ApiResource::from_gvk(&gvk);
    let api: Api<DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let applied = api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(object)).await;
    applied.map(drop).map_err(|refused| {
        let why = match refused {
            kube::Error::Api(status) => status.message.clone(),
            other => other.to_string(),
        };
        DevError::Install { what: format!("{} {name}", gvk.kind), why }
    })
}

async fn appears<K>(api: Api<K>, name: &str, condition: impl Condition<K>) -> Result<(), DevError>
where
    K: Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + kube::Resource<DynamicType: Default> + 'static,
{
    let seen = await_condition(api, name, condition);
    match tokio::time::timeout(Duration::from_secs(ESTABLISHED_SECONDS), seen).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(DevError::Manifest(format!("waiting for {name}: {error}"))),
        Err(_) => Err(DevError::NotEstablished { seconds: ESTABLISHED_SECONDS }),
    }
}
