//! Who may act on a host: two real control planes that claim one, a control plane that was restored from a backup, one machine under two
//! names, and a host that was released and comes back.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use crate::support::{
    hosts::Hosts,
    plane::{self, Dev, Operator},
    rollout::{Bench, SERVES, is, message},
    wait::until,
};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{Api, ResourceExt};
use landfall::api::{Deployment, HostGroup};
use serde_json::json;

/// Everything that a controller could have done to a project on a host, with its time.
async fn traces(bench: &Bench, host: usize) -> String {
    let folder = bench.folder();
    let script = format!(
        "cd {folder} && find . -path ./shared -prune -o -printf '%p %T@\\n' | sort; cat .landfall/journal .landfall/fence"
    );
    bench.hosts.host(host).sh(&script).await
}

#[tokio::test]
async fn of_two_control_planes_the_second_touches_nothing_until_a_person_says_adopt() {
    let (first, dev) = tokio::join!(Bench::new(2), Dev::start(&["--ephemeral", "--no-operator"]));
    first.publish("v1", SERVES);
    first.deploy("v1", json!({})).await;
    first.until_deployed("v1").await;

    let space = plane::named_namespace_on(dev.client().await, &first.space.name).await;
    let operator = Operator::of(&[&space.name]).kubeconfig(&dev.operator_kubeconfig()).start().await;
    let second = Bench::of(space, first.hosts.clone(), operator).await;
    second.publish("v2", SERVES);
    let before = [traces(&first, 0).await, traces(&first, 1).await];
    second.deploy("v2", json!({})).await;
    let refused = second.until("refused", |object| is(object, "Stalled", "FencedByOtherControlPlane")).await;
    let theirs = Api::<Namespace>::all(first.space.client.clone()).get("kube-system").await.unwrap().uid().unwrap();
    assert!(message(&refused).contains(&format!("landfall.dev/adopt={theirs}")), "{}", message(&refused));
    assert!(message(&refused).contains(&format!("Deployment {}/shop", first.space.name)), "{}", message(&refused));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!([traces(&first, 0).await, traces(&first, 1).await], before, "the second one touched something");
    first.until_deployed("v1").await;

    second.stamp("landfall.dev/adopt", &theirs).await;
    second.until_deployed("v2").await;
    for i in 0..2 {
        assert_eq!(second.version_on(i).await, "v2");
        assert_eq!(second.starts(i).await, ["v1", "v2"]);
    }
    // The first one sees it, says so, and does not take them back.
    first.until("refused", |object| is(object, "Stalled", "FencedByOtherControlPlane")).await;
    let after = [traces(&second, 0).await, traces(&second, 1).await];
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!([traces(&second, 0).await, traces(&second, 1).await], after);
    second.until_deployed("v2").await;
    dev.stop().await;
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[tokio::test]
async fn a_restored_control_plane_waits_for_adopt() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("dev");
    let flags = ["--no-operator", "--data-dir", data.to_str().unwrap()];
    let (dev, hosts) = tokio::join!(Dev::start(&flags), Hosts::up(1));
    let space = plane::named_namespace_on(dev.client().await, "shop-team").await;
    let operator = Operator::of(&[&space.name]).kubeconfig(&dev.operator_kubeconfig()).start().await;
    let mut bench = Bench::of(space, Arc::new(hosts), operator).await;
    bench.publish("v1", SERVES);
    bench.publish("v2", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;

    // The backup: the control plane's data and the store.
    bench.operator.stop().await;
    dev.stop().await;
    copy(&data, &folder.path().join("backup"));
    copy(&bench.operator.data.join("store"), &folder.path().join("store"));
    let dev = Dev::start(&flags).await;
    bench.space.client = dev.client().await;
    bench.operator.restart().await;
    bench.edit(json!({ "version": "v2" })).await;
    bench.until_deployed("v2").await;

    // The disaster.
    bench.operator.kill9().await;
    dev.stop().await;
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(folder.path().join("backup"), &data).unwrap();
    std::fs::remove_dir_all(bench.operator.data.join("store")).unwrap();
    std::fs::rename(folder.path().join("store"), bench.operator.data.join("store")).unwrap();
    let dev = Dev::start(&flags).await;
    bench.space.client = dev.client().await;
    let before = traces(&bench, 0).await;
    bench.operator.restart().await;
    let ahead = bench.until("ahead", |object| is(object, "Stalled", "HostsAhead")).await;
    assert_eq!(ahead.spec.version, "v1", "the backup knows of v1 only");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(traces(&bench, 0).await, before, "nothing was done");
    assert_eq!(bench.version_on(0).await, "v2");
    let ours = Api::<Namespace>::all(bench.space.client.clone()).get("kube-system").await.unwrap().uid().unwrap();
    assert!(message(&ahead).contains(&format!("landfall.dev/adopt={ours}")), "{}", message(&ahead));

    bench.stamp("landfall.dev/adopt", &ours).await;
    let done = bench.until_deployed("v1").await;
    assert_eq!(done.status.unwrap().revision, Some(3), "no number is given twice");
    assert_eq!(bench.version_on(0).await, "v1");
    assert_eq!(bench.starts(0).await, ["v1", "v2", "v1"]);
    dev.stop().await;
}

#[tokio::test]
async fn one_machine_under_two_addresses_is_found_out_and_deployed_to_once() {
    let bench = Bench::new(1).await;
    let host = bench.hosts.host(0);
    let mut parts: Vec<u8> = host.address.split('.').map(|part| part.parse().unwrap()).collect();
    parts[3] = 200;
    let alias = parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(".");
    host.sh(&format!("ip addr add {alias}/22 dev eth0")).await;
    let known = bench.hosts.known_hosts();
    let known = known.clone() + &known.replace(&host.address, &alias);
    bench.patch::<Secret>("prod-known-hosts", json!({ "stringData": { "known_hosts": known } })).await;
    let both = json!([{ "name": "web-01", "address": host.address }, { "name": "web-02", "address": alias }]);
    bench.patch::<HostGroup>("prod", json!({ "spec": { "hosts": both } })).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({ "hosts": { "names": ["web-01"] } })).await;
    bench.until_deployed("v1").await;
    assert_eq!(owner_on(&bench, 0).await, "web-01", "its claim was given up under the second name");
    bench.edit(json!({ "hosts": null })).await;
    let refused = bench.until("refused", |object| is(object, "Stalled", "HostClaimed")).await;
    assert!(message(&refused).contains("same machine as host web-01"), "{}", message(&refused));
    assert_eq!(bench.starts(0).await, ["v1"]);
}

