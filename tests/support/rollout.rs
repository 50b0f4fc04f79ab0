//! What a test of rollouts stands on: a namespace, real hosts in a HostGroup, an operator, and versions published straight into its
//! store, without a build. The service is busybox' httpd with a page that says the version.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use futures::StreamExt;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use landfall::{
    api::{Deployment, HostGroup, Project},
    model::version::VersionRecord,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_util::task::AbortOnDropHandle;

use super::{
    hosts::Hosts,
    plane::{self, Operator, OperatorPlan, TestNamespace},
    wait::{find, until},
};

/// What a version's program does.
pub const SERVES: &str = "exec busybox httpd -f -p 8080 -h www\n";
/// Comes before it where it is to wait: until `/srv/go` is there.
pub const WAITS: &str = "while ! [ -e /srv/go ]; do sleep 0.2; done\n";

pub struct Bench {
    pub space: TestNamespace,
    pub hosts: Arc<Hosts>,
    pub operator: Operator,
}

/// What a Deployment went through.
pub struct Recorded {
    states: Arc<Mutex<Vec<Deployment>>>,
    _task: AbortOnDropHandle<()>,
}

impl Recorded {
    pub fn states(&self) -> Vec<Deployment> {
        self.states.lock().expect("a lock").clone()
    }
}

impl Bench {
    /// `n` hosts in HostGroup `prod`, looked at every second, and Project `shop`.
    pub async fn new(n: usize) -> Self {
        Self::with(n, |plan| plan).await
    }

    pub async fn with(n: usize, change: impl FnOnce(OperatorPlan) -> OperatorPlan) -> Self {
        Self::on(n, &[], change).await
    }

    /// On hosts with options of `hosts.sh`.
    pub async fn on(n: usize, options: &[&str], change: impl FnOnce(OperatorPlan) -> OperatorPlan) -> Self {
        let (space, hosts) = tokio::join!(plane::namespace("rollout"), Hosts::up_with(n, options));
        let operator = change(Operator::of(&[&space.name])).start().await;
        Self::of(space, Arc::new(hosts), operator).await
    }

    /// Of what is there already.
    pub async fn of(space: TestNamespace, hosts: Arc<Hosts>, operator: Operator) -> Self {
        let bench = Self { space, hosts, operator };
        bench.project("shop").await;
        bench.group("prod").await;
        bench
    }

    /// The same with options of `hosts.sh`.
    pub async fn with_hosts(n: usize, options: &[&str]) -> Self {
        Self::on(n, options, |plan| plan).await
    }

    pub async fn project(&self, name: &str) {
        let project = json!({
            "apiVersion": "landfall.dev/v1alpha1", "kind": "Project", "metadata": { "name": name },
            "spec": {
                "source": { "url": "https://git.invalid/shop.git" },
                "build": { "script": "true", "artifacts": [{ "path": "app" }] },
                "run": { "process": { "command": ["./app"] } },
            },
        });
        self.create::<Project>(project).await;
    }

    /// A HostGroup with every host, and its Secrets.
    pub async fn group(&self, name: &str) {
        for mut object in self.hosts.group(&self.space.name, name) {
            if object["kind"] == "HostGroup" {
                object["spec"]["probe"] = json!({ "periodSeconds": 1 });
                self.create::<HostGroup>(object).await;
            } else {
                self.create::<k8s_openapi::api::core::v1::Secret>(object).await;
            }
        }
    }

    pub async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + serde::Serialize,
    {
        let object: K = serde_json::from_value(object).expect("an object of this kind");
        self.space.api::<K>().create(&PostParams::default(), &object).await.expect("created")
    }

    /// Publishes a version whose program is this shell script.
    pub fn publish(&self, version: &str, script: &str) {
        self.publish_with(version, script, json!({ "httpGet": { "port": 8080, "path": "/version" } }), json!({}));
    }

    /// The same with a probe and more of `run`.
    pub fn publish_with(&self, version: &str, script: &str, probe: Value, more: Value) {
        publish(&self.operator.data, &self.space.name, version, script, probe, more);
    }

    /// The same with files beside its program.
    pub fn publish_files(&self, version: &str, script: &str, files: &[(&str, &[u8])]) {
        let probe = json!({ "httpGet": { "port": 8080, "path": "/version" } });
        put(&self.operator.data, &self.space.name, version, &tar(version, script, files), probe, json!({}));
    }

