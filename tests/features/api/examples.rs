//! What we hand to users: the examples are taken by a real API server, and bad input is refused with a message that names the field.

use crate::support::plane::{client, namespace};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};

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
async fn a_min_available_of_no_host_or_of_all_is_refused() {
    for bad in [json!(0), json!("0%"), json!("100%"), json!("many"), json!(-1), json!(1000)] {
        refused(with("hostgroup", "/spec/minAvailable", bad), &["minAvailable"]).await;
    }
}

#[tokio::test]
async fn a_selection_is_by_names_or_by_selector_never_both_or_neither() {
    let both = json!({ "names": ["web-01"], "selector": { "matchLabels": { "zone": "a" } } });
    refused(with("deployment", "/spec/hosts", both), &["either names or selector"]).await;
    refused(with("deployment", "/spec/hosts", json!({})), &["either names or selector"]).await;
}

#[tokio::test]
async fn a_url_that_git_or_a_shell_could_misread_is_refused() {
    for bad in [
        "ext::sh -c id",
        "fd::17",
        "-oProxyCommand=id",
        "--upload-pack=id",
        "git@example.com:a.git",
        "http://example.com/a.git",
        "git://example.com/a.git",
        "HTTPS://example.com/a.git",
        "https://a b/c",
        "https://example.com/a\nb",
        "https://example.com/a\r\nHost: evil",
        "https://ann:swordfish@example.com/a.git",
        "https://swordfish@example.com/a.git",
        "https://-oProxyCommand=id/a.git",
        "https://example.com",
        "https://example.com/a/../b",
        "https://example.com/a?b",
        "https://example.com/a#b",
        "https://exa$(id)mple.com/a",
        "ssh://-oProxyCommand=id/a.git",
        "ssh://-x@example.com/a.git",
        "ssh://git:swordfish@example.com/a.git",
        "ssh://git@example.com/--upload-pack=id",
        "file://host/a.git",
        "file:///srv/../etc",
        "file:///srv/a\\b",
    ] {
        refused(with("project", "/spec/source/url", json!(bad)), &["spec.source.url"]).await;
    }
}

#[tokio::test]
async fn urls_that_people_write_are_taken_and_ssh_wants_a_secret() {
    let (space, client) = (namespace("urls").await, client().await);
    for good in [
        "https://git.example.com/shop/petclinic.git",
        "https://git.example.com:8443/a-b/c_d.e",
        "https://[2001:db8::1]:8443/x",
        "ssh://git@git.example.com/shop/petclinic.git",
        "ssh://git.example.com:2222/~ann/x.git",
    ] {
        let source = json!({ "url": good, "secretRef": { "name": "shop-git" } });
        apply(&client, &space.name, &with("project", "/spec/source", source)).await.unwrap();
    }
    refused(
        with("project", "/spec/source/url", json!("ssh://git@example.com/a")),
        &["spec.source.secretRef", "identity"],
    )
    .await;
    refused(with("project", "/spec/source/secretRef", json!({ "name": "x" })), &["spec.source.secretRef", "file://"])
        .await;
    let path = json!({ "url": "https://h/x", "secretRef": { "name": "../x" } });
    refused(with("project", "/spec/source", path), &["spec.source.secretRef.name"]).await;
}

#[tokio::test]
async fn a_path_that_leaves_the_repository_is_refused() {
    for bad in ["..", "../x", "a/../../b", "a/..", "/etc", "a\\b", "a\nb", ""] {
        refused(with("project", "/spec/source/path", json!(bad)), &["spec.source.path"]).await;
    }
    let (space, client) = (namespace("paths").await, client().await);
    for good in [".", "services/api", "a..b/c...d", "grüße"] {
        apply(&client, &space.name, &with("project", "/spec/source/path", json!(good))).await.unwrap();
    }
}

#[tokio::test]
async fn a_root_that_leaves_itself_is_refused() {
    for bad in ["/", "srv", "/srv/../etc", "/srv/..", "/srv/a b"] {
        refused(with("hostgroup", "/spec/root", json!(bad)), &["spec.root"]).await;
    }
}