/// A project's folder on a host as another control plane would have left it.
async fn is_taken(bench: &Bench, i: usize) {
    let files = format!("{0}/.landfall/owner {0}/.landfall/fence", bench.folder());
    let script = format!(
        "P=$(grep -o '\"epoch\":\"[^\"]*' {}/.landfall/fence | cut -d'\"' -f4 | sed 's/^2://'); sed -i \"s/$P/plane-elsewhere/\" {files}",
        bench.folder()
    );
    bench.hosts.host(i).sh(&script).await;
}

#[tokio::test]
async fn one_host_of_another_control_plane_is_set_aside_and_two_of_three_stop_everything() {
    let bench = Bench::new(3).await;
    for version in ["v1", "v2", "v3"] {
        bench.publish(version, SERVES);
    }
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    is_taken(&bench, 2).await;
    let aside = |object: &Deployment| is(object, "Stalled", "FencedByOtherControlPlane");
    bench.until("set aside", aside).await;
    let before = traces(&bench, 2).await;
    bench.edit(json!({ "version": "v2" })).await;
    let ready = |object: &Deployment, n| object.status.as_ref().is_some_and(|status| status.hosts.ready == n);
    let others = bench.until("the others", |object| aside(object) && ready(object, 2)).await;
    assert!(message(&others).contains("web-03") && message(&others).contains("set aside"), "{}", message(&others));
    assert_eq!([bench.version_on(0).await, bench.version_on(1).await], ["v2", "v2"]);
    assert_eq!(traces(&bench, 2).await, before, "it is not touched");

    is_taken(&bench, 1).await;
    bench.until("nothing goes on", |object| aside(object) && !message(object).contains("set aside")).await;
    bench.edit(json!({ "version": "v3" })).await;
    bench.until("nothing goes on", aside).await;
    assert_eq!(bench.starts(0).await, ["v1", "v2"], "also not on the host that is ours");
    bench.stamp("landfall.dev/adopt", "plane-elsewhere").await;
    bench.until_deployed("v3").await;
    assert_eq!(bench.starts(2).await, ["v1", "v3"]);
}

/// The host that the owner file names; empty without one.
async fn owner_on(bench: &Bench, host: usize) -> String {
    let owner = bench.hosts.host(host).sh(&format!("cat {}/.landfall/owner 2>/dev/null || true", bench.folder())).await;
    let owner: serde_json::Value = serde_json::from_str(&owner).unwrap_or_default();
    owner["host"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_released_host_that_comes_back_is_claimed_again_and_not_updated() {
    let bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.edit(json!({ "hosts": { "names": ["web-01"] } })).await;
    until("released", || async { owner_on(&bench, 1).await.is_empty() }).await;
    bench.until_deployed("v1").await;
    let mark = || async { bench.hosts.host(1).sh(&format!("cat {}/.landfall/state", bench.folder())).await };
    let ready = mark().await;
    bench.edit(json!({ "hosts": null })).await;
    until("claimed again", || async { owner_on(&bench, 1).await == "web-02" }).await;
    let done = bench.until_deployed("v1").await;
    assert_eq!(done.status.unwrap().history.len(), 1, "a claim is no rollout");
    assert_eq!((mark().await, bench.starts(1).await), (ready, vec!["v1".to_owned()]), "the process is left as it is");
}
