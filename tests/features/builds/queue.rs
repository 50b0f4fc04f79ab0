//! One build of a project at a time: who waits, who is cancelled, deleted, refused, replaced.

use std::time::Duration;

use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use landfall::api::{Build, build::Outcome};
use serde_json::json;

use crate::support::{
    builds::{Bench, WAITS, eventually, gone, mark, message, outcomes, processes, reason, status},
    repository::git,
    wait::until,
};

#[tokio::test]
async fn two_builds_of_one_project_never_run_at_once_and_the_others_know_their_place() {
    let bench = Bench::new("queue").await;
    let script = format!("if [ \"$LANDFALL_BUILD_NUMBER\" = 1 ]; then {WAITS}; fi; echo x > app");
    bench
        .project(json!({ "script": script, "artifacts": [{ "path": "app" }], "tag": { "template": "v{number}" } }))
        .await;
    bench.build("shop-a", json!({})).await;
    bench.until_reason("shop-a", "Building").await;
    bench.build("shop-b", json!({})).await;
    bench.until_reason("shop-b", "Queued").await;
    tokio::time::sleep(Duration::from_millis(1100)).await; // creation times have seconds
    bench.build("shop-c", json!({})).await;
    let place = |position: i32| {
        move |build: &Build| {
            let queue = build.status.as_ref().and_then(|status| status.queue.as_ref());
            queue.is_some_and(|queue| queue.position == position && queue.waiting_for.is_some())
        }
    };
    bench.until("shop-c", "second in line", place(2)).await;
    bench.until("shop-b", "first in line", place(1)).await;
    bench.go("shop-a").await;
    let mut numbers = Vec::new();
    for name in ["shop-a", "shop-b", "shop-c"] {
        let build = bench.until_ready(name).await;
        let attempt = &status(&build).attempts[0];
        numbers.push(status(&build).number.unwrap());
        assert!(status(&build).queue.is_none());
        if name != "shop-c" {
            continue;
        }
        let before = bench.builds().get("shop-b").await.unwrap();
        let end = status(&before).attempts[0].completed_at.clone().unwrap();
        assert!(end.0 <= attempt.started_at.0, "b had ended before c began");
    }
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(bench.tags(), ["v1", "v2", "v3"]);
}

#[tokio::test]
async fn a_build_is_cancelled_while_it_runs_and_while_it_waits_and_a_retry_runs_it_again() {
    let sleep = mark();
    let bench = Bench::with("cancel", "test -e ../../never; echo begin").await;
    bench.build("shop-1", json!({})).await;
    bench.until_stalled("shop-1", "ScriptFailed").await;
    bench
        .projects()
        .patch(
            "shop",
            &PatchParams::default(),
            &Patch::Merge(json!({ "spec": { "build": { "script": format!("sleep {sleep}") } } })),
        )
        .await
        .unwrap();
    bench.build("shop-2", json!({})).await;
    bench.until_reason("shop-2", "Building").await;
    bench.build("shop-3", json!({})).await;
    bench.until_reason("shop-3", "Queued").await;
    for name in ["shop-3", "shop-2"] {
        bench.patch(name, json!({ "spec": { "cancelled": true } })).await;
        bench.until_stalled(name, "Cancelled").await;
    }
    let build = bench.builds().get("shop-2").await.unwrap();
    assert_eq!(outcomes(&build), [Some(Outcome::Cancelled)]);
    assert_eq!(processes(&sleep), 0, "nothing of it lives on");
    bench.retry("shop-2", "1").await;
    let running =
        bench.until("shop-2", "running again", |build| outcomes(build).len() == 2 && reason(build) == "Building");
    running.await;
    eventually("up", || processes(&sleep) == 1).await;
    drop(bench);
    gone(&sleep).await;
}

#[tokio::test]
async fn a_branch_that_is_force_pushed_while_the_build_waits_changes_nothing() {
    let script = format!("if [ \"$LANDFALL_BUILD_NUMBER\" = 1 ]; then {WAITS}; fi; cp main.c app");
    let bench = Bench::with("force", &script).await;
    let first = git(&bench.work(), &["rev-parse", "HEAD"]);
    bench.build("shop-1", json!({})).await;
    bench.until_reason("shop-1", "Building").await;
    bench.build("shop-2", json!({ "tag": "v2" })).await;
    bench.until_reason("shop-2", "Queued").await;
    git(&bench.work(), &["commit", "-q", "--amend", "-m", "rewritten"]);
    let head = bench.commit("main.c", "rewritten\n");
    bench.look("main", &head).await;
    bench.go("shop-1").await;
    let build = bench.until_ready("shop-2").await;
    assert_eq!(status(&build).commit.as_ref().unwrap().sha, first);
    assert!(bench.release("v2")["app"].starts_with(b"#include"));
}

