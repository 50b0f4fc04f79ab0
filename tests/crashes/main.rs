//! The stories that the crash harness (`support/crash.rs`) plays, with the operator killed before and after every effect. What each is
//! compared by are ledgers that the operator can't touch: the scripts' own output, the repository's tags, the programs' own records of
//! their starts, the hosts' journals.
//!
//! `LANDFALL_CRASH_SECONDS` limits the time: a point before and one after an effect of every name are run whatever it takes, the others
//! in the order of `LANDFALL_SEED` as far as the time suffices; what it does not suffice for is counted and said. Without it every point
//! is run (`make crashes`, `make night`). `LANDFALL_CRASH_ONLY` is a part of a point's name, such as `after host.stop`;
//! `LANDFALL_CRASH_LANES` says how many stories are played at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use landfall::api::{Build, Deployment, HostGroup, Project};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use support::{
    crash::{Run, Stage, Story, Sweep, run},
    hosts::Hosts,
    names,
    repository::git,
    rollout::{SERVES, publish},
};
use tokio::time::Instant;

const STORIES: [Story; 2] = [
    Story { name: "versions", play: |stage| Box::pin(versions(stage)) },
    Story { name: "changing hands", play: |stage| Box::pin(changing_hands(stage)) },
];

/// Stories at once: they wait more than they compute.
const LANES: usize = 6;

/// It records each of its starts, and answers with its version.
const PROGRAM: &str = "#!/bin/sh
echo $LANDFALL_VERSION >>/srv/starts
mkdir -p /srv/www
echo $LANDFALL_VERSION >/srv/www/version
exec busybox httpd -f -p 8080 -h /srv/www
";

// ---- build, tag, deploy to three hosts, next version ------------------------------------------------------------------------------------

async fn versions(stage: &mut Stage) -> Value {
    repository(stage);
    commit(stage, "one");
    project(stage, "echo ran; cp app.sh app; chmod +x app").await;
    group(stage).await;
    build(stage, "shop-1").await;
    deployment(stage, json!({ "version": "v1", "strategy": { "rollingUpdate": { "maxUnavailable": 2 } } })).await;
    deployed(stage, "v1").await;
    commit(stage, "two");
    build(stage, "shop-2").await;
    edit(stage, json!({ "spec": { "version": "v2" } })).await;
    deployed(stage, "v2").await;
    stage.quiet().await;
    let object = deployed(stage, "v2").await;

    let status = &object["status"];
    let history: Vec<&Value> = status["history"].as_array().unwrap().iter().map(|entry| &entry["version"]).collect();
    let store = stage.operator.data.join("store");
    json!({
        "scripts": [script(stage, "shop-1").await, script(stage, "shop-2").await],
        "tags": git(&stage.path("origin.git"), &["tag", "--list"]),
        "versions": names(&store.join("versions").join(&stage.space.name).join("shop")),
        "releases": names(&store.join("releases/sha256")).len(),
        "status": { "versions": status["versions"], "hosts": status["hosts"], "history": history },
        "hosts": [told(stage, 0).await, told(stage, 1).await, told(stage, 2).await],
    })
}

fn deploys_both_versions_once(end: &Value) {
    assert_eq!(end["tags"], "v1\nv2");
    for (nth, script) in end["scripts"].as_array().unwrap().iter().enumerate() {
        assert_eq!(*script, json!(["attempt 1: ran"]), "build {nth}");
    }
    for host in end["hosts"].as_array().unwrap() {
        assert_eq!((&host["starts"], &host["answer"]), (&json!("v1\nv2\n"), &json!("v2\n")));
    }
}

// ---- cancel a build; take hosts over, prune them, let one go by removing and the other by retaining ------------------------------------

