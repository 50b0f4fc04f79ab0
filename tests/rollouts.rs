//! Rollouts by a real operator against a real API server and real hosts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use landfall::api::{Deployment, HostGroup, deployment::RolloutOutcome};
use serde_json::json;
use support::rollout::{Bench, SERVES, is, message};

fn exception<'a>(object: &'a Deployment, host: &str) -> Option<&'a landfall::api::deployment::RolloutException> {
    object.status.as_ref()?.exceptions.iter().find(|one| one.host == host)
}

#[tokio::test]
async fn a_version_comes_to_three_hosts_one_by_one_and_the_next_one_side_by_side() {
    let bench = Bench::new(3).await;
    bench.publish("v1", SERVES);
    bench.publish("v2", SERVES);
    bench.deploy("v1", json!({ "env": [{ "name": "COLOUR", "value": "red" }] })).await;
    let first = bench.until_deployed("v1").await;
    let status = first.status.as_ref().unwrap();
    assert_eq!((status.hosts.total, status.hosts.updated, status.hosts.ready), (3, 3, 3));
    assert_eq!(status.rollout.as_ref().unwrap().id, "1.0");
    for i in 0..3 {
        assert_eq!(bench.version_on(i).await, "v1");
    }
    let env = bench.hosts.host(1).sh(&format!("cat {}/shared/env", bench.folder())).await;
    for wanted in ["COLOUR=red", "LANDFALL_VERSION=v1", "LANDFALL_HOST=web-02", "LANDFALL_HOST_GROUP=prod"] {
        assert!(env.lines().any(|line| line == wanted), "{wanted} in {env}");
    }

    bench.edit(json!({ "version": "v2", "minReadySeconds": 1 })).await;
    let middle = bench
        .until("both versions", |object| object.status.as_ref().is_some_and(|status| status.versions.len() == 2))
        .await;
    assert!(is(&middle, "Reconciling", "RollingOut"), "{:?}", middle.status);
    bench.until_deployed("v2").await;
    for i in 0..3 {
        assert_eq!(bench.version_on(i).await, "v2");
        assert_eq!(bench.starts(i).await, ["v1", "v2"]);
    }
    let last = bench.get("shop").await.status.unwrap();
    assert_eq!(last.history.len(), 2);
    assert!(last.history.iter().all(|entry| entry.outcome == RolloutOutcome::Succeeded));
}

#[tokio::test]
async fn a_failed_host_stops_the_rollout_and_retry_takes_it_on() {
    let bench = Bench::new(3).await;
    bench.publish("v1", &format!("[ -e /srv/bad ] && {{ echo no database; exit 3; }}\n{SERVES}"));
    bench.hosts.host(1).sh("touch /srv/bad").await;
    bench.deploy("v1", json!({})).await;
    let failed = bench.until("failed", |object| is(object, "Stalled", "HostsFailed")).await;
    assert!(message(&failed).contains("web-02"), "{}", message(&failed));
    assert!(message(&failed).contains("no database"), "{}", message(&failed));
    let status = failed.status.as_ref().unwrap();
    assert_eq!((status.hosts.ready, status.hosts.failed, status.hosts.pending), (1, 1, 1));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.starts(1).await.len(), 1, "a failed host is left alone");
    assert!(bench.starts(2).await.is_empty(), "no further host is started");

    bench.hosts.host(1).sh("rm /srv/bad").await;
    bench.stamp("landfall.dev/retry", "1").await;
    let done = bench.until_deployed("v1").await;
    assert_eq!(done.status.unwrap().rollout.unwrap().attempt, 2);
    assert_eq!(bench.starts(0).await.len(), 1, "a host that is ready is not taken again");
}

#[tokio::test]
async fn a_host_unreachable_before_its_turn_is_brought_along_when_it_returns() {
    let bench = Bench::new(3).await;
    bench.publish("v1", SERVES);
    bench.hosts.host(0).cut().await;
    bench.deploy("v1", json!({})).await;
    let waiting = bench.until("waiting for it", |object| is(object, "Reconciling", "HostsUnreachable")).await;
    assert_eq!(waiting.status.as_ref().unwrap().hosts.ready, 2);
    assert_eq!(exception(&waiting, "web-01").unwrap().reason, "Unreachable");
    bench.hosts.host(0).mend().await;
    bench.until_deployed("v1").await;
    assert_eq!(bench.version_on(0).await, "v1");
}

