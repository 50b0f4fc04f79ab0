//! HostGroups by a real operator against real hosts: who answers, who does not and why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use landfall::api::{HostGroup, hostgroup::HostException};
use serde_json::json;
use support::rollout::{Bench, SERVES};

async fn until(bench: &Bench, what: &str, fits: impl Fn(&HostGroup) -> bool) -> HostGroup {
    let mut last = None;
    for _ in 0..300 {
        let group = bench.space.api::<HostGroup>().get("prod").await.unwrap();
        if fits(&group) {
            return group;
        }
        last = Some(group);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never {what}: {:#?}\n{}", last.unwrap().status, bench.operator.output());
}

fn is(group: &HostGroup, kind: &str, reason: &str) -> bool {
    let Some(status) = &group.status else { return false };
    let current = Some(status.observed_generation) == group.metadata.generation;
    current && status.conditions.iter().any(|one| one.type_ == kind && one.reason == reason && one.status != "Unknown")
}

fn exception<'a>(group: &'a HostGroup, host: &str) -> Option<&'a HostException> {
    group.status.as_ref()?.exceptions.iter().find(|one| one.host == host)
}

fn reason(group: &HostGroup, host: &str) -> String {
    exception(group, host).map(|one| one.reason.clone()).unwrap_or_default()
}

#[tokio::test]
async fn hosts_that_do_not_answer_are_counted_and_named_and_the_group_is_ready_all_the_same() {
    let bench = Bench::new(4).await;
    until(&bench, "ready", |group| is(group, "Ready", "Probed")).await;
    bench.hosts.host(0).cut().await;
    bench.hosts.host(1).rekey().await;
    bench.hosts.host(1).hangup().await;
    bench.hosts.host(2).mute().await;
    bench.hosts.host(2).hangup().await;
    let group = until(&bench, "listed", |group| {
        let reasons = ["web-01", "web-02", "web-03"].map(|host| reason(group, host));
        reasons == ["Unreachable", "HostKeyMismatch", "Unreachable"]
    })
    .await;
    assert!(is(&group, "Ready", "Probed"));
    let counts = &group.status.as_ref().unwrap().hosts;
    assert_eq!((counts.total, counts.reachable, counts.unreachable), (4, 1, 3));
    let changed = exception(&group, "web-02").unwrap();
    assert!(changed.message.matches("SHA256:").count() >= 2, "both fingerprints: {}", changed.message);
    for i in [0, 2] {
        bench.hosts.host(i).mend().await;
    }
    until(&bench, "back", |group| group.status.as_ref().unwrap().hosts.reachable == 3).await;
}

#[tokio::test]
async fn a_wrong_user_key_is_said_and_a_right_one_heals() {
    let bench = Bench::new(1).await;
    until(&bench, "ready", |group| is(group, "Ready", "Probed")).await;
    let wrong = json!({ "stringData": { "identity": bench.hosts.stranger_identity() } });
    bench.patch::<Secret>("prod-identity", wrong).await;
    // The new value is taken with the next look at the Secret.
    bench.patch::<HostGroup>("prod", json!({ "spec": { "env": [{ "name": "A", "value": "1" }] } })).await;
    until(&bench, "refused", |group| reason(group, "web-01") == "AuthenticationFailed").await;
    let right = json!({ "stringData": { "identity": bench.hosts.identity() } });
    bench.patch::<Secret>("prod-identity", right).await;
    bench.patch::<HostGroup>("prod", json!({ "spec": { "env": [{ "name": "A", "value": "2" }] } })).await;
    until(&bench, "healed", |group| reason(group, "web-01").is_empty() && is(group, "Ready", "Probed")).await;
}

#[tokio::test]
async fn secrets_that_are_missing_or_not_meant_for_this_are_waited_for() {
    let bench = Bench::new(1).await;
    until(&bench, "ready", |group| is(group, "Ready", "Probed")).await;
    let label = |value: &str| json!({ "metadata": { "labels": { "landfall.dev/use": value } } });
    bench.patch::<Secret>("prod-identity", label("git")).await;
    bench.patch::<HostGroup>("prod", json!({ "spec": { "env": [{ "name": "A", "value": "1" }] } })).await;
    let group = until(&bench, "refused", |group| is(group, "Ready", "SecretNotForThis")).await;
    assert!(is(&group, "Reconciling", "SecretNotForThis"));
    bench.patch::<Secret>("prod-identity", label("ssh")).await;
    until(&bench, "healed", |group| is(group, "Ready", "Probed")).await;
}

#[tokio::test]
async fn two_hosts_with_one_address_are_refused() {
    let bench = Bench::new(1).await;
    let address = bench.hosts.host(0).address.clone();
    let hosts = json!([{ "name": "a", "address": address }, { "name": "b", "address": address }]);
    bench.patch::<HostGroup>("prod", json!({ "spec": { "hosts": hosts } })).await;
    let group = until(&bench, "refused", |group| is(group, "Stalled", "DuplicateAddress")).await;
    let message = &group.status.as_ref().unwrap().conditions[0].message;
    assert!(message.contains("hosts a and b"), "{message}");
}

#[tokio::test]
async fn a_group_says_which_versions_run_and_refresh_looks_at_once() {
    let bench = Bench::new(2).await;
    bench.patch::<HostGroup>("prod", json!({ "spec": { "probe": { "periodSeconds": 3600 } } })).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    let group = until(&bench, "versions", |group| {
        group.status.as_ref().is_some_and(|status| {
            status.projects.first().and_then(|project| project.versions.first()).is_some_and(|one| one.hosts == 2)
        })
    })
    .await;
    let project = &group.status.as_ref().unwrap().projects[0];
    assert_eq!((project.project.as_str(), project.versions[0].version.as_str()), ("shop", "v1"));
    bench.hosts.host(0).refuse().await;
    bench.hosts.host(0).hangup().await;
    let stamp = json!({ "metadata": { "annotations": { "landfall.dev/refresh": "1" } } });
    bench.patch::<HostGroup>("prod", stamp).await;
    until(&bench, "looked", |group| reason(group, "web-01") == "Unreachable").await;
}

#[tokio::test]
async fn a_host_that_lacks_a_tool_is_named_with_the_tool() {
    let bench = Bench::new(1).await;
    bench.hosts.host(0).sh("mount --bind /dev/null /usr/bin/setsid").await;
    let group = until(&bench, "unsupported", |group| reason(group, "web-01") == "HostUnsupported").await;
    assert!(exception(&group, "web-01").unwrap().message.contains("setsid"));
}

#[tokio::test]
async fn a_group_that_went_and_came_back_is_looked_at_at_once() {
    let bench = Bench::new(1).await;
    bench.patch::<HostGroup>("prod", json!({ "spec": { "probe": { "periodSeconds": 3600 } } })).await;
    let mut group = until(&bench, "ready", |group| is(group, "Ready", "Probed")).await;
    let api = bench.space.api::<HostGroup>();
    api.delete("prod", &Default::default()).await.unwrap();
    group.metadata.resource_version = None;
    group.metadata.uid = None;
    group.status = None;
    api.create(&Default::default(), &group).await.unwrap();
    // Far less than the period of the watcher that was there before.
    until(&bench, "ready again", |group| is(group, "Ready", "Probed")).await;
}
