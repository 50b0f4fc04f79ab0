//! Rollouts by a real operator against a real API server and real hosts.

use std::time::Duration;

use crate::support::{
    names,
    rollout::{Bench, SERVES, WAITS, is, message},
    wait::{PATIENCE, find, until},
};
use k8s_openapi::api::{core::v1::Secret, events::v1::Event};
use kube::ResourceExt;
use landfall::api::{
    Deployment, HostGroup,
    deployment::{HistoryChange, Phase, RolloutOutcome},
};
use serde_json::json;

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
    bench
        .until("showing both versions", |object| {
            let both = object.status.as_ref().is_some_and(|status| status.versions.len() == 2);
            both && is(object, "Reconciling", "RollingOut")
        })
        .await;
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
    assert_eq!(done.status.unwrap().rollout.into_option().unwrap().attempt, 2);
    assert_eq!(bench.starts(0).await.len(), 1, "a host that is ready is not taken again");
}

#[tokio::test]
async fn a_host_unreachable_before_its_turn_is_brought_along_when_it_returns() {
    let bench = Bench::new(3).await;
    bench.publish("v1", SERVES);
    bench.hosts.host(0).cut().await;
    bench.deploy("v1", json!({})).await;
    bench
        .until("waiting for it alone", |object| {
            is(object, "Reconciling", "HostsUnreachable")
                && object.status.as_ref().is_some_and(|status| status.hosts.ready == 2)
                && exception(object, "web-01").is_some_and(|one| one.reason == "Unreachable")
        })
        .await;
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
    until("started again", || async { bench.starts(0).await.len() == 2 && bench.version_on(0).await == "v1" }).await;
    bench.until_deployed("v1").await;
    bench.hosts.host(1).reboot().await;
    until("started again", || async { bench.starts(1).await.len() == 2 && bench.version_on(1).await == "v1" }).await;
    bench.until_deployed("v1").await;
    assert_eq!((bench.starts(0).await.len(), bench.starts(1).await.len()), (2, 2));
}

#[tokio::test]
async fn a_process_that_ends_right_after_it_was_ready_is_seen_and_healed_with_a_wait() {
    let bench = Bench::new(1).await;
    // Each of them ends when it is told so, which is when all has settled that belongs to its start.
    let ends = "while ! [ -e /srv/end-$(wc -l <../../shared/starts) ]; do sleep 0.1; done";
    let times = "cut -d ' ' -f 1 /proc/uptime >>../../shared/times";
    bench.publish("v1", &format!("{times}; busybox httpd -f -p 8080 -h www & {ends}; kill $!; exit 1\n"));
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    let seen = bench.recorded().await;
    let healing = |object: &Deployment| {
        ["Ready", "Reconciling"].iter().all(|kind| is(object, kind, "Healing"))
            && exception(object, "web-01").is_some_and(|one| one.reason == "Healing")
    };
    bench.hosts.host(0).sh("touch /srv/end-1").await;
    let healed = || async {
        let mut seen = seen.states().into_iter().skip_while(|object| !healing(object));
        seen.any(|object| is(&object, "Ready", "Deployed"))
    };
    until("healed", healed).await;
    bench.hosts.host(0).sh("touch /srv/end-2").await;
    until("healed twice", || async { bench.starts(0).await.len() > 2 }).await;
    let times = bench.hosts.host(0).sh(&format!("cat {}/shared/times", bench.folder())).await;
    let times: Vec<f64> = times.lines().map(|line| line.parse().unwrap()).collect();
    // The host's record has seconds.
    assert!(times[2] - times[1] > 8.9, "the second start for healing waits ten seconds: {times:?}");
}