#[tokio::test]
async fn a_build_that_is_deleted_in_the_middle_ends_its_script_and_frees_its_turn() {
    let sleep = mark();
    let script = format!("if [ \"$LANDFALL_BUILD_NUMBER\" = 1 ]; then echo up; sleep {sleep}; fi; echo x > app");
    let bench = Bench::with("deleted", &script).await;
    let uid = bench.build("shop-1", json!({})).await.uid().unwrap();
    bench.until_reason("shop-1", "Building").await;
    bench.build("shop-2", json!({ "tag": "v2" })).await;
    bench.until_reason("shop-2", "Queued").await;
    eventually("up", || processes(&sleep) == 1).await;
    bench.builds().delete("shop-1", &DeleteParams::default()).await.unwrap();
    bench.until_ready("shop-2").await;
    assert_eq!(processes(&sleep), 0);
    until("gone", || async { bench.builds().get_opt("shop-1").await.unwrap().is_none() }).await;
    let folder = bench.operator.data.join("executor").join(&uid);
    eventually("tidied up after", || !folder.exists() && !bench.pins().iter().any(|pin| pin.contains(&uid))).await;
    let left = ["logs", "builds"].map(|kind| bench.store(&format!("{kind}/{uid}")));
    eventually("without what it said and its records", || left.iter().all(|left| !left.exists())).await;
}

#[tokio::test]
async fn where_it_is_forbidden_a_build_that_comes_while_another_runs_ends_and_a_retry_works_later() {
    let bench = Bench::new("forbid").await;
    let script = format!("if [ \"$LANDFALL_VERSION\" = v1 ]; then {WAITS}; fi; echo x > app");
    bench.project(json!({ "script": script, "artifacts": [{ "path": "app" }], "concurrencyPolicy": "Forbid" })).await;
    bench.build("shop-1", json!({ "tag": "v1" })).await;
    bench.until_reason("shop-1", "Building").await;
    bench.build("shop-2", json!({ "tag": "v2" })).await;
    let build = bench.until_stalled("shop-2", "ConcurrencyForbidden").await;
    assert!(message(&build).contains("build shop-1 is running"), "{}", message(&build));
    assert_eq!((status(&build).number, status(&build).attempts.len()), (None, 0));
    bench.go("shop-1").await;
    bench.until_ready("shop-1").await;
    bench.retry("shop-2", "1").await;
    bench.until_ready("shop-2").await;
    assert_eq!(bench.tags(), ["v1", "v2"]);
}

#[tokio::test]
async fn the_newest_build_replaces_all_before_it_also_when_the_operator_is_killed() {
    let mut bench = Bench::new("replace").await;
    let sleep = mark();
    let script = format!("case $LANDFALL_VERSION in v1) sleep {sleep};; v3) {WAITS};; esac; echo x > app");
    bench.project(json!({ "script": script, "artifacts": [{ "path": "app" }], "concurrencyPolicy": "Replace" })).await;
    bench.build("shop-1", json!({ "tag": "v1" })).await;
    bench.until_reason("shop-1", "Building").await;
    tokio::time::sleep(Duration::from_millis(1100)).await; // creation times have seconds
    bench.build("shop-2", json!({ "tag": "v2", "parameters": { "NOPE": "x" } })).await;
    bench.until_stalled("shop-2", "ParameterUnknown").await;
    assert_eq!(
        reason(&bench.builds().get("shop-1").await.unwrap()),
        "Building",
        "what can't be built replaces nothing"
    );
    bench.operator.kill9().await;
    bench.build("shop-3", json!({ "tag": "v3" })).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    bench.build("shop-4", json!({ "tag": "v4" })).await;
    bench.operator.restart().await;
    bench.until_ready("shop-4").await;
    let first = bench.until_stalled("shop-1", "Superseded").await;
    // Of those that came while nobody looked one is seen first.
    assert!(["shop-3", "shop-4"].map(Some).contains(&status(&first).superseded_by.as_deref()), "{first:?}");
    assert_eq!(outcomes(&first), [Some(Outcome::Cancelled)]);
    assert_eq!(processes(&sleep), 0);
    let third = bench.until_stalled("shop-3", "Superseded").await;
    assert_eq!(status(&third).superseded_by.as_deref(), Some("shop-4"), "{}", message(&third));
    assert_eq!(bench.tags(), ["v4"]);
    bench.retry("shop-3", "1").await;
    bench.go("shop-3").await;
    let third = bench.until_ready("shop-3").await;
    assert_eq!(status(&third).superseded_by, None);
}

#[tokio::test]
async fn a_build_that_runs_outlives_its_deleted_project_and_the_queue_waits() {
    let bench = Bench::new("projectgone").await;
    let script = format!("{WAITS}; echo x > app");
    bench
        .project(json!({ "script": script, "artifacts": [{ "path": "app" }], "tag": { "template": "v{number}" } }))
        .await;
    bench.build("shop-1", json!({})).await;
    bench.until_reason("shop-1", "Building").await;
    bench.build("shop-2", json!({})).await;
    bench.until_reason("shop-2", "Queued").await;
    bench.projects().delete("shop", &DeleteParams::default()).await.unwrap();
    bench.until_reason("shop-2", "ProjectNotFound").await;
    bench.go("shop-1").await;
    bench.until_ready("shop-1").await;
    bench
        .project(
            json!({ "script": "echo x > app", "artifacts": [{ "path": "app" }], "tag": { "template": "v{number}" } }),
        )
        .await;
    let build = bench.until_ready("shop-2").await;
    assert_eq!(status(&build).number, Some(2), "a number is never given twice, whatever became of the project");
    assert_eq!(bench.tags(), ["v1", "v2"]);
}
