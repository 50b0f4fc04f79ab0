//! Who asked for what: the policies of `manifests/policies` on the real API server, with users who have rights of their own.

mod stamps;

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use serde_json::{Value, json};

use crate::support::plane::{TestNamespace, client_as};

/// Whoever may write all four kinds here, and has of landfall's own rights these on HostGroups of these names.
async fn person(space: &TestNamespace, name: &str, rights: &[&str], groups: &[&str]) -> Client {
    let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<String>>();
    let rule = |resources: &[&str], verbs: &[&str]| PolicyRule {
        api_groups: Some(owned(&["landfall.dev"])),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..PolicyRule::default()
    };
    let writes = rule(&["projects", "builds", "hostgroups", "deployments"], &["get", "create", "update", "patch"]);
    let deploys = PolicyRule { resource_names: Some(owned(groups)), ..rule(&["hostgroups"], rights) };
    let rules = [writes].into_iter().chain((!rights.is_empty()).then_some(deploys)).collect();
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let role = Role { metadata, rules: Some(rules) };
    space.api::<Role>().create(&PostParams::default(), &role).await.unwrap();
    bind(space, name, "Role", name).await;
    client_as(name, &[&format!("friends of {name}")]).await
}

async fn bind(space: &TestNamespace, user: &str, kind: &str, role: &str) {
    let binding = RoleBinding {
        metadata: ObjectMeta { name: Some(format!("{user}-{role}")), ..ObjectMeta::default() },
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".into()),
            kind: kind.to_owned(),
            name: role.to_owned(),
        },
        subjects: Some(vec![Subject {
            api_group: Some("rbac.authorization.k8s.io".into()),
            kind: "User".into(),
            name: user.to_owned(),
            namespace: None,
        }]),
    };
    space.api::<RoleBinding>().create(&PostParams::default(), &binding).await.unwrap();
}

/// An object of each kind that the API server takes, all of one name; no operator looks at them.
fn objects(name: &str) -> Vec<(&'static str, Value)> {
    let specs = [
        (
            "Project",
            json!({
                "source": { "url": "https://git.invalid/shop.git" },
                "build": { "script": "true", "artifacts": [{ "path": "app" }] },
                "run": { "process": { "command": ["./app"] } },
            }),
        ),
        ("Build", json!({ "projectRef": { "name": name }, "revision": "main" })),
        (
            "HostGroup",
            json!({ "ssh": { "user": "deploy", "credentialsRef": { "name": "key" }, "hostKeys": { "knownHostsRef": { "name": "known" } } } }),
        ),
        ("Deployment", json!({ "projectRef": { "name": name }, "hostGroupRef": { "name": name }, "version": "v1" })),
    ];
    specs.into_iter().map(|(kind, spec)| (kind, object(kind, name, spec))).collect()
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "landfall.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

/// The same object, in the eyes of another user.
fn of<K>(client: &Client, space: &TestNamespace) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client.clone(), &space.name)
}

/// All of its annotations that begin with landfall's name, without that name.
fn stamps(object: &impl ResourceExt) -> BTreeMap<String, String> {
    let ours = object.annotations().iter();
    ours.filter_map(|(key, value)| Some((key.strip_prefix("landfall.dev/")?.to_owned(), value.clone()))).collect()
}
