//! The crash harness: the story "build, tag, deploy to three hosts, next version", once to list its effects, and then again and again with
//! the operator killed (-9) just before or just after one of them and started again. However it went, the end is the same, and the ledgers
//! that the operator can't touch say that nothing happened twice: the scripts' own output, the repository's tags, the programs' own
//! records of their starts, the hosts' journals.
//!
//! `LANDFALL_CRASH_SECONDS` is the time for this (default 300). Every name of an effect comes first, before and after; what the time does
//! not suffice for is counted and said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use landfall::api::{Build, Deployment, HostGroup, Project};
use serde_json::{Value, json};
use support::{
    hosts::Hosts,
    plane::{Operator, TestNamespace, namespace},
};
use tokio::time::Instant;

/// Of a story's step, on a machine that runs some of them at once.
const PATIENCE: Duration = Duration::from_secs(90);
/// Stories at once.
const LANES: usize = 4;

/// It records each of its starts, and answers with its version.
const PROGRAM: &str = "#!/bin/sh
echo $LANDFALL_VERSION >>/srv/starts
mkdir -p /srv/www
echo $LANDFALL_VERSION >/srv/www/version
exec busybox httpd -f -p 8080 -h /srv/www
";

/// What there is when all is over, as told by everybody but the operator. Two runs with equal ends did the same.
#[derive(Debug, PartialEq, Eq)]
struct End {
    /// What the scripts of both builds said over all of their attempts.
    scripts: Vec<String>,
    tags: Vec<String>,
    versions: Vec<String>,
    releases: usize,
    /// By host: the programs' starts, what answers, processes, and the acts in the journal (`<end|fail> <verb>` → times).
    hosts: Vec<(String, String, usize, BTreeMap<String, usize>)>,
    /// Versions, updated and ready hosts, and the versions of the history.
    status: Value,
}

struct Run {
    end: End,
    /// The names of the effects in their order, of the operator's first life.
    effects: Vec<String>,
    crashed: bool,
}

struct Story {
    folder: tempfile::TempDir,
    space: TestNamespace,
    hosts: Hosts,
    operator: Operator,
    /// Where it shall crash, and whether it has.
    crash: Option<String>,
    crashed: bool,
}

impl Story {
    async fn new(crash: Option<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (space, hosts) = tokio::join!(namespace("crash"), Hosts::up(3));
        let ledger = folder.path().join("ledger").display().to_string();
        let mut plan = Operator::of(&[&space.name]).env("LANDFALL_EFFECTS_LEDGER", ledger);
        if let Some(crash) = &crash {
            plan = plan.env("LANDFALL_CRASH_AT", crash);
        }
        git(folder.path(), &["init", "-q", "--bare", "-b", "main", "origin.git"]);
        git(folder.path(), &["init", "-q", "-b", "main", "work"]);
        git(&folder.path().join("work"), &["remote", "add", "origin", "../origin.git"]);
        let operator = plan.start().await;
        Self { folder, space, hosts, operator, crash, crashed: false }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn commit(&self, text: &str) {
        std::fs::write(self.path("work/app.sh"), format!("{PROGRAM}# {text}\n")).unwrap();
        git(&self.path("work"), &["add", "-A"]);
        git(&self.path("work"), &["commit", "-q", "-m", text]);
        git(&self.path("work"), &["push", "-q", "origin", "HEAD"]);
    }

    async fn create<K>(&self, object: Value)
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + serde::Serialize,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.space.api::<K>().create(&PostParams::default(), &object).await.unwrap();
    }