/// A host that another control plane acted on, with as many releases as may stay.
const ELSEWHERE: &str = r#"d=/srv/landfall/$NAMESPACE.shop
mkdir -p $d/releases $d/.landfall/steps $d/.landfall/tmp $d/.landfall/verified
echo "plane-elsewhere 1 1" >$d/.landfall/fence
echo "plane-elsewhere $NAMESPACE shop uid-elsewhere web-01" >$d/.landfall/owner
for i in 1 2 3 4 5; do
  mkdir $d/releases/v0.$i-aaaaaaaaaaaa
  echo "$(printf 'a%.0s' $(seq 64)) $(printf 'b%.0s' $(seq 64))" >$d/.landfall/verified/v0.$i-aaaaaaaaaaaa
  touch -d @170000000$i $d/releases/v0.$i-aaaaaaaaaaaa
done"#;

async fn changing_hands(stage: &mut Stage) -> Value {
    let seed = format!("NAMESPACE={}\n{ELSEWHERE}", stage.space.name);
    stage.hosts.host(0).sh(&seed).await;
    let probe = json!({ "httpGet": { "port": 8080, "path": "/version" } });
    let program = format!("echo r1 >>/srv/starts\n{SERVES}");
    publish(&stage.operator.data, &stage.space.name, "r1", &program, probe, json!({}));
    repository(stage);
    commit(stage, "one");
    project(stage, "echo began; sleep 600; echo ended; cp app.sh app").await;
    group(stage).await;

    stage.create::<Build>(json!({ "metadata": { "name": "shop-1" }, "spec": of_shop() })).await;
    stage.until::<Build>("shop-1", "building", |build| reason(build, "Ready") == "Building").await;
    stage.until_so("the script began", |stage| log(stage).contains("began")).await;
    let cancel = Patch::Merge(json!({ "spec": { "cancelled": true } }));
    stage.space.api::<Build>().patch("shop-1", &PatchParams::default(), &cancel).await.unwrap();
    stage.until::<Build>("shop-1", "cancelled", |build| reason(build, "Stalled") == "Cancelled").await;

    let strategy = json!({ "rollingUpdate": { "maxUnavailable": 2 } });
    let both = json!({ "version": "r1", "hosts": { "names": ["web-01", "web-02"] }, "strategy": strategy });
    deployment(stage, both).await;
    let fenced = |object: &Value| reason(object, "Stalled") == "FencedByOtherControlPlane";
    stage.until::<Deployment>("shop", "fenced", fenced).await;
    edit(stage, json!({ "metadata": { "annotations": { "landfall.dev/adopt": "plane-elsewhere" } } })).await;
    deployed(stage, "r1").await;
    // After a crash the host is ready first, and pruned then.
    stage.until_told(0, "ls /srv/landfall/*.shop/releases | wc -l", "5").await;
    let fewer = Patch::Merge(json!({ "spec": { "retention": { "releasesPerHost": 4 } } }));
    stage.space.api::<Project>().patch("shop", &PatchParams::default(), &fewer).await.unwrap();
    edit(stage, json!({ "spec": { "hosts": { "names": ["web-01"] }, "deletionPolicy": "Remove" } })).await;
    deployed(stage, "r1").await;
    // What the host may keep now is looked at with the next decision.
    stage.until_told(0, "ls /srv/landfall/*.shop/releases | wc -l", "4").await;
    // After a crash the others are ready first; the policy that counts is the one of the moment.
    stage.until_told(1, "ls -d /srv/landfall/*.shop 2>/dev/null | wc -l", "0").await;
    edit(stage, json!({ "spec": { "deletionPolicy": "Retain" } })).await;
    deployed(stage, "r1").await;
    stage.space.api::<Deployment>().delete("shop", &DeleteParams::default()).await.unwrap();
    stage.until::<Deployment>("shop", "gone", Value::is_null).await;
    stage.quiet().await;

    let build = stage.until::<Build>("shop-1", "cancelled", |build| reason(build, "Stalled") == "Cancelled").await;
    let outcomes: Vec<&Value> =
        build["status"]["attempts"].as_array().unwrap().iter().map(|attempt| &attempt["outcome"]).collect();
    let script = script(stage, "shop-1").await;
    // Retention removes it, with all that it left.
    let keep = Patch::Merge(json!({ "spec": { "retention": { "failedLimit": 0 } } }));
    stage.space.api::<Project>().patch("shop", &PatchParams::default(), &keep).await.unwrap();
    stage.until::<Build>("shop-1", "deleted", Value::is_null).await;
    let folder = stage.operator.data.join("executor").join(build["metadata"]["uid"].as_str().unwrap());
    stage.until_so("its folder is gone", |_| !folder.exists()).await;
    stage.quiet().await;
    let left = "cd /srv/landfall/*.shop 2>/dev/null && ls -d releases/* .landfall/owner 2>/dev/null || true";
    json!({
        "outcomes": outcomes,
        "script": script,
        "tags": git(&stage.path("origin.git"), &["tag", "--list"]),
        "hosts": [told(stage, 0).await, told(stage, 1).await],
        "left": [stage.hosts.host(0).sh(left).await, stage.hosts.host(1).sh(left).await],
    })
}