#[tokio::test]
async fn a_dead_process_is_started_again_and_a_reboot_is_survived() {
    let bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.hosts.host(0).sh("pkill -x busybox").await;
    bench.until("seen", |object| !is(object, "Ready", "Deployed")).await;
    bench.until_deployed("v1").await;
    assert_eq!(bench.version_on(0).await, "v1");
    assert_eq!(bench.starts(0).await.len(), 2);
    bench.hosts.host(1).reboot().await;
    bench.until("seen", |object| !is(object, "Ready", "Deployed")).await;
    bench.until_deployed("v1").await;
    assert_eq!(bench.version_on(1).await, "v1");
}

#[tokio::test]
async fn a_process_that_ends_right_after_it_was_ready_is_seen_and_healed_with_a_wait() {
    let bench = Bench::new(1).await;
    bench.publish("v1", "busybox httpd -f -p 8080 -h www & sleep 2; kill $!; exit 1\n");
    bench.deploy("v1", json!({})).await;
    let healing = bench
        .until("healing", |object| {
            is(object, "Ready", "Healing") && exception(object, "web-01").is_some_and(|one| one.reason == "Healing")
        })
        .await;
    assert!(is(&healing, "Reconciling", "Healing"));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.starts(0).await.len(), 2, "the second start for healing waits ten seconds");
}

#[tokio::test]
async fn a_process_that_ends_within_min_ready_seconds_has_failed() {
    let bench = Bench::new(2).await;
    bench.publish("v1", "busybox httpd -f -p 8080 -h www & sleep 1; kill $!; exit 1\n");
    bench.deploy("v1", json!({ "minReadySeconds": 4 })).await;
    let failed = bench.until("failed", |object| is(object, "Stalled", "HostsFailed")).await;
    assert_eq!(exception(&failed, "web-01").unwrap().reason, "ProcessDied");
    assert!(bench.starts(1).await.is_empty());
}

