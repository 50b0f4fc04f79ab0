//! What watches and lists tell: F05 (the 410), F06, F07, F08.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use landfall::api::{Deployment, HostGroup};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    control_plane::chance,
    control_plane::story::Story,
    support::{plane, proxy::RetryState},
};

/// F06
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_died_silently_is_noticed_within_a_minute() {
    let story = Story::new("silent").await;
    story.first().await;
    story.commit("two");
    story.proxy.silence_watches();
    let silent = Instant::now();
    story.build("shop-2").await;
    story.built("shop-2").await;
    println!("silent: built {} s after the watches died", silent.elapsed().as_secs());
    story.patch::<Deployment>("shop", json!({ "spec": { "version": "v2" } })).await;
    story.deployed("v2").await;
    // Of those one is for the watches, the other for all that is done on a machine with much else to do.
    assert!(silent.elapsed() < Duration::from_secs(120), "{:?}", silent.elapsed());
    story.is_right().await;
}

/// F07
#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_lost_repeated_and_out_of_order_lead_to_the_same_end() {
    let story = Story::on(&plane::kubeconfig().await, "lossy", |plan| plan.flag("--resync-seconds=4")).await;
    let mut rng = chance("lossy");
    story.proxy.rule(move |call| match call.verb {
        "watch" => RetryState::Lines(lossy(StdRng::from_rng(&mut rng))),
        _ => RetryState::Pass,
    });
    story.first().await;
    story.second().await;
    story.is_right().await;
}

/// One of four lines is lost, one of four comes twice, one of four comes after the next one.
fn lossy(mut rng: StdRng) -> Box<dyn FnMut(Bytes) -> Vec<Bytes> + Send> {
    let mut late: Option<Bytes> = None;
    Box::new(move |line| {
        let mut now = match rng.random_range(0..4) {
            0 => vec![],
            1 => vec![line.clone(), line],
            2 if late.is_none() => {
                late = Some(line);
                return vec![];
            }
            _ => vec![line],
        };
        now.extend(late.take());
        now
    })
}

/// F05: the watch is told that its place in history is gone; what was deleted meanwhile shows by its absence alone.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_410_what_was_deleted_unseen_is_found_by_the_list() {
    let story = Story::new("gone").await;
    story.first().await;
    // Nothing is told any more; then 410, at every watch's next line.
    story.proxy.silence_watches();
    let groups = story.space.api::<HostGroup>();
    groups.delete("prod", &DeleteParams::default()).await.unwrap();
    // A group in use is held; somebody takes the finalizer off by hand.
    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    groups.patch("prod", &PatchParams::default(), &free).await.unwrap();
    let expired = json!({ "type": "ERROR", "object": {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410,
    }});
    story.proxy.expire_watches(format!("{expired}\n").into());
    // The group's hosts are not dialled any more, and the Deployment says what is missing.
    story
        .until::<Deployment>("shop", "missed its group", |object| {
            object["status"]["conditions"].to_string().contains("HostGroupNotFound")
        })
        .await;
    story.group().await;
    story.deployed("v1").await;
    story.second().await;
    story.is_right().await;
}

/// F08: an operator that starts anew is told what was true some time ago, by lists and watches alike.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_on_a_list_of_yesterday() {
    let mut story = Story::new("stale").await;
    story.first().await;
    let lists: Arc<Mutex<HashMap<String, Bytes>>> = Arc::default();
    let kept = lists.clone();
    story.proxy.record(move |call, body| {
        if call.is_watchers_list() {
            kept.lock().unwrap().insert(call.resource.clone(), body.clone());
        }
    });
    story.operator.restart().await;
    story.until_true("listed", || lists.lock().unwrap().len() == 4).await;
    story.proxy.record(|_, _| {});
    story.ask_for_second().await;
    story.half_deployed("v2").await;

    let stale = lists.lock().unwrap().clone();
    story.proxy.rule(move |call| match (call.verb, stale.get(&call.resource)) {
        ("list", Some(body)) if call.is_watchers_list() => RetryState::Serve(body.clone()),
        ("watch", _) => RetryState::Lines(Box::new(|_| vec![])),
        _ => RetryState::Pass,
    });
    story.operator.restart().await;
    story.deployed("v2").await;
    story.is_right().await;
}

/// F14
#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_a_thousand_hosts_stays_far_below_what_an_object_may_weigh() {
    let space = plane::namespace("thousand").await;
    let operator = plane::Operator::start(&[&space.name]).await;
    let hosts: Vec<Value> = (0..1000)
        .map(|i| {
            let name = format!("a-host-with-a-name-as-long-as-names-of-machines-may-be-{i:07}");
            // Nobody listens there: each is refused at once.
            let address = format!("127.77.{}.{}", i / 200, i % 200 + 1);
            json!({ "name": name, "address": address, "labels": { "zone": "a", "rack": format!("rack-{}", i / 40) } })
        })
        .collect();
    let group = crate::support::hosts::Hosts::up(1).await.group(&space.name, "big");
    for mut object in group {
        if object["kind"] == "HostGroup" {
            object["spec"]["ssh"]["port"] = json!(1);
            object["spec"]["hosts"] = json!(hosts);
            let object: HostGroup = serde_json::from_value(object).unwrap();
            space.api::<HostGroup>().create(&PostParams::default(), &object).await.unwrap();
        } else {
            let object = serde_json::from_value(object).unwrap();
            space.api::<k8s_openapi::api::core::v1::Secret>().create(&PostParams::default(), &object).await.unwrap();
        }
    }
    let api: Api<HostGroup> = space.api();
    let all = |group: &HostGroup| group.status.as_ref().is_some_and(|status| status.hosts.unreachable == 1000);
    let group = serde_json::to_value(operator.until(&api, "big", "looked at", all).await).unwrap();
    let (whole, status) = (group.to_string().len(), group["status"].to_string().len());
    println!("thousand: the object has {whole} bytes, its status {status}");
    assert_eq!(group["status"]["exceptions"].as_array().unwrap().len(), 100);
    assert!(whole < 700_000 && status < 64_000, "{whole} {status}");
    assert!(operator.is_running());
}