fn ends_where_it_was_told_to(end: &Value) {
    assert_eq!((&end["outcomes"], &end["tags"]), (&json!(["Cancelled"]), &json!("")));
    assert_eq!(end["script"], json!(["attempt 1: began"]));
    let [retained, removed] = [&end["hosts"][0], &end["hosts"][1]];
    assert_eq!((&retained["starts"], &retained["answer"]), (&json!("r1\n"), &json!("r1")));
    assert_eq!((&removed["starts"], &removed["answer"]), (&json!("r1\n"), &json!("")));
    let left = end["left"][0].as_str().unwrap();
    assert!(left.lines().count() == 4 && left.contains("releases/r1-"), "{left}");
    assert_eq!(end["left"][1], "");
}

// ---- what both stories are made of ----------------------------------------------------------------------------------------------------

fn of_shop() -> Value {
    json!({ "projectRef": { "name": "shop" }, "revision": "main" })
}

fn repository(stage: &Stage) {
    git(&stage.path(""), &["init", "-q", "--bare", "-b", "main", "origin.git"]);
    git(&stage.path(""), &["init", "-q", "-b", "main", "work"]);
    git(&stage.path("work"), &["remote", "add", "origin", "../origin.git"]);
}

fn commit(stage: &Stage, text: &str) {
    std::fs::write(stage.path("work/app.sh"), format!("{PROGRAM}# {text}\n")).unwrap();
    git(&stage.path("work"), &["add", "-A"]);
    git(&stage.path("work"), &["commit", "-q", "-m", text]);
    git(&stage.path("work"), &["push", "-q", "origin", "HEAD"]);
}

async fn project(stage: &Stage, script: &str) {
    let url = format!("file://{}", stage.path("origin.git").display());
    stage
        .create::<Project>(json!({
            "metadata": { "name": "shop" },
            "spec": {
                "source": { "url": url, "interval": "1h" },
                "build": { "script": script, "artifacts": [{ "path": "app" }], "tag": { "template": "v{number}" } },
                "run": {
                    "process": { "command": ["./app"] }, "terminationGracePeriodSeconds": 3,
                    "readinessProbe": { "httpGet": { "port": 8080, "path": "/version" } }, "healthyDeadlineSeconds": 300,
                },
            },
        }))
        .await;
}

async fn group(stage: &Stage) {
    for object in stage.hosts.group(&stage.space.name, "prod") {
        if object["kind"] == "Secret" {
            stage.create::<Secret>(object).await;
        } else {
            stage.create::<HostGroup>(object).await;
        }
    }
}

async fn build(stage: &mut Stage, name: &str) {
    stage.create::<Build>(json!({ "metadata": { "name": name }, "spec": of_shop() })).await;
    stage.until::<Build>(name, "ready", ready).await;
}

