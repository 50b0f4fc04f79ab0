//! Operators that are killed or told to stop in the middle, before and after each effect; a full disk.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use futures::StreamExt;
use kube::ResourceExt;
use landfall::api::{Build, Project, build::Outcome};
use serde_json::json;

use crate::support::{
    builds::{Bench, WAITS, condition, message, outcomes, status},
    plane::{Operator, namespace},
};

#[tokio::test]
async fn an_operator_that_is_killed_continues_the_same_build() {
    let mut bench = Bench::with("killed", &format!("{WAITS}; date +%s%N > app")).await;
    bench.build("shop-1", json!({ "tag": "v1" })).await;
    bench.until_reason("shop-1", "Building").await;
    bench.operator.restart().await;
    bench.go("shop-1").await;
    let build = bench.until_ready("shop-1").await;
    assert_eq!(outcomes(&build), [Some(Outcome::Succeeded)], "one attempt, run once");
    assert_eq!(bench.tags(), ["v1"]);
}

/// A small file system of its own, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(path: PathBuf) -> Self {
        // The operator may have been killed before it made it.
        std::fs::create_dir_all(&path).unwrap();
        mount(&["-t", "tmpfs", "-o", "size=256k", "small"], &path);
        Self(path)
    }

    fn grow(&self) {
        mount(&["-o", "remount,size=64m"], &self.0);
    }
}