#[tokio::test]
async fn a_cache_stays_within_home_and_checkout_and_apart_from_the_others() {
    let caches = |paths: &[&str]| {
        let one = |(n, path): (usize, &&str)| json!({ "name": format!("c{n}"), "path": path });
        with("project", "/spec/build/caches", paths.iter().enumerate().map(one).collect())
    };
    for bad in ["/root/.m2", "..", "~/../x", "a/../b", "~", "~/", ".", "./x", "a//b", "a b", "~root/x", "a/"] {
        refused(caches(&[bad]), &["spec.build.caches[0].path"]).await;
    }
    refused(caches(&["~/.m2", "~/.m2"]), &["two caches have one path"]).await;
    refused(caches(&["~/.cache", "~/.cache/pip"]), &["lies within the other"]).await;
    let space = namespace("caches").await;
    let fine = caches(&["~/.m2", "~/.m2x", ".m2", "web/node_modules", "~/.cache/pip"]);
    apply(&client().await, &space.name, &fine).await.unwrap();
}

#[tokio::test]
async fn a_trigger_needs_branches_and_a_default_for_every_parameter() {
    refused(with("project", "/spec/build/trigger", json!({ "onPush": [] })), &["spec.build.trigger.onPush"]).await;
    let mut object = with("project", "/spec/build/trigger", json!({ "onPush": ["main"] }));
    object["spec"]["build"]["parameters"] = json!([{ "name": "NOTE" }]);
    refused(object, &["every parameter needs a default"]).await;
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

/// Names of all fields below a schema.
fn fields(schema: &Value, into: &mut std::collections::BTreeSet<String>) {
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        into.insert(name.clone());
        fields(below, into);
    }
    if schema["items"].is_object() {
        fields(&schema["items"], into);
    }
}

fn page(kind: &str) -> String {
    std::fs::read_to_string(format!("{}/docs/api/{kind}.md", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn every_field_and_every_reason_is_in_the_documentation() {
    // Parts of Kubernetes' own types, explained there.
    let foreign = [
        "lastTransitionTime",
        "message",
        "status",
        "type",
        "matchExpressions",
        "matchLabels",
        "key",
        "operator",
        "values",
    ];
    let mut pages = String::new();
    for crd in landfall::api::crds::all() {
        let kind = crd.spec.names.kind.to_lowercase();
        let text = page(&kind);
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let mut names = std::collections::BTreeSet::new();
        for part in ["spec", "status"] {
            fields(&schema["openAPIV3Schema"]["properties"][part], &mut names);
        }
        assert!(names.contains("observedGeneration"), "the schema of {kind} was not read");
        for name in names.iter().filter(|name| !foreign.contains(&name.as_str())) {
            let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
            assert!(words.any(|word| word == name), "docs/api/{kind}.md says nothing of {name}");
        }
        pages += &text;
    }
    for reason in landfall::api::Reason::all() {
        assert!(pages.contains(&format!("`{reason}`")), "no page of docs/api explains {reason}");
    }
}

#[tokio::test]
async fn the_secrets_of_the_examples_are_those_that_the_host_group_names() {
    let group = example("hostgroup");
    let project = example("project");
    let name = |object: &serde_json::Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    let (group_name, project_name) = (&*name(&group), &*name(&project));
    let space = namespace("secrets").await;
    let path = format!("{}/examples/secrets.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let secrets: Vec<k8s_openapi::api::core::v1::Secret> = serde_saphyr::from_multiple(&text).unwrap();
    let ssh = &group["spec"]["ssh"];
    let expected = [
        (ssh["credentialsRef"]["name"].as_str().unwrap(), "ssh", group_name, &["identity"][..]),
        (ssh["hostKeys"]["knownHostsRef"]["name"].as_str().unwrap(), "ssh", group_name, &["known_hosts"]),
        ("shop-git", "git", project_name, &["username", "password", "ca.crt"]),
        ("shop-git-ssh", "git", project_name, &["identity", "known_hosts"]),
    ];
    for (secret, (name, usage, user, keys)) in secrets.into_iter().zip(expected) {
        let taken = space.api().create(&kube::api::PostParams::default(), &secret).await.unwrap();
        assert_eq!(taken.metadata.name.as_deref(), Some(name));
        let data = taken.data.unwrap();
        assert!(keys.iter().all(|key| data.contains_key(*key)), "{name}");
        assert_eq!(taken.metadata.labels.unwrap()[&format!("use.landfall.dev/{usage}")], user);
        let host = taken.metadata.annotations.and_then(|mut all| all.remove("landfall.dev/git-host"));
        assert_eq!(host.is_some_and(|host| host.starts_with("git.example.com")), usage == "git");
    }
}