#[tokio::test]
async fn a_process_that_ignores_term_is_killed_after_its_grace() {
    let bench = Bench::new(1).await;
    bench.publish("v1", "trap '' TERM\nbusybox httpd -f -p 8080 -h www &\nwhile :; do sleep 1; done\n");
    bench.publish("v2", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.edit(json!({ "version": "v2" })).await;
    bench.until_deployed("v2").await;
    assert_eq!(bench.version_on(0).await, "v2");
}

#[tokio::test]
async fn a_port_that_a_stranger_holds_fails_the_host_and_starts_nothing() {
    let bench = Bench::new(1).await;
    bench.publish("v1", SERVES);
    bench
        .hosts
        .host(0)
        .sh("mkdir -p /srv/x && echo me > /srv/x/version && setsid busybox httpd -p 8080 -h /srv/x")
        .await;
    bench.deploy("v1", json!({})).await;
    let failed = bench.until("failed", |object| is(object, "Stalled", "HostsFailed")).await;
    let entry = exception(&failed, "web-01").unwrap();
    assert_eq!(entry.reason, "PortInUse");
    assert!(entry.message.contains("8080"), "{}", entry.message);
    assert!(bench.starts(0).await.is_empty());
    assert_eq!(bench.version_on(0).await, "me", "the stranger is left alone");
}

#[tokio::test]
async fn the_second_of_two_deployments_that_claim_a_host_through_two_groups_touches_nothing() {
    let bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.group("staging").await;
    bench.deploy("v1", json!({ "hosts": { "names": ["web-01"] } })).await;
    bench.until_deployed("v1").await;
    bench.deploy_as("second", "v1", json!({ "hostGroupRef": { "name": "staging" } })).await;
    let claimed = bench.until_of("second", "refused", |object| is(object, "Stalled", "HostClaimed")).await;
    assert!(message(&claimed).contains("shop") && message(&claimed).contains("second"), "{}", message(&claimed));
    assert!(bench.starts(1).await.is_empty(), "not even the host that is free is touched");
    bench.delete("shop").await;
    bench.until_of("second", "deployed", |object| is(object, "Ready", "Deployed")).await;
}

#[tokio::test]
async fn what_a_deployment_names_may_come_later() {
    let bench = Bench::new(1).await;
    bench.deploy("v1", json!({ "hosts": { "selector": { "matchLabels": { "zone": "nowhere" } } } })).await;
    bench.until("no hosts", |object| is(object, "Stalled", "NoHosts")).await;
    bench.edit(json!({ "hosts": { "selector": null, "names": ["web-09"] } })).await;
    let wrong = bench.until("not found", |object| is(object, "Stalled", "HostsNotFound")).await;
    assert!(message(&wrong).contains("web-09"));
    bench.edit(json!({ "hosts": null })).await;
    let waiting = bench.until("waiting", |object| is(object, "Reconciling", "VersionNotFound")).await;
    assert!(is(&waiting, "Ready", "VersionNotFound"));
    bench.publish("v1", SERVES);
    bench.until_deployed("v1").await;
}

#[tokio::test]
async fn a_secret_that_comes_later_heals_the_group_and_its_deployments() {
    let bench = Bench::new(1).await;
    bench.publish("v1", SERVES);
    let secrets = bench.space.api::<k8s_openapi::api::core::v1::Secret>();
    secrets.delete("prod-identity", &Default::default()).await.unwrap();
    bench.patch::<HostGroup>("prod", json!({ "spec": { "env": [{ "name": "A", "value": "1" }] } })).await;
    bench.deploy("v1", json!({})).await;
    bench.until("waiting", |object| is(object, "Reconciling", "SecretNotFound")).await;
    let again = bench.hosts.group(&bench.space.name, "prod").remove(0);
    bench.create::<k8s_openapi::api::core::v1::Secret>(again).await;
    bench.until_deployed("v1").await;
}

#[tokio::test]
async fn editing_the_strategy_and_pausing_start_nothing_and_a_new_version_supersedes() {
    let bench = Bench::new(3).await;
    bench.publish("v1", SERVES);
    bench.publish("v2", "sleep 1000\n");
    bench.publish("v3", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.edit(json!({ "strategy": { "rollingUpdate": { "maxUnavailable": "50%" } } })).await;
    bench.until_deployed("v1").await;
    for i in 0..3 {
        assert_eq!(bench.starts(i).await.len(), 1);
    }
    bench.edit(json!({ "paused": true, "version": "v3" })).await;
    let paused = bench.until("paused", |object| is(object, "Ready", "Paused")).await;
    assert!(!paused.status.unwrap().conditions.iter().any(|one| one.type_ == "Reconciling" || one.type_ == "Stalled"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.version_on(0).await, "v1");
    // In the middle of v2, which is never ready, v3 is given.
    bench.edit(json!({ "paused": false, "version": "v2" })).await;
    bench
        .until("in its turn", |object| {
            exception(object, "web-01").is_some_and(|one| format!("{:?}", one.phase) == "Verifying")
        })
        .await;
    bench.edit(json!({ "version": "v3" })).await;
    let done = bench.until_deployed("v3").await;
    let history = done.status.unwrap().history;
    assert_eq!(history[0].outcome, RolloutOutcome::Succeeded);
    assert_eq!((history[1].version.as_str(), history[1].outcome), ("v2", RolloutOutcome::Superseded));
    assert_eq!(bench.starts(2).await, ["v1", "v3"], "nobody else was given v2");
}

#[tokio::test]
async fn a_host_that_joins_is_brought_up_and_one_that_leaves_is_let_go() {
    let bench = Bench::new(3).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({ "hosts": { "names": ["web-01", "web-02"] }, "deletionPolicy": "Remove" })).await;
    bench.until_deployed("v1").await;
    assert!(bench.starts(2).await.is_empty());
    bench.edit(json!({ "hosts": { "names": ["web-02", "web-03"] } })).await;
    bench.until_deployed("v1").await;
    assert_eq!(bench.version_on(2).await, "v1");
    assert_eq!(bench.version_on(0).await, "", "what left the selection was stopped and removed");
    assert_eq!(bench.starts(1).await.len(), 1);
}

#[tokio::test]
async fn deletion_retains_or_removes_as_the_policy_says() {
    let bench = Bench::new(1).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.delete("shop").await;
    assert_eq!(bench.version_on(0).await, "v1");
    let owner = bench.hosts.host(0).sh(&format!("cat {}/.landfall/owner 2>/dev/null || true", bench.folder())).await;
    assert_eq!(owner.trim(), "", "the claim was given up");
    bench.deploy("v1", json!({ "deletionPolicy": "Remove" })).await;
    bench.until_deployed("v1").await;
    bench.delete("shop").await;
    assert_eq!(bench.version_on(0).await, "");
    assert_eq!(bench.hosts.host(0).sh(&format!("ls -d {} 2>/dev/null || true", bench.folder())).await, "");
}

#[tokio::test]
async fn a_full_disk_fails_the_host_before_anything_stops() {
    let bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.publish("v2", &format!("# {}\n{SERVES}", "x".repeat(300_000)));
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.hosts.host(1).fill_but(64).await;
    bench.edit(json!({ "version": "v2" })).await;
    let failed = bench.until("failed", |object| is(object, "Stalled", "HostsFailed")).await;
    assert_eq!(exception(&failed, "web-02").unwrap().reason, "DiskFull");
    assert_eq!(bench.version_on(0).await, "v1", "staging failed, so nothing was stopped anywhere");
    bench.hosts.host(1).drain().await;
    bench.stamp("landfall.dev/retry", "1").await;
    bench.until_deployed("v2").await;
}

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
    let script =
        format!("P=$(cut -d' ' -f1 {}/.landfall/fence); sed -i \"s/$P/plane-elsewhere/\" {files}", bench.folder());
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
async fn a_host_lost_in_its_turn_holds_the_others_back_until_it_returns() {
    let bench = Bench::new(2).await;
    bench.publish("v1", &format!("sleep 3\n{SERVES}"));
    bench.deploy("v1", json!({})).await;
    bench
        .until("in its turn", |object| {
            exception(object, "web-01").is_some_and(|one| format!("{:?}", one.phase) == "Verifying")
        })
        .await;
    bench.hosts.host(0).cut().await;
    let lost =
        bench.until("lost", |object| exception(object, "web-01").is_some_and(|one| one.reason == "Unreachable")).await;
    assert_eq!(lost.status.unwrap().hosts.unreachable, 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(bench.starts(1).await.is_empty(), "the budget is used up");
    bench.hosts.host(0).mend().await;
    bench.until_deployed("v1").await;
    assert_eq!(bench.starts(0).await.len(), 1);
}

#[tokio::test]
async fn a_deployment_deleted_in_the_middle_leaves_nothing_where_it_is_to_remove() {
    let bench = Bench::new(2).await;
    bench.publish("v1", &format!("sleep 2\n{SERVES}"));
    bench.deploy("v1", json!({ "deletionPolicy": "Remove" })).await;
    bench
        .until("in its turn", |object| {
            exception(object, "web-01").is_some_and(|one| format!("{:?}", one.phase) == "Verifying")
        })
        .await;
    bench.delete("shop").await;
    for i in 0..2 {
        assert_eq!(bench.hosts.host(i).sh(&format!("ls -d {} 2>/dev/null || true", bench.folder())).await, "");
        assert_eq!(bench.version_on(i).await, "");
    }
}

#[tokio::test]
async fn a_deployment_whose_group_is_gone_can_be_deleted() {
    let bench = Bench::new(1).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.space.api::<HostGroup>().delete("prod", &Default::default()).await.unwrap();
    bench.until("without its group", |object| is(object, "Ready", "HostGroupNotFound")).await;
    bench.delete("shop").await;
    assert_eq!(bench.version_on(0).await, "v1");
}

#[tokio::test]
async fn where_nothing_changes_nothing_is_written() {
    let bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let versions = || async {
        let group = bench.space.api::<HostGroup>().get("prod").await.unwrap();
        (group.metadata.resource_version, bench.get("shop").await.metadata.resource_version)
    };
    let before = versions().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(versions().await, before, "hosts were looked at every second meanwhile");
}