    /// Waits for an object, and plays `landfall dev` meanwhile: an operator that ended where it should is started again.
    async fn until<K>(&mut self, name: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + serde::Serialize,
    {
        let deadline = Instant::now() + PATIENCE;
        let mut last = Value::Null;
        while Instant::now() < deadline {
            self.revive().await;
            if let Some(object) = self.space.api::<K>().get_opt(name).await.unwrap() {
                last = serde_json::to_value(object).unwrap();
                if fits(&last) {
                    return last;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let output = self.operator.output();
        let tail: Vec<&str> = output.lines().rev().take(15).collect();
        panic!("crash {:?}: {name} never {what}: {:#}\n{}", self.crash, last["status"], tail.join("\n"));
    }

    async fn revive(&mut self) {
        if !self.operator.is_running() {
            assert!(self.crash.is_some() && !self.crashed, "{:?}: the operator ended by itself", self.crash);
            self.crashed = true;
            self.operator.unset("LANDFALL_CRASH_AT");
            self.operator.restart().await;
        }
    }

    async fn build(&mut self, name: &str) {
        let spec = json!({ "projectRef": { "name": "shop" }, "revision": "main" });
        self.create::<Build>(json!({ "metadata": { "name": name }, "spec": spec })).await;
        self.until::<Build>(name, "ready", ready).await;
    }

    async fn deployed(&mut self, version: &str) {
        self.until::<Deployment>("shop", &format!("deployed {version}"), |object| {
            ready(object) && object["status"]["version"] == version
        })
        .await;
    }

    async fn play(&mut self) {
        self.commit("one");
        let url = format!("file://{}", self.path("origin.git").display());
        self.create::<Project>(json!({
            "metadata": { "name": "shop" },
            "spec": {
                "source": { "url": url, "interval": "1h" },
                "build": {
                    "script": "echo ran; cp app.sh app; chmod +x app",
                    "artifacts": [{ "path": "app" }], "tag": { "template": "v{number}" },
                },
                "run": {
                    "process": { "command": ["./app"] }, "terminationGracePeriodSeconds": 3,
                    "readinessProbe": { "httpGet": { "port": 8080, "path": "/version" } }, "healthyDeadlineSeconds": 30,
                },
            },
        }))
        .await;
        for mut object in self.hosts.group(&self.space.name, "prod") {
            if object["kind"] == "Secret" {
                self.create::<Secret>(object).await;
            } else {
                object["spec"]["probe"] = json!({ "periodSeconds": 1 });
                self.create::<HostGroup>(object).await;
            }
        }
        self.build("shop-1").await;
        self.create::<Deployment>(json!({
            "metadata": { "name": "shop" },
            "spec": {
                "projectRef": { "name": "shop" }, "hostGroupRef": { "name": "prod" }, "version": "v1",
                "strategy": { "rollingUpdate": { "maxUnavailable": 2 } },
            },
        }))
        .await;
        self.deployed("v1").await;
        self.commit("two");
        self.build("shop-2").await;
        let patch = Patch::Merge(json!({ "spec": { "version": "v2" } }));
        self.space.api::<Deployment>().patch("shop", &PatchParams::default(), &patch).await.unwrap();
        self.deployed("v2").await;
        // What comes after the end, should anything come, comes now.
        for _ in 0..15 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.revive().await;
        }
        self.deployed("v2").await;
    }

    async fn end(&mut self) -> End {
        let store = self.operator.data.join("store");
        let mut scripts = Vec::new();
        for name in ["shop-1", "shop-2"] {
            let uid = self.space.api::<Build>().get(name).await.unwrap().uid().unwrap();
            let attempts = self.operator.data.join("executor").join(uid);
            scripts.extend(names(&attempts).iter().map(|attempt| {
                let log = std::fs::read_to_string(attempts.join(attempt).join("log")).unwrap_or_default();
                format!("{name}, attempt {attempt}: {log}")
            }));
        }
        let mut hosts = Vec::new();
        for host in self.hosts.all() {
            let starts = host.sh("cat /srv/starts").await;
            let answer = host.sh("busybox wget -q -O - http://127.0.0.1:8080/version").await;
            let running = host.sh("pgrep -c busybox || true").await.trim().parse().unwrap();
            let journal = host.sh("cat /srv/landfall/*/.landfall/journal").await;
            let mut acts = BTreeMap::new();
            for line in journal.lines() {
                let words: Vec<&str> = line.split(' ').skip(1).take(2).collect();
                if words[0] != "begin" {
                    *acts.entry(words.join(" ")).or_insert(0) += 1;
                }
            }
            hosts.push((starts, answer, running, acts));
        }
        let object = self.space.api::<Deployment>().get("shop").await.unwrap();
        let status = serde_json::to_value(object).unwrap()["status"].clone();
        let history: Vec<Value> =
            status["history"].as_array().unwrap().iter().map(|entry| entry["version"].clone()).collect();
        End {
            scripts,
            tags: git(&self.path("origin.git"), &["tag", "--list"]).lines().map(str::to_owned).collect(),
            versions: names(&store.join("versions").join(&self.space.name).join("shop")),
            releases: names(&store.join("releases/sha256")).len(),
            hosts,
            status: json!({ "versions": status["versions"], "hosts": status["hosts"], "history": history }),
        }
    }
}

async fn run(crash: Option<String>) -> Run {
    let mut story = Story::new(crash).await;
    story.play().await;
    let end = story.end().await;
    let ledger = std::fs::read_to_string(story.path("ledger")).unwrap();
    let effects = ledger.lines().filter_map(|line| line.strip_prefix("before ")?.split(' ').next()).map(str::to_owned);
    let run = Run { end, effects: effects.collect(), crashed: story.crashed };
    let Story { space, operator, .. } = story;
    drop(operator);
    drop(space);
    run
}

fn ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
        && conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.com"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// All points, in rounds: every name's middle effect, then its first and last, then the others. Before and after each.
fn points(effects: &[String]) -> VecDeque<String> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for effect in effects {
        *counts.entry(effect).or_default() += 1;
    }
    let order = |count: usize| {
        let mut order = vec![count.div_ceil(2), 1, count];
        order.extend(2..count);
        let mut seen = BTreeSet::new();
        order.retain(|nth| seen.insert(*nth));
        order
    };
    let orders: Vec<(&str, Vec<usize>)> = counts.into_iter().map(|(name, count)| (name, order(count))).collect();
    let rounds = orders.iter().map(|(_, order)| order.len()).max().unwrap_or_default();
    let mut points = VecDeque::new();
    for round in 0..rounds {
        for (name, order) in &orders {
            if let Some(nth) = order.get(round) {
                points.extend(["before", "after"].map(|when| format!("{when} {name} *#{nth}")));
            }
        }
    }
    points
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_or_after_any_effect_from_commit_to_three_hosts_loses_nothing_and_does_nothing_twice() {
    let seconds = std::env::var("LANDFALL_CRASH_SECONDS").map_or(300, |text| text.parse().unwrap());
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let calm = run(None).await;
    println!("{:#?}", calm.end);
    let starts: Vec<&str> = calm.end.hosts.iter().map(|host| host.0.as_str()).collect();
    assert_eq!(starts, ["v1\nv2\n"; 3]);
    assert_eq!((&*calm.end.tags, calm.end.scripts.len()), (&["v1".to_owned(), "v2".to_owned()][..], 2));

    let all = points(&calm.effects);
    let every: BTreeSet<String> = all.iter().map(|point| point.split(" *").next().unwrap().to_owned()).collect();
    let listed = all.len();
    let calm = Arc::new(calm);
    let left = Arc::new(Mutex::new(all));
    let lanes: Vec<_> = (0..LANES)
        .map(|_| {
            let (left, calm, must) = (left.clone(), calm.clone(), every.len());
            tokio::spawn(async move {
                let mut done = Vec::new();
                loop {
                    let next = {
                        let mut left = left.lock().unwrap();
                        // The first round, every name before and after, is not given up for the clock.
                        let first_round = left.len() + must > listed;
                        if first_round || Instant::now() < deadline { left.pop_front() } else { None }
                    };
                    let Some(point) = next else { return done };
                    let run = run(Some(point.clone())).await;
                    assert_eq!(run.end, calm.end, "crash {point}");
                    println!("crash {point}: {}", if run.crashed { "same end" } else { "not reached in this run" });
                    done.push((point, run.crashed));
                }
            })
        })
        .collect();
    let mut done = Vec::new();
    let mut wrong = Vec::new();
    for lane in lanes {
        match lane.await {
            Ok(points) => done.extend(points),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    let crashed = done.iter().filter(|(_, crashed)| *crashed).count();
    let unreached = done.len() - crashed;
    let unrun = left.lock().unwrap().len();
    println!(
        "crashes: {} effects, {listed} points listed, {crashed} crashed, {unreached} not reached, {unrun} not run for time",
        listed / 2
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    let reached: BTreeSet<String> = done
        .iter()
        .filter(|(_, crashed)| *crashed)
        .map(|(point, _)| point.split(" *").next().unwrap().to_owned())
        .collect();
    assert_eq!(reached, every, "every effect by name, before and after");
}