#[tokio::test]
async fn a_process_that_ends_within_min_ready_seconds_has_failed() {
    let bench = Bench::new(2).await;
    // It ends as soon as it has answered.
    let asked = "while ! grep -q response:200 ../../shared/asked; do sleep 0.1; done";
    bench.publish(
        "v1",
        &format!("busybox httpd -f -v -p 8080 -h www 2>../../shared/asked & {asked}; kill $!; exit 1\n"),
    );
    bench.deploy("v1", json!({ "minReadySeconds": 60 })).await;
    let failed = bench.until("failed", |object| is(object, "Stalled", "HostsFailed")).await;
    let died: Vec<usize> = (0..2)
        .filter(|i| exception(&failed, &bench.hosts.host(*i).name).is_some_and(|one| one.reason == "ProcessDied"))
        .collect();
    // One that does not answer at once lets the other go first.
    let [first] = died[..] else { panic!("{:?}", failed.status) };
    assert_eq!((bench.starts(first).await.len(), bench.starts(1 - first).await.len()), (1, 0));
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
async fn a_group_and_a_project_that_come_later_are_waited_for_and_then_deployed_to() {
    let bench = Bench::new(1).await;
    bench.publish("v1", SERVES);
    bench.deploy_as("early", "v1", json!({ "hostGroupRef": { "name": "late" } })).await;
    let waiting = bench.until_of("early", "waiting", |object| is(object, "Reconciling", "HostGroupNotFound")).await;
    assert!(message(&waiting).contains("HostGroup late"), "{}", message(&waiting));
    bench.space.api::<landfall::api::Project>().delete("shop", &Default::default()).await.unwrap();
    bench.group("late").await;
    bench.until_of("early", "waiting", |object| is(object, "Reconciling", "ProjectNotFound")).await;
    assert!(bench.starts(0).await.is_empty());
    bench.project("shop").await;
    bench.until_of("early", "deployed", |object| is(object, "Ready", "Deployed")).await;
    assert_eq!(bench.version_on(0).await, "v1");
}

#[tokio::test]
async fn a_program_that_talks_all_the_time_keeps_to_its_part_of_the_disk() {
    let bench = Bench::new(1).await;
    let talk =
        "busybox httpd -f -p 8080 -h www &\nwhile :; do head -c 200000 /dev/zero | tr '\\0' x; echo; sleep 0.1; done\n";
    bench.publish("v1", talk);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    // Nobody looks by schedule; one look finds a long log, and from then on it is looked at often.
    bench.patch::<HostGroup>("prod", json!({ "spec": { "probe": { "periodSeconds": 3600 } } })).await;
    let sizes =
        format!("stat -c %s {0}/output.log {0}/output.log.1 2>/dev/null || true", bench.folder() + "/shared/log");
    let sizes = async || -> Vec<u64> {
        bench.hosts.host(0).sh(&sizes).await.lines().map(|line| line.parse().unwrap()).collect()
    };
    while sizes().await[0] < 15 << 20 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let stamp = json!({ "metadata": { "annotations": { "landfall.dev/refresh": "1" } } });
    bench.patch::<HostGroup>("prod", stamp).await;
    let (mut most, mut emptied, mut before) = (0, 0, 0);
    let began = tokio::time::Instant::now();
    while emptied < 3 {
        assert!(began.elapsed() < PATIENCE, "emptied {emptied} times, {before} bytes");
        let now = sizes().await;
        most = most.max(now[0]);
        emptied += usize::from(now[0] < before);
        before = now[0];
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    println!("log emptied {emptied} times, at most {most} bytes");
    // It grows by less than 2 MB a second, and may be twice as long when it is looked at.
    assert!(most < 60 << 20, "{most} bytes");
    assert!(sizes().await[1] <= 10 << 20, "what is kept beside it");
    assert_eq!(bench.starts(0).await, ["v1"]);
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
    let paused = bench.until("paused", |object| is(object, "Reconciling", "Paused")).await;
    let ready = paused.status.as_ref().unwrap().conditions.iter().find(|one| one.type_ == "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "Paused"));
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
    until("stopped and removed: what left the selection", || async { bench.version_on(0).await.is_empty() }).await;
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
    bench.publish_waiting("v1");
    bench.deploy("v1", json!({})).await;
    bench
        .until("in its turn", |object| {
            exception(object, "web-01").is_some_and(|one| format!("{:?}", one.phase) == "Verifying")
        })
        .await;
    bench.hosts.host(0).cut().await;
    bench
        .until("lost", |object| {
            exception(object, "web-01").is_some_and(|one| one.reason == "Unreachable")
                && object.status.as_ref().is_some_and(|status| status.hosts.unreachable == 1)
        })
        .await;
    for i in 0..2 {
        bench.hosts.host(i).sh("touch /srv/go").await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(bench.starts(1).await.is_empty(), "the budget is used up");
    bench.hosts.host(0).mend().await;
    bench.until_deployed("v1").await;
    assert_eq!(bench.starts(0).await.len(), 1);
}

#[tokio::test]
async fn a_deployment_deleted_in_the_middle_leaves_nothing_where_it_is_to_remove() {
    let bench = Bench::new(2).await;
    bench.publish_waiting("v1");
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

/// U7: `kubectl delete` of both in any order, and of the Secrets with them.
#[tokio::test]
async fn a_group_that_is_deleted_first_waits_until_its_deployment_has_cleaned_its_hosts() {
    let bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({ "deletionPolicy": "Remove" })).await;
    bench.until_deployed("v1").await;
    let groups = bench.space.api::<HostGroup>();
    groups.delete("prod", &Default::default()).await.unwrap();
    let in_use = |group: &HostGroup| {
        group.status.as_ref().is_some_and(|status| status.conditions.iter().any(|one| one.reason == "InUse"))
    };
    bench.until_group("prod", "in use", in_use).await;
    for secret in ["prod-identity", "prod-known-hosts"] {
        bench.space.api::<Secret>().delete(secret, &Default::default()).await.unwrap();
    }
    bench.delete("shop").await;
    for i in 0..2 {
        assert_eq!(bench.hosts.host(i).sh(&format!("ls -d {} 2>/dev/null || true", bench.folder())).await, "");
        assert_eq!(bench.version_on(i).await, "");
    }
    until("gone: the group", || async { groups.get_opt("prod").await.unwrap().is_none() }).await;
}

/// U7, R19: not at once, and not without a word.
#[tokio::test]
async fn a_deployment_whose_group_is_gone_names_the_hosts_that_it_leaves_after_its_deadline() {
    let bench = Bench::new(1).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({ "deletionPolicy": "Remove", "progressDeadlineSeconds": 20 })).await;
    bench.until_deployed("v1").await;
    let groups = bench.space.api::<HostGroup>();
    groups.delete("prod", &Default::default()).await.unwrap();
    bench.patch::<HostGroup>("prod", json!({ "metadata": { "finalizers": null } })).await;
    bench.until("without its group", |object| is(object, "Ready", "HostGroupNotFound")).await;
    bench.deployments().delete("shop", &Default::default()).await.unwrap();
    let waits = bench.until("waits", |object| is(object, "Reconciling", "Removing")).await;
    let said = message(&waits);
    assert!(said.contains("web-01") && said.contains("HostGroup prod does not exist"), "{said}");
    assert!(said.contains("gives up"), "U11: {said}");
    until("gone", || async { bench.deployments().get_opt("shop").await.unwrap().is_none() }).await;
    let events = bench.space.api::<Event>().list(&Default::default()).await.unwrap();
    let left = events.items.iter().find(|event| event.reason.as_deref() == Some("LeftBehind"));
    let note = left.and_then(|event| event.note.clone()).unwrap_or_default();
    assert!(note.contains("web-01"), "{note}");
    assert_eq!(bench.version_on(0).await, "v1");
}

/// R19: what comes back within the deadline is cleaned after all.
#[tokio::test]
async fn a_group_that_comes_back_while_its_deployment_is_deleted_is_cleaned() {
    let bench = Bench::new(1).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({ "deletionPolicy": "Remove" })).await;
    bench.until_deployed("v1").await;
    let groups = bench.space.api::<HostGroup>();
    groups.delete("prod", &Default::default()).await.unwrap();
    bench.patch::<HostGroup>("prod", json!({ "metadata": { "finalizers": null } })).await;
    bench.until("without its group", |object| is(object, "Ready", "HostGroupNotFound")).await;
    bench.deployments().delete("shop", &Default::default()).await.unwrap();
    bench.until("waits", |object| is(object, "Reconciling", "Removing")).await;
    let group = bench.hosts.group(&bench.space.name, "prod").pop().unwrap();
    bench.create::<HostGroup>(group).await;
    until("gone", || async { bench.deployments().get_opt("shop").await.unwrap().is_none() }).await;
    assert_eq!(bench.hosts.host(0).sh(&format!("ls -d {} 2>/dev/null || true", bench.folder())).await, "");
}

#[tokio::test]
async fn where_nothing_changes_nothing_is_written() {
    let bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    let versions = || async {
        let group = bench.space.api::<HostGroup>().get("prod").await.unwrap();
        (group.metadata.resource_version, bench.get("shop").await.metadata.resource_version)
    };
    // Hosts are looked at every second all the time; what was to be said of them is said at some time.
    let rests = || async {
        let before = versions().await;
        tokio::time::sleep(Duration::from_secs(15)).await;
        versions().await == before
    };
    until("at rest for fifteen seconds", rests).await;
}

/// Phase and version of each host that the screen shows; each must be there once.
fn rows(screen: &str, hosts: usize) -> Vec<(String, String)> {
    let row = |i: usize| {
        let name = format!("  web-{:02} ", i + 1);
        let mut found = screen.lines().filter(|line| line.starts_with(&name));
        let line = found.next().unwrap_or_else(|| panic!("no row for{name}: {screen}"));
        assert!(found.next().is_none(), "two rows for{name}: {screen}");
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[1].to_owned(), words[2].to_owned())
    };
    (0..hosts).map(row).collect()
}

#[tokio::test]
async fn the_screen_shows_every_host_with_its_version_at_every_moment_of_a_rollout_and_after_a_failure() {
    let bench = Bench::new(3).await;
    bench.publish("v1", SERVES);
    bench.publish_waiting("v2");
    bench.publish("v3", &format!("[ -e /srv/bad ] && exit 3\n{SERVES}"));
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    assert_eq!(rows(&bench.screen().await, 3), vec![("Ready".to_owned(), "v1".to_owned()); 3]);
    bench.hosts.host(0).sh("touch /srv/go").await;
    bench.edit(json!({ "version": "v2", "minReadySeconds": 1 })).await;
    let (began, mut mixed) = (tokio::time::Instant::now(), 0);
    for moment in 0.. {
        let screen = bench.screen().await;
        let shown = rows(&screen, 3);
        for (phase, version) in &shown {
            let fits = match phase.as_str() {
                "Ready" => {
                    version == "v2"
                        || screen.contains("of the previous spec")
                        || screen.contains("version   v2 of project shop on host group prod\nstate     ready")
                }
                "Pending" | "Staging" | "Staged" => version == "v1",
                "Stopping" | "Switching" | "Starting" | "Verifying" => ["v1", "v2", "-"].contains(&version.as_str()),
                _ => false,
            };
            assert!(fits || moment == 0, "{phase} {version}: {screen}");
        }
        if shown.iter().any(|(_, v)| v == "v1") && shown.iter().any(|(_, v)| v == "v2") {
            mixed += 1;
        }
        // The middle lasts until it was seen.
        if mixed == 3 {
            for i in 1..3 {
                bench.hosts.host(i).sh("touch /srv/go").await;
            }
        }
        if shown.iter().all(|(phase, version)| phase == "Ready" && version == "v2") {
            break;
        }
        assert!(began.elapsed() < PATIENCE * 2, "{screen}");
    }

    bench.hosts.host(1).sh("touch /srv/bad").await;
    bench.edit(json!({ "version": "v3", "minReadySeconds": 0 })).await;
    bench.until("failed", |object| is(object, "Stalled", "HostsFailed")).await;
    let true_to_life = || async {
        let screen = bench.screen().await;
        let shown = rows(&screen, 3);
        let phases: Vec<&str> = shown.iter().map(|(phase, _)| phase.as_str()).collect();
        let mut fits = phases == ["Ready", "Failed", "Staged"] && screen.contains("the rollout is halted");
        for (i, (_, version)) in shown.iter().enumerate() {
            let runs = bench.version_on(i).await;
            fits &= version == if runs.is_empty() { "-" } else { &runs };
        }
        if fits { Ok(()) } else { Err(screen) }
    };
    find("on the screen as it is", true_to_life, |screen| screen).await;
}

#[tokio::test]
async fn four_hosts_that_fail_have_four_events_with_their_own_texts_and_a_log_line_each() {
    let bench = Bench::new(4).await;
    bench.publish("v1", &format!("{WAITS}echo no database $LANDFALL_HOST\nexit 3\n"));
    bench.publish("v2", SERVES);
    let all_at_once = json!({ "strategy": { "rollingUpdate": { "maxUnavailable": 4 } } });
    bench.deploy("v1", all_at_once).await;
    let verifies = |object: &Deployment| {
        let exceptions = object.status.iter().flat_map(|status| &status.exceptions);
        exceptions.filter(|one| one.phase == Phase::Verifying).count() == 4
    };
    bench.until("verifying all", verifies).await;
    for i in 0..4 {
        bench.hosts.host(i).sh("touch /srv/go").await;
    }
    bench.until("failed", |object| is(object, "Stalled", "HostsFailed")).await;
    let names = ["web-01", "web-02", "web-03", "web-04"];
    let each_once = |notes: &[String]| {
        names.iter().all(|host| {
            let own = |note: &&String| {
                note.starts_with(&format!("{host}: ")) && note.contains(&format!("no database {host}"))
            };
            notes.iter().filter(own).count() == 1
        })
    };
    let told = async || {
        let notes = events(&bench, "HostFailed").await;
        if notes.len() == 4 && each_once(&notes) { Ok(()) } else { Err(notes) }
    };
    find("an event of each host in its own words", told, |notes| format!("{notes:#?}")).await;
    bench.edit(json!({ "version": "v2" })).await;
    bench.until_deployed("v2").await;
    let begun = async || {
        let mut notes = events(&bench, "RolloutStarted").await;
        notes.sort();
        let own = |note: &String, id: &str| note.contains(&format!("rollout {id} of"));
        if notes.len() == 2 && own(&notes[0], "1.0") && own(&notes[1], "2.0") { Ok(()) } else { Err(notes) }
    };
    find("both rollouts have an event with their own id", begun, |notes| format!("{notes:#?}")).await;
    let log = bench.operator.output();
    let namespace = format!("namespace=\"{}\"", bench.space.name);
    for host in names {
        let host = format!("host=\"{host}\"");
        let fields = ["kind=\"Deployment\"", &namespace, "name=\"shop\"", &host];
        let named = |line: &str| fields.iter().all(|field| line.contains(field));
        assert!(log.lines().any(named), "no line names {fields:?}: {log}");
    }
}

async fn events(bench: &Bench, reason: &str) -> Vec<String> {
    let events =
        bench.space.api::<k8s_openapi::api::events::v1::Event>().list(&Default::default()).await.unwrap().items;
    events.into_iter().filter(|one| one.reason.as_deref() == Some(reason)).filter_map(|one| one.note).collect()
}

#[tokio::test]
async fn a_host_that_leaves_its_group_is_named_left_alone_and_not_dialled_any_more() {
    let mut bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    // Also an operator that never acted there knows it, from the owner file.
    bench.operator.restart().await;
    bench.until("looked at", |object| is(object, "Ready", "Deployed")).await;
    until("connected to both", || async { bench.connections() == [1, 1] }).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let only = json!([{ "name": "web-01", "address": bench.hosts.host(0).address }]);
    bench.patch::<HostGroup>("prod", json!({ "spec": { "hosts": only } })).await;
    bench.until("one host", |object| object.status.as_ref().is_some_and(|status| status.hosts.total == 1)).await;
    bench.until_deployed("v1").await;
    let let_go = || async { bench.connections() == [1, 0] && !events(&bench, "HostLeft").await.is_empty() };
    until("let go and told of", let_go).await;
    let said = events(&bench, "HostLeft").await;
    assert!(said.len() == 1 && said[0].contains("web-02"), "{said:?}");
    let log = "grep -c 'Connection from' /run/sshd.log";
    let before = bench.hosts.host(1).sh(log).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(bench.hosts.host(1).sh(log).await, before, "it is looked at no more");
    assert_eq!(bench.version_on(1).await, "v1", "what runs there goes on");
    assert_eq!(bench.starts(1).await.len(), 1);
}

#[tokio::test]
async fn a_process_that_ends_again_and_again_is_started_with_growing_pauses_without_an_end_across_operators() {
    let mut bench = Bench::new(1).await;
    bench.publish("v1", &format!("[ -e /srv/bad ] && {{ echo no database; sleep 1; exit 1; }}\n{SERVES}"));
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    // Starts for healing in this boot, some time ago: the host's own record, which a new operator reads.
    let host = bench.hosts.host(0).clone();
    let heals = format!("{}/.landfall/heals", bench.folder());
    let record = async |ago: &str| {
        let now = "B=$(cat /proc/sys/kernel/random/boot_id); IFS=. read -r U _ </proc/uptime";
        host.sh(&format!("{now}; for ago in {ago}; do echo \"$B $((U - ago)) 1\"; done >{heals}")).await;
    };
    bench.operator.kill9().await;
    record("400 380 340 320").await;
    host.sh("touch /srv/bad; pkill -x busybox").await;
    bench.operator.restart().await;
    let healing = bench
        .until("not healed", |object| {
            let said = exception(object, "web-01").is_some_and(|one| one.message.contains("ProcessDied"));
            said && is(object, "Ready", "Healing") && is(object, "Reconciling", "Healing")
        })
        .await;
    assert!(message(&healing).contains("no database"), "its last words: {}", message(&healing));
    let told = events(&bench, "ProcessDied").await;
    assert!(told.iter().any(|note| note.contains("web-01") && note.contains("no database")), "{told:?}");
    assert_eq!(bench.starts(0).await.len(), 2, "one start for healing, the fifth in a row");
    bench.operator.restart().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(bench.starts(0).await.len(), 2, "the next one waits 160 s");

    bench.operator.kill9().await;
    host.sh("rm /srv/bad").await;
    record("580 560 520 440 200").await;
    bench.operator.restart().await;
    bench.until_deployed("v1").await;
    assert_eq!(bench.version_on(0).await, "v1");
}

/// Three hosts on v1, of which one fails with v2.
async fn halted_after_one(bench: &Bench) {
    bench.publish("v1", SERVES);
    bench.publish("v2", &format!("[ -e /srv/bad ] && exit 3\n{SERVES}"));
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.hosts.host(1).sh("touch /srv/bad").await;
    bench.edit(json!({ "version": "v2" })).await;
    bench.until("failed", |object| is(object, "Stalled", "HostsFailed")).await;
}

#[tokio::test]
async fn going_back_after_a_failure_touches_only_hosts_that_differ_and_first_the_one_that_is_down() {
    let bench = Bench::new(3).await;
    halted_after_one(&bench).await;
    let seen = bench.recorded().await;
    bench.edit(json!({ "version": "v1" })).await;
    let done = bench.until_deployed("v1").await;
    assert_eq!(bench.starts(0).await, ["v1", "v2", "v1"]);
    assert_eq!(bench.starts(2).await, ["v1"], "a host that runs v1 all the time is not touched");
    for i in 0..3 {
        assert_eq!(bench.version_on(i).await, "v1");
    }
    let updating = |object: &Deployment, host: &str| {
        let rollout = object.status.as_ref().and_then(|status| status.rollout.as_ref());
        let intent = rollout.filter(|rollout| rollout.version == "v1").and_then(|rollout| rollout.intent.as_ref());
        intent.is_some_and(|intent| intent.updating.iter().any(|name| name == host))
    };
    let order: Vec<&str> = seen
        .states()
        .iter()
        .filter_map(|object| ["web-01", "web-02"].into_iter().find(|host| updating(object, host)))
        .collect();
    assert_eq!(order.first(), Some(&"web-02"), "the one that is down goes first: {order:?}");
    let changes: Vec<_> = done.status.unwrap().history.iter().map(|entry| entry.change.unwrap()).collect();
    assert_eq!(changes, [HistoryChange::Version; 3]);
}

#[tokio::test]
async fn an_environment_that_is_taken_back_restarts_nothing_that_ran_with_it() {
    let bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({ "env": [{ "name": "COLOUR", "value": "red" }] })).await;
    bench.until_deployed("v1").await;
    bench.edit(json!({ "paused": true, "env": [{ "name": "COLOUR", "value": "blue" }] })).await;
    let paused = bench.until("paused", |object| is(object, "Reconciling", "Paused")).await;
    assert!(message(&paused).contains("0 of 2 hosts run v1 with the new environment"), "{}", message(&paused));
    bench.edit(json!({ "paused": false, "env": [{ "name": "COLOUR", "value": "red" }] })).await;
    bench.until_deployed("v1").await;
    bench.stamp("landfall.dev/redeploy", "once").await;
    let done = bench
        .until("redeployed", |object| {
            let rollout = object.status.as_ref().and_then(|status| status.rollout.as_ref());
            rollout.is_some_and(|rollout| rollout.id == "3.1") && is(object, "Ready", "Deployed")
        })
        .await;
    for i in 0..2 {
        assert_eq!(bench.starts(i).await.len(), 2, "once at first, once for the redeploy");
    }
    let changes: Vec<_> = done.status.unwrap().history.iter().map(|entry| entry.change.unwrap()).collect();
    let expected =
        [HistoryChange::Redeploy, HistoryChange::Environment, HistoryChange::Environment, HistoryChange::Version];
    assert_eq!(changes, expected);
}

