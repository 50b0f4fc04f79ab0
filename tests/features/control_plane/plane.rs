//! The control plane itself: killed, stopped, full, forgetful (F01, F05, F09), its rights (F83), its kinds (F11), its namespaces (F12).
//! One `landfall dev` of their own serves these tests, one after the other.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicI32, Ordering},
    time::Duration,
};

use k8s_openapi::{
    api::{
        authorization::v1::SelfSubjectAccessReview,
        core::v1::Namespace,
        rbac::v1::{ClusterRole, PolicyRule, RoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use landfall::api::{Deployment, FIELD_MANAGER, HostGroup, Project};
use rand::Rng;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::{
    control_plane::chance,
    control_plane::story::{Story, processes, ready},
    support::{
        plane::{Dev, client_of},
        wait::{find, until},
    },
};

/// It is one test's alone until the guard goes.
async fn own() -> (&'static Dev, MutexGuard<'static, ()>) {
    static DEV: OnceCell<Dev> = OnceCell::const_new();
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    let dev = DEV.get_or_init(|| Dev::shared("disturbed", &["--ephemeral", "--no-operator"])).await;
    // What a test that failed left behind is no other's business.
    give_back(dev, &whole_role(dev).await).await;
    (dev, turn)
}

/// The process of that program in this control plane.
fn pid_of(dev: &Dev, program: &str) -> Option<Pid> {
    let folder = dev.folder().display().to_string();
    let found = std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = String::from_utf8_lossy(&std::fs::read(entry.path().join("cmdline")).ok()?).replace('\0', " ");
        let (path, flags) = line.split_once(' ')?;
        (path.ends_with(&format!("/{program}")) && flags.contains(&folder)).then_some(pid)
    });
    Pid::from_raw(found?)
}

async fn signal(dev: &Dev, program: &str, signal: Signal) {
    let pid =
        find(&format!("running: {program}"), || async { pid_of(dev, program).ok_or(()) }, |()| String::new()).await;
    let _ = rustix::process::kill_process(pid, signal);
}

/// Something that only etcd's owner may do.
async fn etcd(dev: &Dev, path: &str, body: Value) -> Value {
    let ports: Value = serde_json::from_slice(&std::fs::read(dev.folder().join("ports.json")).unwrap()).unwrap();
    let pki = |name: &str| dev.folder().join("pki").join(name);
    let config: Kubeconfig = serde_json::from_value(json!({
        "clusters": [{ "name": "it", "cluster": {
            "server": format!("https://127.0.0.1:{}", ports["etcd"]), "insecure-skip-tls-verify": true,
        }}],
        "users": [{ "name": "me", "user": { "client-certificate": pki("etcd.crt"), "client-key": pki("etcd.key") } }],
        "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "me" } }],
        "current-context": "it",
    }))
    .unwrap();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    let request = hyper::http::Request::post(path).body(body.to_string().into_bytes()).unwrap();
    Client::try_from(config).unwrap().request(request).await.unwrap()
}

/// Ready, and ready to be asked by everybody.
async fn answers(dev: &Dev) {
    let client = dev.client().await;
    until("back: the control plane", || async {
        let request = hyper::http::Request::get("/readyz").body(Vec::new()).unwrap();
        let asked = tokio::time::timeout(Duration::from_secs(10), client.request_text(request)).await;
        matches!(asked, Ok(Ok(_)))
    })
    .await;
}

/// F01, F05, F09
#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_is_killed_stopped_or_full_loses_and_repeats_nothing() {
    let (dev, _turn) = own().await;
    let story = Story::on(&dev.kubeconfig, "deaths", |plan| plan).await;
    let mut rng = chance("deaths");
    let mut pause =
        async |from: u64, to: u64| tokio::time::sleep(Duration::from_millis(rng.random_range(from..to))).await;
    let deaths = async {
        for program in ["kube-apiserver", "etcd"] {
            pause(2000, 5000).await;
            signal(dev, program, Signal::KILL).await;
            println!("deaths: {program} killed");
            pause(500, 1500).await;
            answers(dev).await;
        }
    };
    tokio::join!(story.first(), deaths);
    let illnesses = async {
        pause(500, 3000).await;
        println!("deaths: etcd stopped for 6 s");
        signal(dev, "etcd", Signal::STOP).await;
        tokio::time::sleep(Duration::from_secs(6)).await;
        signal(dev, "etcd", Signal::CONT).await;
        answers(dev).await;

        pause(500, 1500).await;
        println!("deaths: etcd full for 4 s");
        let status = etcd(dev, "/v3/maintenance/status", json!({})).await;
        let alarm =
            |action: &str| json!({ "action": action, "memberID": status["header"]["member_id"], "alarm": "NOSPACE" });
        etcd(dev, "/v3/maintenance/alarm", alarm("ACTIVATE")).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        etcd(dev, "/v3/maintenance/alarm", alarm("DEACTIVATE")).await;

        pause(500, 1500).await;
        println!("deaths: history forgotten, API server killed");
        let now = etcd(dev, "/v3/maintenance/status", json!({})).await;
        etcd(dev, "/v3/kv/compaction", json!({ "revision": now["header"]["revision"] })).await;
        signal(dev, "kube-apiserver", Signal::KILL).await;
        pause(500, 1000).await;
        answers(dev).await;
    };
    tokio::join!(story.second(), illnesses);
    story.deployed("v2").await;
    story.is_right().await;
}

