//! What we hand to users: the examples are taken by a real API server, `crds/` is what the types generate, and bad input is refused
//! with a message that names the field.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};
use support::plane::{client, namespace};

async fn apply(client: &Client, namespace: &str, object: &Value) -> Result<DynamicObject, kube::Error> {
    let kind = object["kind"].as_str().unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("landfall.dev", "v1alpha1", kind));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let name = object["metadata"]["name"].as_str().unwrap();
    api.patch(name, &PatchParams::apply("test"), &Patch::Apply(object)).await
}

fn example(name: &str) -> Value {
    let path = format!("{}/examples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The example with one field changed.
fn with(name: &str, pointer: &str, value: Value) -> Value {
    let mut object = example(name);
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[field] = value;
    object
}

async fn refused(object: Value, words: &[&str]) {
    let space = namespace("refused").await;
    let answer = apply(&client().await, &space.name, &object).await;
    let Err(kube::Error::Api(status)) = answer else { panic!("accepted: {object}") };
    for word in words {
        assert!(status.message.contains(word), "{word:?} is not in: {}", status.message);
    }
}

#[test]
fn crds_on_disk_are_what_the_types_generate() {
    for (name, text) in landfall::api::crds::files().unwrap() {
        let path = format!("{}/crds/{name}", env!("CARGO_MANIFEST_DIR"));
        assert!(std::fs::read_to_string(&path).unwrap() == text, "crds/{name} is stale; run: make crds");
    }
}

#[tokio::test]
async fn every_example_is_taken_by_the_api_server() {
    let space = namespace("examples").await;
    let client = client().await;
    for name in ["project", "build", "hostgroup", "deployment"] {
        let taken = apply(&client, &space.name, &example(name)).await.unwrap();
        assert_eq!(taken.data["status"]["observedGeneration"], -1, "a fresh {name} does not look finished");
    }
}

#[tokio::test]
async fn a_version_that_is_a_path_or_an_option_is_refused() {
    for bad in ["..", "-rf", "a..b", "v1.lock", "a/b", ""] {
        refused(with("deployment", "/spec/version", json!(bad)), &["spec.version"]).await;
        refused(with("build", "/spec/tag", json!(bad)), &["spec.tag"]).await;
    }
}

#[tokio::test]
async fn a_max_unavailable_of_nothing_is_refused() {
    for bad in [json!(0), json!("0%"), json!("101%"), json!("many"), json!(-1)] {
        let object = with("deployment", "/spec/strategy", json!({ "rollingUpdate": { "maxUnavailable": bad } }));
        refused(object, &["maxUnavailable"]).await;
    }
}

#[tokio::test]
async fn a_selection_is_by_names_or_by_selector_never_both_or_neither() {
    let both = json!({ "names": ["web-01"], "selector": { "matchLabels": { "zone": "a" } } });
    refused(with("deployment", "/spec/hosts", both), &["either names or selector"]).await;
    refused(with("deployment", "/spec/hosts", json!({})), &["either names or selector"]).await;
}

#[tokio::test]
async fn a_url_of_a_foreign_scheme_is_refused() {
    for bad in ["ext::sh -c id", "-oProxyCommand=id", "http://example.com/a.git", "https://a b"] {
        refused(with("project", "/spec/source/url", json!(bad)), &["spec.source.url"]).await;
    }
}

#[tokio::test]
async fn a_root_that_leaves_itself_is_refused() {
    for bad in ["/", "srv", "/srv/../etc", "/srv/..", "/srv/a b"] {
        refused(with("hostgroup", "/spec/root", json!(bad)), &["spec.root"]).await;
    }
}

#[tokio::test]
async fn a_build_is_a_record() {
    let space = namespace("record").await;
    let client = client().await;
    apply(&client, &space.name, &example("build")).await.unwrap();
    let changed = apply(&client, &space.name, &with("build", "/spec/revision", json!("other"))).await.unwrap_err();
    assert!(changed.to_string().contains("a Build is a record"), "{changed}");
    apply(&client, &space.name, &with("build", "/spec/cancelled", json!(true))).await.unwrap();
    let again = apply(&client, &space.name, &with("build", "/spec/cancelled", json!(false))).await.unwrap_err();
    assert!(again.to_string().contains("cancelled may only become true"), "{again}");
}