fn mount(arguments: &[&str], at: &Path) {
    assert!(Command::new("mount").args(arguments).arg(at).status().unwrap().success());
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_store_on_a_full_disk_is_told_of_and_goes_on_when_there_is_room_with_nothing_done_twice() {
    let mut bench = Bench::new("full").await;
    bench.operator.kill9().await;
    let disk = SmallDisk::at(bench.store(""));
    bench.operator.restart().await;
    let script = "echo ran; head -c 1000000 /dev/urandom > app";
    bench
        .project(json!({ "script": script, "artifacts": [{ "path": "app" }], "tag": { "template": "v{number}" } }))
        .await;
    let waits = |build: &Build| {
        assert_eq!(
            (condition(build, "Reconciling"), condition(build, "Stalled")),
            ("True", "absent"),
            "it is waited for"
        );
        assert!(
            message(build).contains("disk is full") && message(build).contains("free some space"),
            "{}",
            message(build)
        );
    };
    // The release does not fit: the script has run, and is not run again.
    let uid = bench.build("shop-1", json!({})).await.uid().unwrap();
    let build = bench.until_reason("shop-1", "StoreFull").await;
    waits(&build);
    assert_eq!(outcomes(&build), [Some(Outcome::Succeeded)]);
    assert!(bench.tags().is_empty() && status(&build).digest.is_none());
    disk.grow();
    let build = bench.until_ready("shop-1").await;
    let log = std::fs::read_to_string(bench.operator.data.join("executor").join(uid).join("1/log")).unwrap();
    assert_eq!((outcomes(&build), log.as_str()), (vec![Some(Outcome::Succeeded)], "ran\n"));
    // Not even a record fits: the grant can't be written down, so nothing begins.
    let ballast = bench.store("ballast");
    let _ = std::fs::write(&ballast, vec![0; 80_000_000]);
    bench.build("shop-2", json!({})).await;
    let build = bench.until_reason("shop-2", "StoreFull").await;
    waits(&build);
    assert!(status(&build).attempts.is_empty());
    std::fs::remove_file(&ballast).unwrap();
    let build = bench.until_ready("shop-2").await;
    assert_eq!((outcomes(&build), status(&build).number), (vec![Some(Outcome::Succeeded)], Some(2)));
    assert_eq!(bench.tags(), ["v1", "v2"]);
}

/// What differs from run to run in the name of an effect.
struct Names([(&'static str, String); 3]);

impl Names {
    fn general(&self, effect: &str) -> String {
        self.0.iter().fold(effect.to_owned(), |text, (name, value)| text.replace(value.as_str(), name))
    }

    fn own(&self, effect: &str) -> String {
        self.0.iter().fold(effect.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

/// One build from its Project to its version, by an operator that is killed at `crash` and started again. Returns the effects, or
/// nothing where the build was over without having come to that point.
async fn story(crash: Option<&str>) -> Option<Vec<String>> {
    let space = namespace("effects").await;
    let name = space.name.clone();
    // The objects are there first, so that their uids can be a part of what is asked for.
    let elsewhere = Operator::start(&["none-such"]).await;
    let mut bench = Bench::of(space, elsewhere);
    let script = "echo ran; sleep 0.3; echo x > app";
    bench
        .project(json!({ "script": script, "artifacts": [{ "path": "app" }], "tag": { "template": "v{number}" } }))
        .await;
    let uid = bench.build("shop-1", json!({})).await.uid().unwrap();
    let folder = bench.dir.path().display().to_string();
    let names = Names([("<namespace>", name.clone()), ("<uid>", uid.clone()), ("<folder>", folder)]);
    let ledger = bench.dir.path().join("ledger");
    let mut plan = Operator::of(&[&name]).env("LANDFALL_EFFECTS_LEDGER", ledger.display().to_string());
    if let Some(crash) = crash {
        plan = plan.env("LANDFALL_CRASH_AT", names.own(crash));
    }
    bench.operator = plan.start().await;
    if crash.is_some() {
        // Not every run has every effect: a write that met a conflict in the calm one is one more there.
        let over =
            bench.until("shop-1", "over", |build| condition(build, "Ready") == "True" && build.finalizers().is_empty());
        let crashed = tokio::select! {
            () = bench.operator.ended() => true,
            _ = over => tokio::time::timeout(Duration::from_secs(10), bench.operator.ended()).await.is_ok(),
        };
        if !crashed {
            return None;
        }
        bench.operator.unset("LANDFALL_CRASH_AT");
        bench.operator.restart().await;
    }
    let build = bench.until_ready("shop-1").await;
    bench.until("shop-1", "free to go", |build| build.finalizers().is_empty()).await;
    let free = |project: &Project| project.status.as_ref().is_some_and(|status| status.active_build.is_none());
    let project = bench.until_project("free", free).await;
    let at = crash.unwrap_or("nowhere");
    assert_eq!((outcomes(&build), status(&build).number), (vec![Some(Outcome::Succeeded)], Some(1)), "{at}");
    assert_eq!((bench.tags(), project.status.unwrap().last_number), (vec!["v1".to_owned()], 1), "{at}");
    assert_eq!(bench.record("v1").build_uid, uid, "{at}");
    let attempts = bench.operator.data.join("executor").join(&uid);
    let said = std::fs::read_to_string(attempts.join("1/log")).unwrap();
    assert_eq!((said.as_str(), attempts.join("2").exists()), ("ran\n", false), "{at}: the script ran once");
    let lines = std::fs::read_to_string(ledger).unwrap();
    // The last one may be on its way.
    let whole = lines.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    Some(whole.filter_map(|line| line.strip_prefix("before ")).map(|effect| names.general(effect)).collect())
}

/// Whether the story came to its point and ended well; a point that it did not come to is tried once more.
async fn crashed_at(point: String) -> Option<String> {
    for _ in 0..2 {
        if story(Some(&point)).await.is_some() {
            return None;
        }
    }
    Some(point)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_or_after_any_effect_of_a_build_loses_nothing_and_does_nothing_twice() {
    let effects = story(None).await.unwrap();
    let points: Vec<String> =
        effects.iter().flat_map(|effect| [format!("before {effect}"), format!("after {effect}")]).collect();
    assert!(points.len() > 30, "{points:?}");
    let mut unreached = Vec::new();
    let lanes = points.iter().cloned().map(|point| tokio::spawn(crashed_at(point)));
    let mut runs = futures::stream::iter(lanes).buffer_unordered(6);
    while let Some(run) = runs.next().await {
        unreached.extend(run.unwrap());
    }
    println!("{} points, not come to: {unreached:?}", points.len());
    assert!(unreached.len() * 10 <= points.len(), "too many of the calm run's effects are its own: {unreached:?}");
}

#[tokio::test]
async fn a_script_outlives_an_operator_that_is_told_to_stop_and_the_next_one_takes_its_result() {
    let mut bench = Bench::with("stopped", &format!("{WAITS}; date +%s%N > app")).await;
    bench.build("shop-1", json!({ "tag": "v1" })).await;
    bench.until_reason("shop-1", "Building").await;
    // It does not wait for the script, which would wait for ever.
    assert!(bench.operator.stop().await.success());
    bench.operator.restart().await;
    bench.go("shop-1").await;
    let build = bench.until_ready("shop-1").await;
    assert_eq!(outcomes(&build), [Some(Outcome::Succeeded)], "one attempt, run once");
    assert_eq!(bench.tags(), ["v1"]);
}