#[tokio::test]
async fn unreachable_hosts_use_up_max_unavailable_until_one_is_suspended() {
    let bench = Bench::new(3).await;
    bench.publish("v1", SERVES);
    bench.publish("v2", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.hosts.host(2).cut().await;
    bench.until("unreachable", |object| is(object, "Ready", "HostsUnreachable")).await;
    bench.edit(json!({ "version": "v2" })).await;
    let held = bench
        .until("held back", |object| {
            is(object, "Ready", "HostsUnreachable") && message(object).contains("maxUnavailable 1 is used up by web-03")
        })
        .await;
    assert!(message(&held).contains("landfall.dev/suspend-host=web-03"), "{}", message(&held));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.starts(0).await, ["v1"], "nobody else is taken down");
    let stamp = json!({ "metadata": { "annotations": { "landfall.dev/suspend-host": "web-03" } } });
    bench.patch::<HostGroup>("prod", stamp).await;
    let done = bench.until_deployed("v2").await;
    let counts = done.status.unwrap().hosts;
    assert_eq!((counts.total, counts.ready, counts.skipped, counts.unreachable), (2, 2, 1, 0));
    bench.hosts.host(2).mend().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.starts(2).await, ["v1"], "a suspended host is left alone");
    let stamp = json!({ "metadata": { "annotations": { "landfall.dev/resume-host": "web-03" } } });
    bench.patch::<HostGroup>("prod", stamp).await;
    until("brought along", || async { bench.version_on(2).await == "v2" }).await;
}

