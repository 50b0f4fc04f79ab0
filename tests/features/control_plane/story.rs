//! The story that every fault of the control plane is thrown into: build, tag, deploy to two hosts, next version. And its right end, as
//! told by everybody but the operator: the scripts' own output, the repository's tags, the programs' own records of their starts, the
//! hosts' journals, the objects; and then silence.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::{NamespaceResourceScope, api::core::v1::Secret, api::events::v1::Event};
use kube::{
    Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use landfall::api::{Build, Deployment, HostGroup, Project};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    hosts::{Host, Hosts},
    names,
    plane::{self, Operator, OperatorPlan, TestNamespace},
    proxy::Proxy,
    repository::git,
    wait::{PATIENCE, find, until},
};

/// How long nothing may be written when all is over.
const QUIET: Duration = Duration::from_secs(5);
/// How many times that may be until all is over.
const SETTLING: usize = 6;

/// It records each of its starts, and answers with its version.
const PROGRAM: &str = "#!/bin/sh
echo $LANDFALL_VERSION >>/srv/starts
mkdir -p /srv/www
echo $LANDFALL_VERSION >/srv/www/version
exec busybox httpd -f -p 8080 -h /srv/www
";

/// A kind that the story creates.
pub trait Object:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + std::fmt::Debug
    + DeserializeOwned
    + Serialize
    + Send
    + 'static
{
}

impl<K> Object for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Serialize
        + Send
        + 'static
{
}

pub struct Story {
    pub space: TestNamespace,
    pub hosts: Hosts,
    pub operator: Operator,
    pub proxy: Proxy,
    folder: tempfile::TempDir,
    name: &'static str,
    begun: Instant,
}

impl Story {
    /// On the control plane that all tests share.
    pub async fn new(name: &'static str) -> Self {
        Self::on(&plane::kubeconfig().await, name, |plan| plan).await
    }