    /// One whose program waits until it may go, and has the time for it.
    pub fn publish_waiting(&self, version: &str) {
        let probe = json!({ "httpGet": { "port": 8080, "path": "/version" } });
        self.publish_with(version, &format!("{WAITS}{SERVES}"), probe, json!({ "healthyDeadlineSeconds": 600 }));
    }

    /// What `landfall status deployment/shop` shows.
    pub async fn screen(&self) -> String {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_landfall"))
            .args(["status", "-n", &self.space.name, "deployment/shop"])
            .env("KUBECONFIG", plane::kubeconfig().await)
            .output()
            .await
            .expect("landfall status");
        // Ready, failed or in progress; 2 is "no answer".
        assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn deployments(&self) -> Api<Deployment> {
        self.space.api()
    }

    /// Deployment `shop` of Project `shop` on `prod`.
    pub async fn deploy(&self, version: &str, more: Value) -> Deployment {
        self.deploy_as("shop", version, more).await
    }

    pub async fn deploy_as(&self, name: &str, version: &str, more: Value) -> Deployment {
        let mut spec =
            json!({ "projectRef": { "name": "shop" }, "hostGroupRef": { "name": "prod" }, "version": version });
        for (key, value) in more.as_object().expect("a map") {
            spec[key] = value.clone();
        }
        self.create(json!({
            "apiVersion": "landfall.dev/v1alpha1", "kind": "Deployment", "metadata": { "name": name }, "spec": spec,
        }))
        .await
    }

    pub async fn patch<K>(&self, name: &str, patch: Value)
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        self.space.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("patched");
    }

    pub async fn edit(&self, spec: Value) {
        self.patch::<Deployment>("shop", json!({ "spec": spec })).await;
    }

    pub async fn stamp(&self, verb: &str, value: &str) {
        self.patch::<Deployment>("shop", json!({ "metadata": { "annotations": { verb: value } } })).await;
    }

    pub async fn get(&self, name: &str) -> Deployment {
        self.deployments().get(name).await.expect("the Deployment")
    }

    /// Waits until the Deployment is as it should be.
    pub async fn until(&self, what: &str, fits: impl Fn(&Deployment) -> bool) -> Deployment {
        self.until_of("shop", what, fits).await
    }

    pub async fn until_of(&self, name: &str, what: &str, fits: impl Fn(&Deployment) -> bool) -> Deployment {
        self.operator.until(&self.deployments(), name, what, fits).await
    }

    /// Every state of Deployment `shop` from now on.
    pub async fn recorded(&self) -> Recorded {
        let states = Arc::new(Mutex::new(Vec::new()));
        let config = watcher::Config::default().fields("metadata.name=shop");
        let (mut events, kept) = (Box::pin(watcher(self.deployments(), config).default_backoff()), states.clone());
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if let Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) = event {
                    kept.lock().expect("a lock").push(object);
                }
            }
        });
        let recorded = Recorded { states, _task: AbortOnDropHandle::new(task) };
        until("recorded", || async { !recorded.states().is_empty() }).await;
        recorded
    }

    /// The same of a HostGroup.
    pub async fn until_group(&self, name: &str, what: &str, fits: impl Fn(&HostGroup) -> bool) -> HostGroup {
        self.operator.until(&self.space.api(), name, what, fits).await
    }

    /// Ready=True about this generation, with this version everywhere.
    pub async fn until_deployed(&self, version: &str) -> Deployment {
        self.until(&format!("deployed {version}"), |object| {
            is(object, "Ready", "Deployed")
                && object.status.as_ref().is_some_and(|status| status.version.as_deref() == Some(version))
        })
        .await
    }

    pub async fn delete(&self, name: &str) {
        self.deployments().delete(name, &DeleteParams::default()).await.expect("deleted");
        let api = self.deployments();
        let gone = || async {
            match api.get_opt(name).await.expect("an answer") {
                None => Ok(()),
                Some(object) => Err(object.status),
            }
        };
        find(&format!("{name} gone"), gone, |status| format!("{status:#?}\n{}", self.operator.tail())).await;
    }

    /// What the service on a host says its version is; empty where none answers.
    pub async fn version_on(&self, i: usize) -> String {
        let ask = "exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /version HTTP/1.0\\r\\n\\r\\n' >&3; timeout 30 cat <&3 | tail -n 1";
        let script = format!("bash -c \"{ask}\" 2>/dev/null || true");
        self.hosts.host(i).sh(&script).await.trim().to_owned()
    }

    /// The project's folder on every host.
    pub fn folder(&self) -> String {
        format!("/srv/landfall/{}.shop", self.space.name)
    }

    /// Number of established connections from this machine to each host's sshd.
    pub fn connections(&self) -> Vec<usize> {
        self.sockets().iter().map(std::collections::HashSet::len).collect()
    }

    /// The established connections from this machine to each host's sshd: local address and inode of each socket.
    pub fn sockets(&self) -> Vec<std::collections::HashSet<String>> {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("a table");
        let of = |host: &super::hosts::Host| {
            let ip: std::net::Ipv4Addr = host.address.parse().expect("an address");
            let remote = format!("{:08X}:{:04X}", u32::from(ip).swap_bytes(), host.port);
            let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let ours = lines.filter(|words| words.get(2..4) == Some(&[remote.as_str(), "01"]));
            ours.map(|words| format!("{} {}", words[1], words[9])).collect()
        };
        self.hosts.all().iter().map(of).collect()
    }

    /// How often each version was started on a host, as the programs counted themselves.
    pub async fn starts(&self, i: usize) -> Vec<String> {
        let script = format!("cat {}/shared/starts 2>/dev/null || true", self.folder());
        self.hosts.host(i).sh(&script).await.lines().map(ToOwned::to_owned).collect()
    }
}

