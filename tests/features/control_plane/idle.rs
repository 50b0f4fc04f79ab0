//! What an idle operator costs the API server.

use std::{collections::BTreeMap, time::Duration};

use kube::api::PostParams;
use landfall::api::{Build, HostGroup, Project};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    control_plane::story::{Object, Story},
    support::plane,
};

/// As the design has it: so many requests a second, at most. Measured: twelve a minute for lease and watches, and three for each group's
/// Secrets every ten minutes.
const GOAL: f64 = 0.3;
const WINDOW: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of two minutes: cargo test --test features control_plane::idle -- --ignored --nocapture"]
async fn an_idle_operator_with_a_hundred_objects_asks_the_api_server_almost_nothing() {
    let story = Story::on(&plane::kubeconfig().await, "idle", |plan| plan.flag("--lease-seconds=15")).await;
    story.first().await;
    let project = serde_json::to_value(story.space.api::<Project>().get("shop").await.unwrap()).unwrap();
    let group = serde_json::to_value(story.space.api::<HostGroup>().get("prod").await.unwrap()).unwrap();
    for n in 0..19 {
        let mut spec = project["spec"].clone();
        spec["source"]["interval"] = json!("20s");
        make::<Project>(&story, &format!("project-{n}"), spec).await;
    }
    for n in 0..9 {
        make::<HostGroup>(&story, &format!("group-{n}"), group["spec"].clone()).await;
    }
    for n in 0..68 {
        let project = format!("project-{}", n % 19);
        let spec = json!({ "projectRef": { "name": project }, "revision": "main", "cancelled": true });
        make::<Build>(&story, &format!("build-{n}"), spec).await;
    }
    // Until everything that is to be said of them is said.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let then = Instant::now();
        tokio::time::sleep(Duration::from_secs(4)).await;
        if story.proxy.writes_since(then).is_empty() {
            break;
        }
        assert!(then < deadline, "{:#?}", story.proxy.writes_since(then));
    }
    let then = Instant::now();
    tokio::time::sleep(WINDOW).await;
    let calls: Vec<_> = story.proxy.calls().into_iter().filter(|call| call.at >= then).collect();
    let mut by = BTreeMap::<String, usize>::new();
    for call in &calls {
        *by.entry(format!("{} {}", call.verb, call.resource)).or_default() += 1;
    }
    let rate = calls.len() as f64 / WINDOW.as_secs_f64();
    println!("idle: {rate:.2} requests a second with 100 objects: {by:?}");
    assert!(story.proxy.writes_since(then).is_empty(), "{by:?}");
    assert!(rate <= GOAL, "{rate:.2} requests a second: {by:#?}");
}

async fn make<K: Object>(story: &Story, name: &str, spec: Value) {
    let object = json!({ "metadata": { "name": name }, "spec": spec });
    let object: K = serde_json::from_value(object).unwrap();
    story.space.api::<K>().create(&PostParams::default(), &object).await.unwrap();
}