    /// On the control plane of this administrator, with an operator started in this way. With nothing in `namespaces` it sees all.
    pub async fn on(admin: &Path, name: &'static str, change: impl FnOnce(OperatorPlan) -> OperatorPlan) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let client = plane::client_of(admin).await;
        let (space, hosts) = tokio::join!(plane::namespace_on(client, name), Hosts::up(2));
        let proxy = Proxy::before(&admin.with_file_name("operator.kubeconfig")).await;
        git(folder.path(), &["init", "-q", "--bare", "-b", "main", "origin.git"]);
        git(folder.path(), &["init", "-q", "-b", "main", "work"]);
        git(&folder.path().join("work"), &["remote", "add", "origin", "../origin.git"]);
        let plan = Operator::of(&[&space.name]).kubeconfig(&proxy.kubeconfig);
        let operator = change(plan).start().await;
        Self { space, hosts, operator, proxy, folder, name, begun: Instant::now() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// In the middle of the rollout of this version: one of the hosts has it.
    pub async fn half_deployed(&self, version: &str) {
        self.until::<Deployment>("shop", &format!("had {version} on one host"), |object| {
            let versions = object["status"]["versions"].as_array().cloned().unwrap_or_default();
            object["status"]["rollout"]["version"] == version
                && versions.iter().any(|entry| entry["version"] == version && entry["hosts"] == 1)
        })
        .await;
    }

    /// A build's script runs.
    pub async fn building(&self, name: &str) {
        self.until::<Build>(name, "building", |object| {
            object["status"]["attempts"]
                .as_array()
                .is_some_and(|attempts| attempts.iter().any(|attempt| attempt["outcome"].is_null()))
        })
        .await;
        let uid = self.space.api::<Build>().get(name).await.unwrap().uid().unwrap();
        until(&format!("running: the script of {name}"), || async { self.runs_of(&uid) > 0 }).await;
    }

    pub async fn until_true(&self, what: &str, holds: impl Fn() -> bool) {
        let look = || async { if holds() { Ok(()) } else { Err(()) } };
        find(&format!("{}: {what}", self.name), look, |()| self.operator.output()).await;
    }

    /// Asks for the second version, once it is built, and does not wait for it.
    pub async fn ask_for_second(&self) {
        self.commit("two");
        self.build("shop-2").await;
        self.built("shop-2").await;
        self.patch::<Deployment>("shop", json!({ "spec": { "version": "v2" } })).await;
    }

    pub fn commit(&self, text: &str) {
        std::fs::write(self.path("work/app.sh"), format!("{PROGRAM}# {text}\n")).unwrap();
        git(&self.path("work"), &["add", "-A"]);
        git(&self.path("work"), &["commit", "-q", "-m", text]);
        git(&self.path("work"), &["push", "-q", "origin", "HEAD"]);
    }

    /// Creates it, however often the API server has to be asked.
    pub async fn create<K: Object>(&self, object: Value) {
        let object: K = serde_json::from_value(object).unwrap();
        self.insist("create", || async {
            match self.space.api::<K>().create(&PostParams::default(), &object).await {
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                other => other.map(drop),
            }
        })
        .await;
    }

    pub async fn patch<K: Object>(&self, name: &str, patch: Value) {
        self.insist("patch", || async {
            let patch = Patch::Merge(patch.clone());
            self.space.api::<K>().patch(name, &PatchParams::default(), &patch).await.map(drop)
        })
        .await;
    }

    /// The API server may be away at the moment.
    async fn insist<F: Future<Output = kube::Result<()>>>(&self, what: &str, act: impl Fn() -> F) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = act().await {
            let passing = !matches!(&error, kube::Error::Api(status) if (400..500).contains(&status.code));
            assert!(passing && Instant::now() < deadline, "{}: {what}: {error}", self.name);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits for an object.
    pub async fn until<K: Object>(&self, name: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let json = |object: &K| serde_json::to_value(object).unwrap();
        let (api, what) = (self.space.api::<K>(), format!("{what} ({})", self.name));
        json(&self.operator.until(&api, name, &what, |object| fits(&json(object))).await)
    }

    /// The repository, the project and the hosts.
    pub async fn set_up(&self) {
        self.commit("one");
        self.project().await;
        self.group().await;
    }

    pub async fn project(&self) {
        let url = format!("file://{}", self.path("origin.git").display());
        self.create::<Project>(json!({
            "metadata": { "name": "shop" },
            "spec": {
                "source": { "url": url, "interval": "1h" },
                "build": {
                    "script": "echo ran; sleep 1; cp app.sh app; chmod +x app",
                    "artifacts": [{ "path": "app" }], "tag": { "template": "v{number}" },
                },
                "run": {
                    "process": { "command": ["./app"] }, "terminationGracePeriodSeconds": 3,
                    "readinessProbe": { "httpGet": { "port": 8080, "path": "/version" } }, "healthyDeadlineSeconds": 300,
                },
            },
        }))
        .await;
    }

    pub async fn group(&self) {
        for mut object in self.hosts.group(&self.space.name, "prod") {
            if object["kind"] == "Secret" {
                self.create::<Secret>(object).await;
            } else {
                object["spec"]["probe"] = json!({ "periodSeconds": 1 });
                self.create::<HostGroup>(object).await;
            }
        }
    }

    pub async fn build(&self, name: &str) {
        let spec = json!({ "projectRef": { "name": "shop" }, "revision": "main" });
        self.create::<Build>(json!({ "metadata": { "name": name }, "spec": spec })).await;
    }

    pub async fn built(&self, name: &str) {
        self.until::<Build>(name, "ready", ready).await;
    }

    pub async fn deploy(&self, version: &str) {
        self.create::<Deployment>(json!({
            "metadata": { "name": "shop" },
            "spec": {
                "projectRef": { "name": "shop" }, "hostGroupRef": { "name": "prod" }, "version": version,
                "minReadySeconds": 1,
            },
        }))
        .await;
    }

    pub async fn deployed(&self, version: &str) {
        self.until::<Deployment>("shop", &format!("deployed {version}"), |object| {
            ready(object) && object["status"]["version"] == version
        })
        .await;
    }

    /// The first version, to its end.
    pub async fn first(&self) {
        self.set_up().await;
        self.build("shop-1").await;
        self.built("shop-1").await;
        self.deploy("v1").await;
        self.deployed("v1").await;
    }

    /// The second one.
    pub async fn second(&self) {
        self.ask_for_second().await;
        let (before, then) = (self.proxy.calls().len(), Instant::now());
        self.deployed("v2").await;
        let (calls, writes) = (self.proxy.calls().len() - before, self.proxy.writes_since(then).len());
        println!("{}: the rollout to two hosts took {calls} requests, {writes} of them writes", self.name);
    }

    /// The right end, and silence.
    pub async fn is_right(&self) {
        self.ledgers_are_right().await;
        self.is_silent().await;
        let calls = self.proxy.calls();
        let writes = calls.iter().filter(|call| call.is_write() && !call.is_lease()).count();
        let seconds = self.begun.elapsed().as_secs_f32();
        println!("{}: right after {seconds:.0} s; {} requests, {writes} of them writes", self.name, calls.len());
    }

    pub async fn ledgers_are_right(&self) {
        let name = self.name;
        for build in ["shop-1", "shop-2"] {
            assert_eq!(self.script_runs(build).await, 1, "{name}: runs of {build}'s script");
        }
        let tags = git(&self.path("origin.git"), &["tag", "--list"]);
        assert_eq!(tags.lines().collect::<Vec<_>>(), ["v1", "v2"], "{name}: tags");
        let store = self.operator.data.join("store");
        assert_eq!(
            names(&store.join("versions").join(&self.space.name).join("shop")),
            ["v1", "v2"],
            "{name}: versions"
        );
        for host in self.hosts.all() {
            assert_eq!(host.sh("cat /srv/starts").await, "v1\nv2\n", "{name}: starts on {}", host.name);
            let answer = host.sh("busybox wget -q -O - http://127.0.0.1:8080/version").await;
            assert_eq!(answer, "v2\n", "{name}: {} answers", host.name);
            assert_eq!(processes(host).await, "1", "{name}: processes on {}", host.name);
            let journal = host.sh("cat /srv/landfall/*/.landfall/journal").await;
            assert_eq!(updates(&journal), 2, "{name}: updates on {}: {journal}", host.name);
        }
        let object = self.space.api::<Deployment>().get("shop").await.unwrap();
        let status = serde_json::to_value(object).unwrap()["status"].clone();
        assert_eq!(status["versions"], json!([{ "version": "v2", "hosts": 2 }]), "{name}: {status:#}");
        assert_eq!((&status["hosts"]["ready"], &status["hosts"]["failed"]), (&json!(2), &json!(0)), "{name}");
    }

    /// How often a build's script said that it ran, over all attempts.
    pub async fn script_runs(&self, build: &str) -> usize {
        let uid = self.space.api::<Build>().get(build).await.unwrap().uid().unwrap();
        self.runs_of(&uid)
    }

    pub fn runs_of(&self, uid: &str) -> usize {
        let attempts = self.operator.data.join("executor").join(uid);
        let logs = names(&attempts).into_iter().map(|attempt| attempts.join(attempt).join("log"));
        logs.map(|log| std::fs::read_to_string(log).unwrap_or_default().matches("ran").count()).sum()
    }

    /// Nobody writes anything for some seconds, not even what changes nothing. The last that is to be said may take its time.
    pub async fn is_silent(&self) {
        tokio::time::sleep(Duration::from_secs(2)).await;
        for nth in 1..=SETTLING {
            let (then, before) = (Instant::now(), self.revisions().await);
            tokio::time::sleep(QUIET).await;
            let (writes, after) = (self.proxy.writes_since(then), self.revisions().await);
            if writes.is_empty() && after == before {
                return;
            }
            println!("{}: written in the {nth}. time of silence: {writes:?}", self.name);
            assert!(nth < SETTLING, "{}: {after:#?} was {before:#?}: {writes:#?}", self.name);
        }
    }

    /// The resource version of every object of ours, and of the events about them.
    async fn revisions(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        self.revisions_of::<Project>(&mut all).await;
        self.revisions_of::<Build>(&mut all).await;
        self.revisions_of::<HostGroup>(&mut all).await;
        self.revisions_of::<Deployment>(&mut all).await;
        self.revisions_of::<Event>(&mut all).await;
        all
    }

    async fn revisions_of<K: Object>(&self, all: &mut BTreeMap<String, String>) {
        for object in self.space.api::<K>().list_metadata(&ListParams::default()).await.unwrap() {
            let kind = std::any::type_name::<K>().rsplit("::").next().unwrap_or_default();
            all.insert(format!("{kind} {}", object.name_any()), object.resource_version().unwrap_or_default());
        }
    }
}

/// How many of the service's processes there are. One that still answers somebody is not counted twice.
pub async fn processes(host: &Host) -> String {
    let settle = "for i in $(seq 100); do [ \"$(pgrep -c busybox)\" -le 1 ] && break; sleep 0.3; done";
    host.sh(&format!("{settle}; pgrep -c busybox || true")).await.trim().to_owned()
}

/// Updates in a host's journal that ended.
fn updates(journal: &str) -> usize {
    let lines = journal.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["kind"] == "end" && line["what"].as_str().is_some_and(|what| what.starts_with("use ")))
        .count()
}

pub fn ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
        && conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}