async fn deployment(stage: &Stage, more: Value) {
    let mut spec = json!({ "projectRef": { "name": "shop" }, "hostGroupRef": { "name": "prod" } });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    stage.create::<Deployment>(json!({ "metadata": { "name": "shop" }, "spec": spec })).await;
}

async fn edit(stage: &Stage, patch: Value) {
    stage.space.api::<Deployment>().patch("shop", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

async fn deployed(stage: &mut Stage, version: &str) -> Value {
    let what = format!("deployed {version}");
    stage.until::<Deployment>("shop", &what, |object| ready(object) && object["status"]["version"] == version).await
}

fn ready(object: &Value) -> bool {
    condition(object, "Ready").is_some_and(|ready| ready["status"] == "True")
}

fn reason(object: &Value, kind: &str) -> String {
    condition(object, kind).map_or(String::new(), |found| found["reason"].as_str().unwrap().to_owned())
}

/// One that speaks of this generation.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
    let conditions = object["status"]["conditions"].as_array().filter(|_| current)?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

/// What the script of a build said, by attempt.
async fn script(stage: &Stage, build: &str) -> Vec<String> {
    let uid = stage.space.api::<Build>().get(build).await.unwrap().uid().unwrap();
    let attempts = stage.operator.data.join("executor").join(uid);
    let said = |attempt: &String| {
        let log = std::fs::read_to_string(attempts.join(attempt).join("log")).unwrap_or_default();
        // The sandbox may add a line of its own about being killed.
        let own = log.lines().filter(|line| ["ran", "began", "ended"].contains(line));
        format!("attempt {attempt}: {}", own.collect::<Vec<_>>().join(", "))
    };
    names(&attempts).iter().map(said).collect()
}

/// What the host says: the programs' starts, what answers, processes, and the tasks in the journal (`<outcome> <what>` → times).
async fn told(stage: &Stage, host: usize) -> Value {
    // A process of ours leads a session; httpd forks for what it answers.
    let script = r#"cat /srv/starts; echo ---; busybox wget -q -O - http://127.0.0.1:8080/version 2>/dev/null
        echo ---; for p in $(pgrep -x busybox); do [ "$(cut -d ' ' -f 6 /proc/$p/stat)" = $p ] && echo $p; done | wc -l
        echo ---; cat /srv/landfall/*/.landfall/journal 2>/dev/null || true"#;
    let told = stage.hosts.host(host).sh(script).await;
    let [starts, answer, processes, journal] = told.split("---\n").collect::<Vec<_>>().try_into().unwrap();
    let mut acts = BTreeMap::<String, usize>::new();
    for line in journal.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if line["kind"] == "end" {
            let outcome = line["outcome"].as_str().unwrap_or("failed");
            *acts.entry(format!("{outcome} {}", line["what"].as_str().unwrap_or_default())).or_default() += 1;
        }
    }
    json!({ "starts": starts, "answer": answer, "processes": processes.trim(), "acts": acts })
}

/// The script's log as it lies in the operator's folder; empty where there is none yet.
fn log(stage: &Stage) -> String {
    let folder = stage.operator.data.join("executor");
    let attempts = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|build| build.path().join("1/log"));
    attempts.filter_map(|log| std::fs::read_to_string(log).ok()).collect()
}

// ---- the test -------------------------------------------------------------------------------------------------------------------------

/// The first telling of a story, without a crash.
async fn calm(nth: usize) -> Arc<Run> {
    let hosts = Arc::new(Hosts::up(3).await);
    let mut run = run(STORIES[nth], None, hosts).await;
    // What one telling came to by chance the next ones need not come to.
    run.effects.retain(|effect| !UNTOLD.contains(&effect.as_str()));
    Arc::new(run)
}

/// Effects that no story here comes to, or by chance alone. Those of builds, caches and mirrors are crashed in tests/features/builds, what removes from the store in
/// tests/features/builds/retention.rs.
/// A task is cancelled where its goal changes, in tests/features/rollouts; host/tests kills landfall-host at each of its own effects.
const UNTOLD: [&str; 8] = [
    "build.create",
    "cache.delete",
    "mirror.delete",
    "host.cancel",
    "host.secrets",
    "log.remove",
    "store.remove",
    "store.sweep",
];

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_or_after_any_effect_loses_nothing_and_does_nothing_twice() {
    let began = Instant::now();
    let limit = setting("LANDFALL_CRASH_SECONDS").map(|text| Duration::from_secs(text.parse().unwrap()));
    let only = setting("LANDFALL_CRASH_ONLY").unwrap_or_default();
    let lanes = setting("LANDFALL_CRASH_LANES").map_or(LANES, |text| text.parse().unwrap());
    // Read first: what can't be read is told before anything is played.
    let named = named(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let (first, second) = tokio::join!(calm(0), calm(1));
    println!("{}: {:#}\n{}: {:#}", STORIES[0].name, first.end, STORIES[1].name, second.end);
    deploys_both_versions_once(&first.end);
    ends_where_it_was_told_to(&second.end);
    every_effect_that_the_source_names_is_reached_by_a_story(&named, &first, &second);

    let stories = [(STORIES[0], first), (STORIES[1], second)];
    let mut chance = StdRng::seed_from_u64(support::seed());
    let sweep = Arc::new(Sweep::new(&stories, &only, limit.map(|limit| began + limit), &mut chance));
    let (listed, sample) = sweep.listed();
    sweep.go(lanes).await;
    let done = sweep.done.lock().unwrap();
    println!(
        "crashes: LANDFALL_SEED={}, {} effects, {listed} points listed, {sample} of them whatever the time, {} crashed with the same end, {} with another, {} taken again, {} never reached, {} not \
         run for time; {} s",
        support::seed(),
        stories.iter().map(|(_, calm)| calm.effects.len()).sum::<usize>(),
        done.crashed.len(),
        done.wrong.len(),
        done.again,
        done.unreached.len(),
        done.unrun,
        began.elapsed().as_secs(),
    );
    assert!(done.wrong.is_empty(), "{}", done.wrong.join("\n"));
    assert_eq!(done.unreached, [] as [String; 0], "every point is reached in some run");
    match limit {
        None => assert_eq!(done.crashed.len(), listed),
        Some(_) => assert!(done.crashed.len() >= sample, "{} of {sample} points", done.crashed.len()),
    }
}

fn every_effect_that_the_source_names_is_reached_by_a_story(named: &BTreeSet<String>, first: &Run, second: &Run) {
    let reached: BTreeSet<&str> = first.effects.iter().chain(&second.effects).map(String::as_str).collect();
    assert!(named.len() >= 18, "the names are looked for in vain: {named:?}");
    let named: BTreeSet<&str> = named.iter().map(String::as_str).collect();
    let never: Vec<&&str> = named.difference(&reached).filter(|name| !UNTOLD.contains(name)).collect();
    assert!(never.is_empty(), "no story comes to {never:?}: tell one that does in tests/crashes/main.rs");
}

/// What stands as a literal in `Effect::new("…"`, or in a helper's `effect("…"`.
fn named(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // The shell helper, which no controller uses any more.
            if path.ends_with("effects/shell") {
                continue;
            }
            found.extend(named(&path));
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for (at, call) in text.match_indices("Effect::new(").chain(text.match_indices("self.effect(")) {
            let argument = text[at + call.len()..].trim_start();
            match argument.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
                Some((name, _)) => _ = found.insert(name.to_owned()),
                // A method that hands the name on, which its callers write as a literal.
                None => assert!(
                    text.contains("fn effect(&self, name: &'static str) -> Effect"),
                    "{}: write the effect's name as a literal where it is made, so that this test can read it",
                    path.display()
                ),
            }
        }
    }
    found
}
