//! Puts landfall's custom resources and rights into a control plane, by server-side apply: a second time changes nothing.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::ServiceAccount, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    runtime::wait::{Condition, await_condition, conditions},
};
use serde_json::json;

use super::{error::DevError, say};
use crate::{
    api::{GROUP, stamps::REQUESTED_BY},
    effects::api_server::api_message,
};

const FIELD_MANAGER: &str = "landfall-dev";
const ESTABLISHED_SECONDS: u64 = 30;
const MANAGED: [&str; 2] = ["kube-system", "default"];

/// What `kubectl apply -k manifests/` applies besides the custom resources; without the operator's Deployment, since here it is a process.
const MANIFESTS: [&str; 3] = [
    include_str!("../../../manifests/namespace.yaml"),
    include_str!("../../../manifests/operator-rights.yaml"),
    include_str!("../../../manifests/user-roles.yaml"),
];

/// Who asked for what: applied once the custom resources are served, and only where the API server has policies that write.
const POLICIES: &str = include_str!("../../../manifests/policies/stamps.yaml");
const POLICY_GROUP: &str = "admissionregistration.k8s.io/v1";
const POLICY_INTERVAL: Duration = Duration::from_millis(100);

/// Applies everything, and comes back when the custom resources are served and the controllers do their work.
pub async fn install(client: &Client) -> Result<(), DevError> {
    let definitions = crate::api::crds::all();
    let names: Vec<String> = definitions.iter().map(ResourceExt::name_any).collect();
    for definition in definitions {
        let object = serde_json::to_value(&definition).and_then(serde_json::from_value);
        apply(client, &object.map_err(|error| DevError::Manifest(error.to_string()))?).await?;
    }
    for text in MANIFESTS {
        apply_all(client, text).await?;
    }
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for name in &names {
        appears(definitions.clone(), name, conditions::is_crd_established()).await?;
    }
    install_policies(client).await?;
    for namespace in MANAGED {
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        appears(accounts, "default", |account: Option<&ServiceAccount>| account.is_some()).await?;
    }
    Ok(())
}

async fn apply_all(client: &Client, manifest: &str) -> Result<(), DevError> {
    let objects = serde_saphyr::from_multiple(manifest).map_err(|error| DevError::Manifest(error.to_string()))?;
    for object in objects {
        apply(client, &object).await?;
    }
    Ok(())
}

/// The policies of `manifests/policies`; comes back when they are in force, which the API server makes them within a second or two.
async fn install_policies(client: &Client) -> Result<(), DevError> {
    let unknown = |error: kube::Error| DevError::Install { what: POLICY_GROUP.to_owned(), why: api_message(&error) };
    let served = client.list_api_group_resources(POLICY_GROUP).await.map_err(unknown)?;
    if !served.resources.iter().any(|resource| resource.name == "mutatingadmissionpolicies") {
        say("this API server has no MutatingAdmissionPolicy (Kubernetes 1.36 has): who asked for what stays unknown");
        return Ok(());
    }
    apply_all(client, POLICIES).await?;
    let stamped = async {
        while !is_stamped(client).await {
            tokio::time::sleep(POLICY_INTERVAL).await;
        }
    };
    let deadline = Duration::from_secs(ESTABLISHED_SECONDS);
    let late = |_| DevError::Install {
        what: "the policies of manifests/policies".to_owned(),
        why: format!("nothing would be stamped after {ESTABLISHED_SECONDS} s"),
    };
    tokio::time::timeout(deadline, stamped).await.map_err(late)
}

/// Whether a Build and a Deployment would be stamped, if they were created.
async fn is_stamped(client: &Client) -> bool {
    let params = PostParams { dry_run: true, ..PostParams::default() };
    for (kind, spec) in [
        ("Build", json!({ "projectRef": { "name": "none" }, "revision": "main" })),
        (
            "Deployment",
            json!({ "projectRef": { "name": "none" }, "hostGroupRef": { "name": "none" }, "version": "v1" }),
        ),
    ] {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1alpha1", kind));
        let object = DynamicObject::new("landfall-dev-check", &resource).data(json!({ "spec": spec }));
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
        let created = api.create(&params, &object).await;
        if !created.is_ok_and(|object| object.annotations().contains_key(REQUESTED_BY)) {
            return false;
        }
    }
    true
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