#[tokio::test]
async fn a_retry_after_not_ready_starts_the_process_anew() {
    let bench = Bench::new(1).await;
    let waits = "[ -e /srv/go ] || sleep 1000\n";
    bench.publish_with(
        "v1",
        &format!("{waits}{SERVES}"),
        json!({ "httpGet": { "port": 8080, "path": "/version" } }),
        json!({ "healthyDeadlineSeconds": 3 }),
    );
    bench.deploy("v1", json!({})).await;
    let failed = bench.until("failed", |object| is(object, "Stalled", "HostsFailed")).await;
    assert_eq!(exception(&failed, "web-01").unwrap().reason, "NotReady");
    bench.hosts.host(0).sh("touch /srv/go").await;
    bench.stamp("landfall.dev/retry", "1").await;
    bench.until_deployed("v1").await;
    assert_eq!(bench.starts(0).await.len(), 2);
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
        journal.lines().filter(|line| line.contains(&format!(" {word} turn "))).count()
    };
    until("stopping", || async { turns("begin").await == 2 }).await;
    let asked = tokio::time::Instant::now();
    let status = bench.operator.stop().await;
    // So long a cluster waits before it kills.
    assert!(status.success() && asked.elapsed() < Duration::from_secs(30), "{status} after {:?}", asked.elapsed());
    let leases = bench.space.api::<k8s_openapi::api::coordination::v1::Lease>();
    let holder = leases.get("landfall").await.unwrap().spec.unwrap().holder_identity;
    assert_eq!(holder.as_deref(), Some(""), "the lease was given back");
    assert_eq!((turns("begin").await, turns("end").await), (2, 1), "the step goes on without it");
    bench.operator.restart().await;
    bench.hosts.host(0).sh("touch /srv/enough").await;
    bench.until_deployed("v2").await;
    let journal = bench.hosts.host(0).sh(&journal).await;
    let turns = |word: &str| journal.lines().filter(|line| line.contains(&format!(" {word} turn "))).count();
    assert_eq!((turns("begin"), turns("end"), turns("fail")), (2, 2, 0), "{journal}");
    assert_eq!(bench.starts(0).await, ["v1", "v2"]);
}

