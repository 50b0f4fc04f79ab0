//! Stamps: written by the API server, for each change of a spec and each verb, and by nobody else.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use landfall::{
    api::{Deployment, HostGroup},
    runtime::dev::Binaries,
};
use serde_json::{Value, json};

use super::{bind, object, objects, of, person, stamps};
use crate::support::{
    plane::{Dev, TestNamespace, bare_namespace, client_as, kubeconfig, named_namespace_on},
    wait::until,
};

fn dynamic(client: &Client, space: &TestNamespace, kind: &str) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk("landfall.dev", "v1alpha1", kind);
    Api::namespaced_with(client.clone(), &space.name, &ApiResource::from_gvk(&gvk))
}

fn deployment(name: &str) -> Deployment {
    serde_json::from_value(objects(name).remove(3).1).unwrap()
}

/// What the stamps of a user say, under this name up to `by`.
fn stamp(prefix: &str, user: &str, granted: &str) -> [(String, String); 3] {
    let rights = if prefix == "requested-" { "granted".to_owned() } else { format!("{prefix}granted") };
    [
        (format!("{prefix}by"), user.to_owned()),
        (format!("{prefix}by-groups"), format!("friends of {user}\nsystem:authenticated")),
        (rights, granted.to_owned()),
    ]
}

async fn patch(api: &Api<Deployment>, name: &str, patch: Value) -> BTreeMap<String, String> {
    stamps(&api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap())
}

#[tokio::test]
async fn a_change_of_the_spec_and_a_verb_are_stamped_with_user_groups_and_rights_and_nothing_else_is() {
    let space = bare_namespace("stamps").await;
    let alice = of::<Deployment>(&person(&space, "alice", &["deploy"], &["shop"]).await, &space);
    let bob = of::<Deployment>(&person(&space, "bob", &["deploy", "deploy-protected"], &["shop"]).await, &space);
    let of_alice = BTreeMap::from(stamp("requested-", "alice", "deploy"));
    let created = alice.create(&PostParams::default(), &deployment("shop")).await.unwrap();
    assert_eq!(stamps(&created), of_alice);
    let elsewhere = alice.create(&PostParams::default(), &deployment("other")).await.unwrap();
    assert_eq!(stamps(&elsewhere), BTreeMap::from(stamp("requested-", "alice", "")), "her right is on another group");

    assert_eq!(patch(&bob, "shop", json!({ "metadata": { "labels": { "a": "b" } } })).await, of_alice);
    assert_eq!(patch(&bob, "shop", json!({ "metadata": { "finalizers": ["example.com/x"] } })).await, of_alice);
    assert_eq!(patch(&bob, "shop", json!({ "spec": { "version": "v1" } })).await, of_alice, "it is so already");
    let of_bob = BTreeMap::from(stamp("requested-", "bob", "deploy,deploy-protected"));
    assert_eq!(patch(&bob, "shop", json!({ "spec": { "version": "v2" } })).await, of_bob);

    let verb = |value: Value| json!({ "metadata": { "annotations": { "landfall.dev/retry": value } } });
    let retried: BTreeMap<String, String> = of_bob
        .clone()
        .into_iter()
        .chain(stamp("retry-", "alice", "deploy"))
        .chain([("retry".into(), "1".into())])
        .collect();
    assert_eq!(patch(&alice, "shop", verb(json!("1"))).await, retried);
    assert_eq!(patch(&bob, "shop", verb(json!("1"))).await, retried, "the value was there");
    let again = patch(&bob, "shop", verb(json!("2"))).await;
    assert_eq!((again["retry-by"].as_str(), again["requested-by"].as_str()), ("bob", "bob"));
    assert_eq!(patch(&alice, "shop", verb(Value::Null)).await, of_bob, "they go with their verb");
    let both = patch(
        &alice,
        "shop",
        json!({ "spec": { "paused": true }, "metadata": { "annotations": { "landfall.dev/redeploy": "1" } } }),
    )
    .await;
    assert_eq!((both["redeploy-by"].as_str(), both["requested-by"].as_str()), ("alice", "alice"));
}

