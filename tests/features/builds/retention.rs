//! What retention removes, end to end: a real API server, a real operator process, real builds.

use std::{collections::BTreeMap, path::PathBuf, process::Command, time::Duration};

use crate::support::{
    names,
    plane::{Operator, TestNamespace, namespace},
    repository::Repository,
    rollout::{self, SERVES},
    wait::{find, until},
};
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use landfall::{
    api::{Build, Deployment, Project},
    model::version::VersionRecord,
};
use serde_json::{Value, json};

/// What a script does here: that of a version whose name begins with `bad` fails.
const SCRIPT: &str = "echo said; case $LANDFALL_VERSION in bad*) exit 1;; esac; echo x >app";

struct Bench {
    repository: Repository,
    spaces: Vec<TestNamespace>,
    operator: Operator,
}

impl Bench {
    /// With a Project `shop` in each of these namespaces.
    async fn new(prefixes: &[&str]) -> Self {
        let mut spaces = Vec::new();
        for prefix in prefixes {
            spaces.push(namespace(prefix).await);
        }
        let names: Vec<&str> = spaces.iter().map(|space| space.name.as_str()).collect();
        let operator = Operator::start(&names).await;
        let bench = Self { repository: Repository::new(), spaces, operator };
        for space in &bench.spaces {
            let project: Project = serde_json::from_value(json!({
                "metadata": { "name": "shop" },
                "spec": {
                    "source": { "url": format!("file://{}", bench.repository.origin().display()), "interval": "1h" },
                    "build": { "script": SCRIPT, "artifacts": [{ "path": "app" }], "tag": { "push": false } },
                    "run": { "process": { "command": ["./app"] } },
                },
            }))
            .unwrap();
            space.api().create(&PostParams::default(), &project).await.unwrap();
        }
        bench
    }

    fn space(&self) -> &TestNamespace {
        &self.spaces[0]
    }

    /// A Build of this version that has ended, and whose second of creation no other one has.
    async fn built(&self, space: &TestNamespace, version: &str) -> String {
        self.build(space, &format!("shop-{version}"), version).await;
        let build = self.until::<Build>(space, &format!("shop-{version}"), "ended", ended).await;
        let created: Timestamp = build["metadata"]["creationTimestamp"].as_str().unwrap().parse().unwrap();
        while Timestamp::now().as_second() <= created.as_second() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let expected = if version.starts_with("bad") { "ScriptFailed" } else { "Succeeded" };
        assert_eq!(reason(&build, "Ready"), expected, "{build}");
        build["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    async fn build(&self, space: &TestNamespace, name: &str, version: &str) {
        let build: Build = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": { "projectRef": { "name": "shop" }, "revision": "main", "tag": version },
        }))
        .unwrap();
        space.api().create(&PostParams::default(), &build).await.unwrap();
    }

    /// A Deployment on hosts that are not there (yet).
    async fn deployment(&self, name: &str, version: &str) {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": { "projectRef": { "name": "shop" }, "hostGroupRef": { "name": "none" }, "version": version },
        }))
        .unwrap();
        self.space().api().create(&PostParams::default(), &deployment).await.unwrap();
    }

    async fn keep(&self, space: &TestNamespace, retention: Value) {
        let patch = Patch::Merge(json!({ "spec": { "retention": retention } }));
        space.api::<Project>().patch("shop", &PatchParams::default(), &patch).await.unwrap();
    }

    async fn until<K>(&self, space: &TestNamespace, name: &str, what: &str, wished: impl Fn(&Value) -> bool) -> Value
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + serde::Serialize
            + Send
            + 'static,
    {
        let json = |object: &K| serde_json::to_value(object).unwrap();
        json(&self.operator.until(&space.api::<K>(), name, what, |object| wished(&json(object))).await)
    }

    /// Waits for something that no object tells of.
    async fn eventually<F: Future<Output = bool>>(&self, what: &str, mut wished: impl FnMut() -> F) {
        let look = || {
            let wished = wished();
            async { if wished.await { Ok(()) } else { Err(()) } }
        };
        find(what, look, |()| self.operator.tail()).await;
    }

    fn store(&self, key: &str) -> PathBuf {
        self.operator.data.join("store").join(key)
    }

    fn release(&self, space: &TestNamespace, version: &str) -> PathBuf {
        self.try_release(space, version).unwrap()
    }

    /// Where a version's bytes are; `None` where there is no record of it (any more).
    fn try_release(&self, space: &TestNamespace, version: &str) -> Option<PathBuf> {
        let record = std::fs::read(self.store(&format!("versions/{}/shop/{version}", space.name))).ok()?;
        Some(self.store(&format!("releases/sha256/{}", VersionRecord::from_bytes(&record).unwrap().digest)))
    }

    /// What there is: Builds, versions with bytes, versions on record as removed, builds with records, with logs, with a folder.
    async fn left(&self) -> [Vec<String>; 6] {
        let space = self.space();
        let builds = space.api::<Build>().list(&ListParams::default()).await.unwrap();
        let mut builds: Vec<String> = builds.iter().map(ResourceExt::name_any).collect();
        builds.sort();
        let mut versions = names(&self.store(&format!("versions/{}/shop", space.name)));
        versions.retain(|version| self.try_release(space, version).is_some_and(|release| release.exists()));
        let removed = names(&self.store(&format!("removed/{}/shop", space.name)));
        let uids = [self.store("builds"), self.store("logs"), self.operator.data.join("executor")].map(|at| names(&at));
        let [records, logs, folders] = uids;
        [builds, versions, removed, records, logs, folders]
    }

    /// Three versions and two failed builds, of which one of either stays, and v1, which a Deployment wants.
    async fn many(&self) -> BTreeMap<&'static str, String> {
        let mut uids = BTreeMap::new();
        for version in ["v1", "v2", "v3", "bad1", "bad2"] {
            uids.insert(version, self.built(self.space(), version).await);
        }
        self.deployment("wants", "v1").await;
        uids
    }

    async fn only_what_is_kept(&self, uids: &BTreeMap<&'static str, String>) {
        let strings = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut kept: Vec<String> = ["v1", "v3", "bad2"].iter().map(|version| uids[version].clone()).collect();
        kept.sort();
        let builds = strings(&["shop-bad2", "shop-v1", "shop-v3"]);
        let wished = [builds, strings(&["v1", "v3"]), strings(&["v2"]), kept.clone(), kept.clone(), kept];
        let look = || async {
            let left = self.left().await;
            if left == wished { Ok(()) } else { Err(left) }
        };
        find("there: what is kept", look, |left| format!("{left:#?}\nand not {wished:#?}\n{}", self.operator.tail()))
            .await;
    }

    /// The operator, alive or not, is started to be killed at this point.
    async fn crash(&mut self, point: &str) {
        self.operator.restart_with(|plan| plan.env("LANDFALL_CRASH_AT", point)).await;
        self.eventually(&format!("crashed {point}"), async || !self.operator.is_running()).await;
        self.operator.unset("LANDFALL_CRASH_AT");
    }
}