/// Puts a version of Project `shop` into the store in this data folder, as a build would have.
pub fn publish(data: &Path, namespace: &str, version: &str, script: &str, probe: Value, more: Value) {
    put(data, namespace, version, &tar(version, script, &[]), probe, more);
}

fn put(data: &Path, namespace: &str, version: &str, tar: &[u8], probe: Value, more: Value) {
    let digest: String = Sha256::digest(tar).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut run = json!({
        "process": { "command": ["./app"] }, "readinessProbe": probe, "healthyDeadlineSeconds": 60,
        "terminationGracePeriodSeconds": 3, "env": [{ "name": "COLOUR", "value": "blue" }],
    });
    if run["readinessProbe"].is_null() {
        run.as_object_mut().expect("a map").remove("readinessProbe");
    }
    for (key, value) in more.as_object().expect("a map") {
        run[key] = value.clone();
    }
    let record = VersionRecord {
        format: landfall::model::format::FORMAT,
        parameters: None,
        version: version.into(),
        commit: "c".repeat(40),
        build: "build".into(),
        build_uid: "build-uid".into(),
        digest: digest.clone(),
        size: tar.len() as u64,
        built_at: "2026-11-24T00:00:00Z".parse().expect("a time"),
        run: serde_json::from_value(run).expect("a run"),
    };
    let store = data.join("store");
    let releases = store.join("releases/sha256");
    std::fs::create_dir_all(&releases).expect("a folder");
    std::fs::write(releases.join(digest), tar).expect("a release");
    let versions = store.join("versions").join(namespace).join("shop");
    std::fs::create_dir_all(&versions).expect("a folder");
    std::fs::write(versions.join(version), record.to_bytes().expect("json")).expect("a record");
}

/// Whether a condition has this reason, and speaks of this generation.
pub fn is(object: &Deployment, kind: &str, reason: &str) -> bool {
    let Some(status) = &object.status else { return false };
    let current = Some(status.observed_generation) == object.metadata.generation;
    current && status.conditions.iter().any(|one| one.type_ == kind && one.reason == reason)
}

pub fn message(object: &Deployment) -> String {
    let status = object.status.clone().unwrap_or_default();
    status.conditions.iter().find(|one| one.type_ == "Ready").map(|one| one.message.clone()).unwrap_or_default()
}

pub fn uid(object: &Deployment) -> String {
    object.uid().unwrap_or_default()
}

/// A program that counts its starts and then does what the script says, and the page with its version.
fn tar(version: &str, script: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let program = format!("#!/bin/sh\necho {version} >> ../../shared/starts\nenv > ../../shared/env\n{script}");
    let mut tar = tar::Builder::new(Vec::new());
    let own: [(&str, u32, &[u8]); 3] =
        [("app", 0o755, program.as_bytes()), ("run.json", 0o644, b"{}"), ("www/version", 0o644, version.as_bytes())];
    for (path, mode, bytes) in own.into_iter().chain(files.iter().map(|(path, bytes)| (*path, 0o644, *bytes))) {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        header.set_mtime(0);
        header.set_cksum();
        tar.append_data(&mut header, path, bytes).expect("an entry");
    }
    tar.into_inner().expect("a tar")
}