#[tokio::test]
async fn a_forged_stamp_is_put_right_on_every_kind_in_every_way_of_writing() {
    let space = bare_namespace("forged").await;
    let mallory = person(&space, "mallory", &[], &[]).await;
    let forged = json!({
        "landfall.dev/requested-by": "alice", "landfall.dev/granted": "build,administer,deploy,deploy-protected",
        "landfall.dev/requested-by-groups": "system:masters", "landfall.dev/retry-by": "alice", "landfall.dev/retry-granted": "deploy-protected",
    });
    for (kind, mut object) in objects("shop") {
        let api = dynamic(&mallory, &space, kind);
        let wanted = BTreeMap::from(stamp("requested-", "mallory", ""));
        object["metadata"]["annotations"] = forged.clone();
        let read = |object: &Value| serde_json::from_value::<DynamicObject>(object.clone()).unwrap();
        let created = api.create(&PostParams::default(), &read(&object)).await.unwrap();
        assert_eq!(stamps(&created), wanted, "{kind}: created");

        let merge = json!({ "metadata": { "annotations": forged } });
        let merged = api.patch("shop", &PatchParams::default(), &Patch::Merge(&merge)).await.unwrap();
        assert_eq!(stamps(&merged), wanted, "{kind}: merged");
        let away = json!({ "metadata": { "annotations": null } });
        let removed = api.patch("shop", &PatchParams::default(), &Patch::Merge(&away)).await.unwrap();
        assert_eq!(stamps(&removed), wanted, "{kind}: taken away");
        let applied = api.patch("shop", &PatchParams::apply("mallory").force(), &Patch::Apply(&object)).await.unwrap();
        assert_eq!(stamps(&applied), wanted, "{kind}: applied");
        let mut replacing = read(&object);
        replacing.metadata.resource_version = applied.resource_version();
        let replaced = api.replace("shop", &PostParams::default(), &replacing).await.unwrap();
        assert_eq!(stamps(&replaced), wanted, "{kind}: replaced");
        let verb =
            json!({ "metadata": { "annotations": { "landfall.dev/retry": "1", "landfall.dev/retry-by": "alice" } } });
        let verb = api.patch("shop", &PatchParams::default(), &Patch::Merge(&verb)).await.unwrap();
        assert_eq!(stamps(&verb)["retry-by"], "mallory", "{kind}: with a verb");
        // It has its own way in, and takes nothing but a status: that of an object which nobody has decided on, for every status is judged.
        let admin = dynamic(&space.client, &space, kind);
        let status = json!({ "metadata": { "annotations": forged }, "status": { "observedGeneration": -1 } });
        let status = admin.patch_status("shop", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        assert_eq!(stamps(&status)["requested-by"], "mallory", "{kind}: through its status");
    }
}

#[tokio::test]
async fn who_may_write_everything_but_is_not_the_operator_writes_no_status() {
    let space = bare_namespace("statuses").await;
    bind(&space, "adam", "ClusterRole", "landfall-admin").await;
    let admin = client_as("adam", &["people"]).await;
    for (kind, object) in objects("shop") {
        let api = dynamic(&admin, &space, kind);
        api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
        let status = json!({ "status": { "observedGeneration": 1 } });
        let refused = api.patch_status("shop", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap_err();
        assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{kind}: {refused}");
    }
}

#[tokio::test]
async fn kubectl_applies_twice_replaces_labels_and_shows_no_difference_over_stamps() {
    let space = bare_namespace("kubectl").await;
    let (program, kubeconfig) = (Binaries::find_or_build(&|_| {}).unwrap().program("kubectl"), kubeconfig().await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("objects.json");
    let items: Vec<Value> = objects("shop").into_iter().map(|(_, object)| object).collect();
    fs::write(&file, json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()).unwrap();
    let kubectl = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.env("KUBECONFIG", &kubeconfig).args(["-n", &space.name, "--request-timeout=10m"]).args(arguments);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    };
    let file = file.to_str().unwrap();
    let versions = || async {
        let mut versions = Vec::new();
        for (kind, _) in objects("shop") {
            versions.push(dynamic(&space.client, &space, kind).get("shop").await.unwrap().resource_version());
        }
        versions
    };
    kubectl(&["apply", "--validate=false", "-f", file]);
    let first = versions().await;
    assert_eq!(kubectl(&["apply", "--validate=false", "-f", file]).matches(" unchanged").count(), 4);
    assert_eq!(kubectl(&["diff", "-f", file]), "");
    kubectl(&["apply", "--server-side", "--field-manager=git", "--validate=false", "-f", file]);
    let applied = versions().await;
    kubectl(&["apply", "--server-side", "--field-manager=git", "--validate=false", "-f", file]);
    assert_eq!(versions().await, applied, "the second apply of one manager writes nothing");
    assert_ne!(first, applied, "the manager is new");
    kubectl(&["label", "lfp,lfb,lfh,lfd", "--all", "team=shop"]);
    kubectl(&["replace", "--validate=false", "-f", file]);
    for (kind, _) in objects("shop") {
        let object = dynamic(&space.client, &space, kind).get("shop").await.unwrap();
        assert_eq!(stamps(&object)["requested-by"], "landfall-dev-admin", "{kind}");
    }
}

/// Policies that write see an object before its schema is asked.
#[tokio::test]
async fn of_an_object_that_lacks_what_its_stamps_are_about_the_schema_says_what_is_missing() {
    let space = bare_namespace("lacking").await;
    for (kind, spec, field) in [
        (
            "Deployment",
            json!({ "projectRef": { "name": "shop" }, "version": "v1" }),
            "spec.hostGroupRef: Required value",
        ),
        (
            "Deployment",
            json!({ "projectRef": { "name": "shop" }, "hostGroupRef": [], "version": "v1" }),
            "spec.hostGroupRef",
        ),
        ("Build", json!({ "projectRef": { "name": 1 }, "revision": "main" }), "spec.projectRef.name"),
        ("Build", json!("main"), "spec: Invalid value"),
    ] {
        let object = serde_json::from_value(object(kind, "shop", spec)).unwrap();
        let answer = dynamic(&space.client, &space, kind).create(&PostParams::default(), &object).await;
        let Err(kube::Error::Api(refused)) = answer else { panic!("{kind} is taken") };
        assert!(refused.message.contains(field) && !refused.message.contains("Policy"), "{}", refused.message);
    }
}

#[tokio::test]
async fn a_group_of_a_thousand_hosts_is_stamped_and_changed() {
    let space = bare_namespace("thousand").await;
    let api = space.api::<HostGroup>();
    let mut group = objects("shop").remove(2).1;
    let hosts = |zone: &str| -> Value {
        let host = |n: usize| json!({ "name": format!("web-{n}"), "address": format!("10.0.{}.{}", n / 250, n % 250 + 1), "labels": { "zone": zone, "rack": n.to_string() } });
        (0..1000).map(host).collect()
    };
    group["spec"]["hosts"] = hosts("a");
    api.create(&PostParams::default(), &serde_json::from_value(group).unwrap()).await.unwrap();
    let carol = of::<HostGroup>(&person(&space, "carol", &["deploy"], &["shop"]).await, &space);
    let change = json!({ "spec": { "hosts": hosts("b") } });
    let changed = carol.patch("shop", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    assert_eq!(stamps(&changed), BTreeMap::from(stamp("requested-", "carol", "deploy")));
}

/// On a control plane of its own: it takes away what all tests stand on.
#[tokio::test]
async fn the_second_policy_refuses_forged_stamps_with_a_sentence_while_the_first_is_away() {
    let dev = Dev::start(&["--ephemeral", "--no-operator"]).await;
    let space = named_namespace_on(dev.client().await, "shop").await;
    let (_, object) = objects("shop").remove(3);
    let api = dynamic(&space.client, &space, "Deployment");
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    let bindings = ApiResource::from_gvk(&GroupVersionKind::gvk(
        "admissionregistration.k8s.io",
        "v1",
        "MutatingAdmissionPolicyBinding",
    ));
    let bindings: Api<DynamicObject> = Api::all_with(space.client.clone(), &bindings);
    bindings.delete("landfall-stamps", &DeleteParams::default()).await.unwrap();
    let forged = json!({ "metadata": { "annotations": { "landfall.dev/requested-by": "alice" } } });
    let (dry, forge) = (PatchParams { dry_run: true, ..PatchParams::default() }, Patch::Merge(&forged));
    let refusal = |answer: kube::Result<DynamicObject>| match answer {
        Err(kube::Error::Api(status)) => Some(status.message.clone()),
        _ => None,
    };
    until("the first policy is away", || async { refusal(api.patch("shop", &dry, &forge).await).is_some() }).await;
    let said = refusal(api.patch("shop", &dry, &forge).await).unwrap();
    assert!(said.contains("can't be written by hand"), "{said}");
    let spec = json!({ "spec": { "version": "v2" } });
    let changed = refusal(api.patch("shop", &dry, &Patch::Merge(&spec)).await);
    assert_eq!(changed, None, "the stamps of who created it are right for a change of his as well");
    let label = json!({ "metadata": { "labels": { "a": "b" } } });
    assert!(api.patch("shop", &dry, &Patch::Merge(&label)).await.is_ok(), "a label needs no stamp");

    // As in Kubernetes before 1.36: nothing ever stamped this one.
    let (_, mut other) = objects("other").remove(3);
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let create = async |object: &Value| api.create(&params, &serde_json::from_value(object.clone()).unwrap()).await;
    assert!(create(&other).await.is_ok(), "an object without stamps is taken");
    for forged in ["requested-by", "granted", "requested-by-groups"] {
        other["metadata"]["annotations"] = json!({ format!("landfall.dev/{forged}"): "deploy-protected" });
        let said = refusal(create(&other).await).unwrap();
        assert!(said.contains("what stands there is not that"), "{said}");
    }
    assert!(dev.stop().await.success());
}

#[tokio::test]
async fn the_api_server_finds_no_fault_in_the_policies() {
    let policies = Api::<ValidatingAdmissionPolicy>::all(crate::support::plane::client().await);
    until("the types of the policies are checked", || async {
        let policy = policies.get("landfall-stamps").await.unwrap();
        policy.status.is_some_and(|status| status.observed_generation == policy.metadata.generation)
    })
    .await;
    let checked = policies.get("landfall-stamps").await.unwrap().status.unwrap().type_checking;
    assert_eq!(checked.and_then(|checked| checked.expression_warnings).unwrap_or_default(), []);
}

#[test]
fn both_policies_know_every_verb_of_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = fs::read_to_string(root.join("core/src/api/verbs.rs")).unwrap();
    let source = source.split("#[cfg(test)]").next().unwrap();
    let named = source.split("\"landfall.dev/").skip(1).map(|rest| rest.split('"').next().unwrap());
    // Of a Secret, and no verb; and one on a Lease, which is no resource of ours.
    let mut verbs: Vec<&str> = named.filter(|name| !["git-host", "adopt-all"].contains(name)).collect();
    let manifest = fs::read_to_string(root.join("manifests/policies/stamps.yaml")).unwrap();
    let objects: Vec<Value> = serde_saphyr::from_multiple(&manifest).unwrap();
    let policies: Vec<&Value> = objects.iter().filter(|object| object["spec"]["variables"].is_array()).collect();
    assert_eq!(policies.len(), 2);
    assert_eq!(policies[0]["spec"]["variables"], policies[1]["spec"]["variables"]);
    assert_eq!(policies[0]["spec"]["variables"][0]["name"], "verbs");
    let list = policies[0]["spec"]["variables"][0]["expression"].as_str().unwrap();
    let listed: Vec<&str> = list.split('\'').skip(1).step_by(2).collect();
    verbs.retain(|verb| !listed.contains(verb));
    assert!(verbs.is_empty(), "add {verbs:?} to the list `verbs` of both policies in manifests/policies/stamps.yaml");
}