/// A right less: the one verb on the one resource.
async fn take_away(dev: &Dev, verb: &str, resource: &str) -> ClusterRole {
    let roles: Api<ClusterRole> = Api::all(dev.client().await);
    let whole = roles.get("landfall").await.unwrap();
    let mut less = whole.clone();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for mut rule in less.rules.take().unwrap() {
        let resources = rule.resources.get_or_insert_default();
        if let Some(at) = resources.iter().position(|one| one == resource) {
            resources.remove(at);
            let verbs = rule.verbs.iter().filter(|one| *one != verb).cloned().collect();
            rules.push(PolicyRule { resources: Some(vec![resource.to_owned()]), verbs, ..rule.clone() });
        }
        rules.push(rule);
    }
    rules
        .retain(|rule| rule.resources.as_ref().is_none_or(|resources| !resources.is_empty()) && !rule.verbs.is_empty());
    less.rules = Some(rules);
    roles.replace("landfall", &PostParams::default(), &less).await.unwrap();
    until(&format!("forbidden: {verb} {resource}"), || async { !may(dev, verb, resource).await }).await;
    whole
}

/// Whether the operator may do that in a namespace, as the API server itself sees it at the moment.
async fn may(dev: &Dev, verb: &str, resource: &str) -> bool {
    let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
    let group = if resource == "events" { "events.k8s.io" } else { "landfall.dev" };
    let attributes =
        json!({ "namespace": "default", "verb": verb, "group": group, "resource": resource, "subresource": sub });
    let review = json!({ "spec": { "resourceAttributes": attributes } });
    let review: SelfSubjectAccessReview = serde_json::from_value(review).unwrap();
    let operator = client_of(&operator_of(&dev.kubeconfig)).await;
    let answer = Api::all(operator).create(&PostParams::default(), &review).await.unwrap();
    answer.status.unwrap().allowed
}

/// The operator's role as the control plane came with it; kept in its folder by whoever is first, for tests take rights away.
async fn whole_role(dev: &Dev) -> ClusterRole {
    let kept = dev.folder().join("whole-role.json");
    if let Ok(text) = std::fs::read(&kept) {
        return serde_json::from_slice(&text).unwrap();
    }
    let role = Api::<ClusterRole>::all(dev.client().await).get("landfall").await.unwrap();
    std::fs::write(kept, serde_json::to_vec(&role).unwrap()).unwrap();
    role
}

async fn give_back(dev: &Dev, whole: &ClusterRole) {
    let roles: Api<ClusterRole> = Api::all(dev.client().await);
    let mut role = roles.get("landfall").await.unwrap();
    role.rules.clone_from(&whole.rules);
    roles.replace("landfall", &PostParams::default(), &role).await.unwrap();
}

/// Something new in a Deployment's spec that starts nothing again.
async fn edit_deployment(story: &Story) {
    static EDITS: AtomicI32 = AtomicI32::new(601);
    let n = EDITS.fetch_add(1, Ordering::Relaxed);
    story.patch::<Deployment>("shop", json!({ "spec": { "progressDeadlineSeconds": n } })).await;
}

async fn edit_group(story: &Story) -> String {
    let stamp = format!("{:x}", rand::random::<u32>());
    let annotations = json!({ "landfall.dev/refresh": stamp });
    story.patch::<HostGroup>("prod", json!({ "metadata": { "annotations": annotations } })).await;
    stamp
}

async fn group_goes_on(story: &Story) {
    let stamp = edit_group(story).await;
    story
        .until::<HostGroup>("prod", "refreshed", |group| group["status"]["lastHandled"].to_string().contains(&stamp))
        .await;
}

async fn deployment_goes_on(story: &Story) {
    edit_deployment(story).await;
    story.until::<Deployment>("shop", "looked at", ready).await;
}

/// What the operator logged since then; quotes within a quoted word are escaped there.
fn said_since(story: &Story, since: usize) -> String {
    story.operator.output()[since..].replace("\\\"", "\"")
}

async fn is_named(story: &Story, since: usize, verb: &str, resource: &str) {
    let wanted = format!("cannot {verb} resource \"{resource}\"");
    story.until_true(&wanted, || said_since(story, since).contains(&wanted)).await;
}

