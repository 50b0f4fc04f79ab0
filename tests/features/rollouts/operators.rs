//! Operators that are killed, stopped, and succeeded.

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use landfall::{api::verbs::ADOPT_ALL, model::leading::OBJECT};

use super::*;
use crate::support::plane::leader;

#[tokio::test]
async fn an_operator_killed_in_the_middle_is_succeeded_and_nothing_is_started_twice() {
    let mut bench = Bench::new(3).await;
    bench.publish("v1", SERVES);
    bench.publish("v2", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.edit(json!({ "version": "v2", "minReadySeconds": 1 })).await;
    for n in 1..3 {
        bench
            .until("on its way", |object| object.status.as_ref().is_some_and(|status| status.hosts.updated >= n))
            .await;
        bench.operator.restart().await;
    }
    bench.until_deployed("v2").await;
    for i in 0..3 {
        assert_eq!(bench.version_on(i).await, "v2");
        assert_eq!(bench.starts(i).await, ["v1", "v2"]);
    }
}

#[tokio::test]
async fn hosts_of_another_control_plane_are_taken_over_only_when_a_person_says_so() {
    let mut bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.operator.kill9().await;
    let files = format!("{0}/.landfall/owner {0}/.landfall/fence", bench.folder());
    let script = format!(
        "P=$(grep -o '\"epoch\":\"[^\"]*' {}/.landfall/fence | cut -d'\"' -f4 | sed 's/^2://'); sed -i \"s/$P/plane-elsewhere/\" {files}",
        bench.folder()
    );
    bench.hosts.host(1).sh(&script).await;
    bench.operator.restart().await;
    let fenced = bench.until("fenced", |object| is(object, "Stalled", "FencedByOtherControlPlane")).await;
    assert!(message(&fenced).contains("landfall.dev/adopt=plane-elsewhere"), "{}", message(&fenced));
    bench.stamp("landfall.dev/adopt", "plane-elsewhere").await;
    bench.until_deployed("v1").await;
    assert_eq!(bench.starts(1).await.len(), 1, "what runs is taken over as it is");
    let owner = bench.hosts.host(1).sh(&format!("cat {}/.landfall/owner", bench.folder())).await;
    assert!(!owner.contains("plane-elsewhere"), "{owner}");
}

#[tokio::test]
async fn a_host_with_a_fence_of_an_operator_from_before_is_acted_on() {
    let mut bench = Bench::new(1).await;
    bench.publish("v1", SERVES);
    bench.publish("v2", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.operator.kill9().await;
    // As one left it that led by a Lease, made later than the object of today's.
    let fence = format!("{}/.landfall/fence", bench.folder());
    let script = format!("sed -Ei 's/\"2:/\"/; s/\"created\":[0-9]+/\"created\":9000000000/' {fence}; cat {fence}");
    let before = bench.hosts.host(0).sh(&script).await;
    assert!(before.contains("\"created\":9000000000") && !before.contains("2:"), "{before}");
    bench.operator.restart().await;
    bench.edit(json!({ "version": "v2" })).await;
    bench.until_deployed("v2").await;
    let after = bench.hosts.host(0).sh(&format!("cat {fence}")).await;
    assert!(after.contains("\"epoch\":\"2:"), "an operator from before takes it for another control plane's: {after}");
}

#[tokio::test]
async fn adopt_all_on_the_object_of_leaders_takes_over_hosts_of_another_control_plane() {
    let mut bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.operator.kill9().await;
    let files = format!("{0}/.landfall/owner {0}/.landfall/fence", bench.folder());
    let script = format!(
        "P=$(grep -o '\"epoch\":\"[^\"]*' {}/.landfall/fence | cut -d'\"' -f4 | sed 's/^2://'); sed -i \"s/$P/plane-elsewhere/\" {files}",
        bench.folder()
    );
    for i in 0..2 {
        bench.hosts.host(i).sh(&script).await;
    }
    bench.operator.restart().await;
    bench.until("fenced", |object| is(object, "Stalled", "FencedByOtherControlPlane")).await;
    bench.patch::<Lease>(OBJECT, json!({ "metadata": { "annotations": { ADOPT_ALL: "plane-elsewhere" } } })).await;
    let done = bench.until_deployed("v1").await;
    assert_eq!(done.status.unwrap().last_handled[ADOPT_ALL], "plane-elsewhere", "it is not done again");
    for i in 0..2 {
        assert_eq!(bench.starts(i).await.len(), 1, "what runs is taken over as it is");
        let owner = bench.hosts.host(i).sh(&format!("cat {}/.landfall/owner", bench.folder())).await;
        assert!(!owner.contains("plane-elsewhere"), "{owner}");
    }
}

#[tokio::test]
async fn a_status_of_a_deployment_that_was_written_over_is_put_right_and_nothing_is_done() {
    let bench = Bench::new(1).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    let asked = tokio::time::Instant::now();
    // A lie, and in the form that every status has, for all that any test writes are judged by it.
    let condition = |kind: &str, status: &str| {
        json!({
            "type": kind, "status": status, "reason": "HostsFailed", "message": "v9 failed on web-01",
            "observedGeneration": 1, "lastTransitionTime": "2026-11-01T00:00:00Z",
        })
    };
    let conditions = [condition("Ready", "False"), condition("Stalled", "True")];
    let forged = Patch::Merge(json!({ "status": { "conditions": conditions, "versions": [], "version": "v9" } }));
    bench.space.api::<Deployment>().patch_status("shop", &PatchParams::default(), &forged).await.unwrap();
    let done = bench.until_deployed("v1").await;
    println!("put right after {:?}", asked.elapsed());
    assert_eq!(done.status.unwrap().versions.len(), 1);
    assert_eq!(bench.starts(0).await, ["v1"]);
}

#[tokio::test]
async fn an_operator_that_is_told_to_stop_leaves_steps_on_hosts_to_the_next_one_which_takes_them_on() {
    let mut bench = Bench::new(1).await;
    // The stop ends when it may, which is when the first operator is gone.
    bench.publish_with(
        "v1",
        "trap '' TERM\nbusybox httpd -f -p 8080 -h www & W=$!\nwhile ! [ -e /srv/enough ]; do sleep 0.2; done; kill -9 $W\n",
        json!({ "httpGet": { "port": 8080, "path": "/version" } }),
        json!({ "terminationGracePeriodSeconds": 600 }),
    );
    bench.publish("v2", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.edit(json!({ "version": "v2" })).await;
    let journal = format!("cat {}/.landfall/journal", bench.folder());
    let turns = async |word: &str| {
        let journal = bench.hosts.host(0).sh(&journal).await;
        updates(&journal, word)
    };
    until("stopping", || async { turns("begin").await == 2 }).await;
    let asked = tokio::time::Instant::now();
    let status = bench.operator.stop().await;
    // So long a cluster waits before it kills.
    assert!(status.success() && asked.elapsed() < Duration::from_secs(30), "{status} after {:?}", asked.elapsed());
    let holder = leader(&bench.space.client, &bench.space.name).await;
    assert_eq!(holder, "", "the lease was given back");
    assert_eq!((turns("begin").await, turns("end").await), (2, 1), "the step goes on without it");
    bench.operator.restart().await;
    bench.hosts.host(0).sh("touch /srv/enough").await;
    bench.until_deployed("v2").await;
    // It serves before its task has pruned older releases.
    until("ended: the task", || async { turns("end").await == 2 }).await;
    let journal = bench.hosts.host(0).sh(&journal).await;
    assert_eq!(updates(&journal, "begin"), 2, "{journal}");
    assert!(!journal.contains("failed"), "{journal}");
    assert_eq!(bench.starts(0).await, ["v1", "v2"]);
}

/// Lines of a host's journal of this kind about updates.
fn updates(journal: &str, kind: &str) -> usize {
    let lines = journal.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines
        .filter(|line| line["kind"] == kind && line["what"].as_str().is_some_and(|what| what.starts_with("use ")))
        .count()
}