#[tokio::test]
async fn logs_of_as_many_rollouts_as_the_history_has_are_kept_and_none_when_the_deployment_is_gone() {
    let mut bench = Bench::new(1).await;
    for version in ["v1", "v2", "v3", "v4"] {
        bench.publish(version, SERVES);
    }
    let uid = bench.deploy("v1", json!({ "revisionHistoryLimit": 2 })).await.uid().unwrap();
    bench.until_deployed("v1").await;
    let (sealed, open) =
        (bench.operator.data.join("store/logs").join(&uid), bench.operator.data.join("rollouts").join(&uid));
    for version in ["v2", "v3"] {
        bench.edit(json!({ "version": version })).await;
        bench.until_deployed(version).await;
    }
    bench.operator.kill9().await;
    bench.edit(json!({ "version": "v4" })).await;
    bench.operator.restart().await;
    bench.until_deployed("v4").await;
    let both = |one: &str, other: &str| [one.to_owned(), other.to_owned()];
    eventually("of the history's two rollouts", || names(&sealed) == ["3.0.1"] && names(&open) == ["4.0.1"]).await;
    bench.stamp("landfall.dev/redeploy", "once more").await;
    eventually("a redeploy is a rollout", || [names(&sealed), names(&open)].concat() == both("4.0.1", "4.1.1")).await;
    bench.delete("shop").await;
    eventually("nothing left", || !sealed.exists() && !open.exists()).await;
}

async fn eventually(what: &str, so: impl Fn() -> bool) {
    until(what, || async { so() }).await;
}