/// F83
#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_away_is_named_the_others_go_on_and_it_heals_when_it_is_given_back() {
    let (dev, _turn) = own().await;
    let mut story = Story::on(&dev.kubeconfig, "rights", |plan| plan).await;
    story.first().await;
    let said = |story: &Story| story.operator.output().len();

    let (whole, since) = (take_away(dev, "patch", "deployments/status").await, said(&story));
    edit_deployment(&story).await;
    is_named(&story, since, "patch", "deployments/status").await;
    group_goes_on(&story).await;
    give_back(dev, &whole).await;
    story.until::<Deployment>("shop", "healed", ready).await;

    let (whole, since) = (take_away(dev, "patch", "hostgroups/status").await, said(&story));
    let stamp = edit_group(&story).await;
    is_named(&story, since, "patch", "hostgroups/status").await;
    deployment_goes_on(&story).await;
    give_back(dev, &whole).await;
    story
        .until::<HostGroup>("prod", "healed", |group| group["status"]["lastHandled"].to_string().contains(&stamp))
        .await;

    let (whole, since) = (take_away(dev, "list", "builds").await, said(&story));
    let annotations = json!({ "landfall.dev/refresh": "1" });
    story.patch::<Project>("shop", json!({ "metadata": { "annotations": annotations } })).await;
    is_named(&story, since, "list", "builds").await;
    deployment_goes_on(&story).await;
    give_back(dev, &whole).await;
    story.until::<Project>("shop", "healed", |project| !project["status"]["lastHandled"].is_null()).await;

    // One that happened before is patched.
    let (whole, since) = (take_away(dev, "create", "events").await, said(&story));
    take_away(dev, "patch", "events").await;
    group_goes_on(&story).await;
    let named = || said_since(&story, since).contains("resource \"events\" in API group \"events.k8s.io\"");
    story.until_true("named events", named).await;
    give_back(dev, &whole).await;

    let (whole, since) = (take_away(dev, "patch", "builds").await, said(&story));
    story.commit("two");
    story.build("shop-2").await;
    is_named(&story, since, "patch", "builds").await;
    deployment_goes_on(&story).await;
    give_back(dev, &whole).await;
    story.built("shop-2").await;

    // What is watched is only asked for again when a watch ends.
    let (whole, since) = (take_away(dev, "watch", "deployments").await, said(&story));
    story.operator.restart().await;
    is_named(&story, since, "watch", "deployments").await;
    group_goes_on(&story).await;
    give_back(dev, &whole).await;
    story.patch::<Deployment>("shop", json!({ "spec": { "version": "v2" } })).await;
    story.deployed("v2").await;

    let bindings = story.space.api::<RoleBinding>();
    bindings.delete("landfall-lease", &DeleteParams::default()).await.unwrap();
    let since = said(&story);
    is_named(&story, since, "update", "leases").await;
    assert!(story.operator.is_running());
    story.space.bind_operator("landfall-lease").await;
    deployment_goes_on(&story).await;

    bindings.delete("landfall-tenant", &DeleteParams::default()).await.unwrap();
    edit_group(&story).await;
    let group = story
        .until::<HostGroup>("prod", "refused", |group| {
            group["status"]["conditions"].to_string().contains("SecretForbidden")
        })
        .await;
    assert!(group["status"]["conditions"].to_string().contains("manifests/tenant"), "{group:#}");
    story.space.bind_operator("landfall-tenant").await;
    story.until::<HostGroup>("prod", "healed", ready).await;
    deployment_goes_on(&story).await;
    story.is_right().await;
}