fn limits() -> Value {
    json!({ "succeededLimit": 1, "failedLimit": 1 })
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn reason<'a>(object: &'a Value, kind: &str) -> &'a str {
    condition(object, kind).map_or("", |condition| condition["reason"].as_str().unwrap())
}

/// Ended, and free to go.
fn ended(build: &Value) -> bool {
    let is = |kind| condition(build, kind).is_some_and(|condition| condition["status"] == "True");
    (is("Ready") || is("Stalled")) && build["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty)
}

#[tokio::test]
async fn old_builds_and_versions_and_logs_go_and_what_a_deployment_needs_stays() {
    let bench = Bench::new(&["retention"]).await;
    let uids = bench.many().await;
    bench.keep(bench.space(), limits()).await;
    bench.only_what_is_kept(&uids).await;
    let shown = |project: &Value| {
        let versions = project["status"]["versions"].as_array().into_iter().flatten();
        versions.map(|version| version["version"].as_str().unwrap().to_owned()).collect::<Vec<_>>() == ["v3", "v1"]
    };
    bench.until::<Project>(bench.space(), "shop", "showing what is left", shown).await;
    let told = async || {
        let events = bench.space().api::<Event>().list(&ListParams::default()).await.unwrap();
        let mut notes = events.iter().filter(|event| event.reason.as_deref() == Some("Collected"));
        notes.any(|event| event.note.as_ref().is_some_and(|note| note.contains("versions: v2;")))
    };
    bench.eventually("an event tells what was removed", told).await;

    // A name is never given to something else.
    bench.build(bench.space(), "again", "v2").await;
    let again = bench.until::<Build>(bench.space(), "again", "ended", ended).await;
    assert_eq!(reason(&again, "Stalled"), "VersionExists");

    // A log of two weeks ago goes, its Build stays.
    let log = bench.store(&format!("logs/{}/1/0", uids["v3"]));
    let folder = bench.operator.data.join("executor").join(&uids["v3"]).join("1");
    assert!(log.exists() && folder.join("log").exists());
    assert!(Command::new("touch").args(["-d", "2 weeks ago"]).arg(&log).status().unwrap().success());
    bench.keep(bench.space(), json!({ "logs": { "maxAge": "7d" } })).await;
    bench.eventually("the old log is gone", async || !log.exists() && !folder.join("log").exists()).await;
    assert!(folder.join("exit").exists() && bench.store(&format!("logs/{}/1/0", uids["v1"])).exists());
    assert!(bench.space().api::<Build>().get_opt("shop-v3").await.unwrap().is_some());
}

#[tokio::test]
async fn a_crash_before_or_after_any_removal_is_made_good_by_the_next_operator() {
    let mut bench = Bench::new(&["retcrash"]).await;
    let uids = bench.many().await;
    bench.operator.kill9().await;
    bench.keep(bench.space(), limits()).await;

    // Of all that it may write first, as the rest of a log.
    let removal = format!("store.create removed/{}/shop/v2 #1", bench.space().name);
    bench.crash(&format!("before {removal}")).await;
    bench.crash(&format!("after {removal}")).await;
    assert_eq!(bench.left().await[2], ["v2"]);
    // Who asks for it now gets it, for its bytes are there.
    bench.deployment("late", "v2").await;
    bench.crash("before store.remove *#1").await;
    bench.operator.restart().await;
    bench.eventually("v2 is a version again", async || bench.left().await[2].is_empty()).await;
    let waits = |late: &Value| reason(late, "Ready") == "HostGroupNotFound";
    bench.until::<Deployment>(bench.space(), "late", "waiting for hosts alone", waits).await;
    bench.operator.kill9().await;
    bench.space().api::<Deployment>().delete("late", &DeleteParams::default()).await.unwrap();

    let points = [
        "after store.create *#1",
        "before store.remove *#1",
        "after store.remove *#1",
        "before build.delete *#1",
        "after build.delete *#1",
        "before workspace.delete *#1",
        "after workspace.delete *#1",
        "before store.remove *#1",
        "after store.remove *#1",
        "before store.remove *#1",
        "after store.remove *#1",
    ];
    for point in points {
        bench.crash(point).await;
        let [_, versions, ..] = bench.left().await;
        assert!(versions.contains(&"v1".to_owned()) && versions.contains(&"v3".to_owned()), "{point}: {versions:?}");
    }
    bench.operator.restart().await;
    bench.only_what_is_kept(&uids).await;

    let log = bench.store(&format!("logs/{}/1/0", uids["v3"]));
    assert!(Command::new("touch").args(["-d", "2 weeks ago"]).arg(&log).status().unwrap().success());
    bench.operator.kill9().await;
    bench.keep(bench.space(), json!({ "logs": { "maxAge": "7d" } })).await;
    bench.crash("before log.remove *#1").await;
    bench.crash("after log.remove *#1").await;
    bench.crash("before store.remove *#1").await;
    bench.operator.restart().await;
    bench.eventually("the old log is gone", async || !log.exists()).await;

    // What a killed writer left, an hour ago and more.
    let (half, young) = (bench.store("numbers/half#1"), bench.store("numbers/half#2"));
    for file in [&half, &young] {
        std::fs::write(file, "").unwrap();
    }
    assert!(Command::new("touch").args(["-d", "2 hours ago"]).arg(&half).status().unwrap().success());
    bench.crash("before store.sweep *#1").await;
    assert!(half.exists());
    bench.crash("after store.sweep *#1").await;
    assert!(!half.exists() && young.exists());
    bench.operator.restart().await;
    bench.only_what_is_kept(&uids).await;
}

#[tokio::test]
async fn a_removed_version_is_deployed_no_more_and_a_host_keeps_as_many_releases_as_said() {
    let bench = rollout::Bench::new(1).await;
    let keep =
        async |retention: Value| bench.patch::<Project>("shop", json!({ "spec": { "retention": retention } })).await;
    keep(json!({ "releasesPerHost": 2 })).await;
    for version in ["r1", "r2", "r3", "r4"] {
        bench.publish(version, SERVES);
    }
    bench.deploy("r1", json!({ "revisionHistoryLimit": 2 })).await;
    for version in ["r1", "r2", "r3"] {
        bench.edit(json!({ "version": version })).await;
        bench.until_deployed(version).await;
    }
    let releases = format!("ls {}/releases | cut -d - -f 1", bench.folder());
    until("pruned to two releases: the host", async || bench.hosts.host(0).sh(&releases).await == "r2\nr3\n").await;

    // r4 is the newest, r3 runs, r2 is in the history.
    keep(json!({ "succeededLimit": 1 })).await;
    let store = bench.operator.data.join("store");
    until("left with three releases: the store", async || names(&store.join("releases/sha256")).len() == 3).await;
    assert_eq!(names(&store.join(format!("removed/{}/shop", bench.space.name))), ["r1"]);
    bench.edit(json!({ "version": "r1" })).await;
    bench.until("told so", |object| rollout::is(object, "Stalled", "VersionRemoved")).await;
    assert_eq!(bench.version_on(0).await, "r3", "no host is touched");
    bench.edit(json!({ "version": "r2" })).await;
    bench.until_deployed("r2").await;
}

#[tokio::test]
async fn bytes_that_two_namespaces_share_go_with_the_last_of_their_versions() {
    let bench = Bench::new(&["sharing", "sharing"]).await;
    for space in &bench.spaces {
        for version in ["v1", "v2"] {
            bench.built(space, version).await;
        }
    }
    let [one, other] = &bench.spaces[..] else { panic!("two namespaces") };
    let shared = bench.release(one, "v1");
    assert_eq!(shared, bench.release(other, "v1"), "the same commit, built under one name, is the same release");
    let tidied = async |space: &TestNamespace| {
        bench.keep(space, limits()).await;
        let removed = bench.store(&format!("removed/{}/shop/v1", space.name));
        let build = async || space.api::<Build>().get_opt("shop-v1").await.unwrap();
        bench.eventually("v1 and its Build are removed", async || removed.exists() && build().await.is_none()).await;
    };
    tidied(one).await;
    assert!(shared.exists(), "another namespace needs it");
    tidied(other).await;
    bench.eventually("nobody needs it any more", async || !shared.exists()).await;
    assert!(bench.release(one, "v2").exists());
}