/// F11
#[tokio::test(flavor = "multi_thread")]
async fn fields_of_a_later_version_are_kept_and_a_kind_that_goes_and_comes_back_is_survived() {
    let (dev, _turn) = own().await;
    let story = Story::on(&dev.kubeconfig, "kinds", |plan| plan.flag("--resync-seconds=10")).await;
    let kinds: Api<CustomResourceDefinition> = Api::all(dev.client().await);
    let name = "deployments.landfall.dev";
    let ours = kinds.get(name).await.unwrap();
    let mut later = serde_json::to_value(&ours).unwrap();
    for part in ["spec", "status"] {
        let properties =
            &mut later["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part]["properties"];
        properties["future"] = json!({ "type": "string", "maxLength": 10 });
    }
    let rollout = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/rollout/properties";
    let rollout = later.pointer_mut(rollout).unwrap();
    rollout["promoted"] = json!({ "type": "boolean" });
    rollout["intent"]["properties"]["canaryHosts"] = json!({ "type": "array", "items": { "type": "string" } });
    let later: CustomResourceDefinition = serde_json::from_value(later).unwrap();
    kinds.replace(name, &PostParams::default(), &later).await.unwrap();
    story.first().await;
    // The new schema is not in force at once.
    until("taken: a field of the future", || async {
        story.patch::<Deployment>("shop", json!({ "spec": { "future": "spec" } })).await;
        raw(&story).await["spec"]["future"] == "spec"
    })
    .await;
    story.ask_for_second().await;
    story.half_deployed("v2").await;
    written_by_a_later_version(&story).await;
    story.deployed("v2").await;
    let kept = raw(&story).await;
    assert_eq!((&kept["spec"]["future"], &kept["status"]["future"]), (&json!("spec"), &json!("status")));
    let rollout = &kept["status"]["rollout"];
    assert_eq!((&rollout["promoted"], &rollout["intent"]["canaryHosts"]), (&json!(true), &json!(["web-01"])));
    story.is_right().await;

    // What other tests left behind has no operator that could let it go.
    let everywhere: Api<Deployment> = Api::all(dev.client().await);
    for object in everywhere.list_metadata(&ListParams::default()).await.unwrap() {
        let namespace = object.namespace().unwrap();
        if namespace != story.space.name {
            let api: Api<Deployment> = Api::namespaced(dev.client().await, &namespace);
            let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
            api.patch(&object.name_any(), &PatchParams::default(), &free).await.unwrap();
        }
    }
    // The kind goes, with all of its objects; nothing else is harmed.
    kinds.delete(name, &DeleteParams::default()).await.unwrap();
    until("gone: the kind", || async { kinds.get_opt(name).await.unwrap().is_none() }).await;
    story.until_true("said", || story.operator.output().contains("can't be listed or watched")).await;
    group_goes_on(&story).await;
    for definition in landfall::api::crds::all() {
        let object = serde_json::to_value(&definition).unwrap();
        if object["metadata"]["name"] == name {
            let definition: CustomResourceDefinition = serde_json::from_value(object).unwrap();
            kinds.create(&PostParams::default(), &definition).await.unwrap();
        }
    }
    let served = || async { everywhere.list_metadata(&ListParams::default()).await.is_ok() };
    until("served: the kind", served).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    story.deploy("v2").await;
    story.deployed("v2").await;
    assert!(story.operator.is_running());
    story.is_silent().await;
}

/// The whole status with fields that are unknown here, as the same manager of fields, which a later version is.
async fn written_by_a_later_version(story: &Story) {
    let write = || async {
        let mut object = raw(story).await;
        object["status"]["future"] = json!("status");
        object["status"]["rollout"]["promoted"] = json!(true);
        object["status"]["rollout"]["intent"]["canaryHosts"] = json!(["web-01"]);
        let metadata = json!({ "name": "shop", "resourceVersion": object["metadata"]["resourceVersion"] });
        let apply = json!({
            "apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": metadata, "status": object["status"],
        });
        let ours = PatchParams::apply(FIELD_MANAGER).force();
        match story.space.api::<Deployment>().patch_status("shop", &ours, &Patch::Apply(apply)).await {
            Err(kube::Error::Api(status)) if status.code == 409 => false,
            written => written.map(|_| true).unwrap(),
        }
    };
    until("written by a later version", write).await;
}

/// With what our types don't know of.
async fn raw(story: &Story) -> Value {
    let path = format!("/apis/landfall.dev/v1alpha1/namespaces/{}/deployments/shop", story.space.name);
    let request = hyper::http::Request::get(path).body(Vec::new()).unwrap();
    story.space.client.request(request).await.unwrap()
}

/// F12
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_deleted_in_the_middle_of_a_rollout_goes_and_the_operator_lets_go() {
    let (dev, _turn) = own().await;
    let story = Story::on(&dev.kubeconfig, "ending", |_| {
        crate::support::plane::Operator::of(&[]).kubeconfig(&operator_of(&dev.kubeconfig))
    })
    .await;
    story.first().await;
    story.ask_for_second().await;
    story.half_deployed("v2").await;
    let namespaces: Api<Namespace> = Api::all(dev.client().await);
    namespaces.delete(&story.space.name, &DeleteParams::default()).await.unwrap();
    let look = || async {
        match namespaces.get_opt(&story.space.name).await.unwrap() {
            None => Ok(()),
            Some(namespace) => Err(namespace.status),
        }
    };
    find("gone", look, |status| format!("{status:#?}\n{}", story.operator.output())).await;
    // Retain: what runs is left running, and nothing more is started.
    for host in story.hosts.all() {
        assert_eq!(processes(host).await, "1");
        let starts = host.sh("cat /srv/starts").await;
        assert!(starts == "v1\n" || starts == "v1\nv2\n", "{starts}");
    }
    assert!(story.operator.is_running());
}

fn operator_of(admin: &Path) -> PathBuf {
    admin.with_file_name("operator.kubeconfig")
}
