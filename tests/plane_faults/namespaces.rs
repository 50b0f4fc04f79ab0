//! Namespaces that are deleted under an operator that is limited to them (F12): its lease goes with them, and its right to it.

use std::time::Duration;

use k8s_openapi::api::{coordination::v1::Lease, core::v1::Namespace};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use landfall::api::{Build, FINALIZER, Project};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    story::{Story, processes},
    support::plane,
};

/// F12, where the operator's lease lies in the namespace that goes, and its right to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_with_the_operators_own_lease_goes_and_the_operator_goes_on_in_the_others() {
    let admin = plane::kubeconfig().await;
    let other = plane::namespace("staying").await;
    let mut story = Story::on(&admin, "leaving", |plan| plan.namespace(&other.name)).await;
    story.first().await;
    story.ask_for_second().await;
    story.half_deployed("v2").await;
    gone(&story, &story.space.name).await;
    for host in story.hosts.all() {
        assert_eq!(processes(host).await, "1", "left running");
        let starts = host.sh("cat /srv/starts").await;
        assert!(starts == "v1\n" || starts == "v1\nv2\n", "{starts}");
    }
    assert!(story.operator.is_running(), "{}", story.operator.output());
    let project = json!({
        "apiVersion": "landfall.dev/v1alpha1", "kind": "Project", "metadata": { "name": "shop" },
        "spec": {
            "source": { "url": "https://git.invalid/shop.git" },
            "build": { "script": "true", "artifacts": [{ "path": "app" }] },
            "run": { "process": { "command": ["./app"] } },
        },
    });
    let project: Project = serde_json::from_value(project).unwrap();
    other.api::<Project>().create(&PostParams::default(), &project).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while other.api::<Project>().get("shop").await.unwrap().status.is_none_or(|status| status.observed_generation < 1) {
        assert!(Instant::now() < deadline, "{}", story.operator.output());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // One that went while no operator ran: nobody ever had a lease in it that could be had again.
    story.operator.kill9().await;
    let build = json!({
        "apiVersion": "landfall.dev/v1alpha1", "kind": "Build",
        "metadata": { "name": "shop-1", "finalizers": [FINALIZER] },
        "spec": { "projectRef": { "name": "shop" }, "revision": "main" },
    });
    let build: Build = serde_json::from_value(build).unwrap();
    other.api::<Build>().create(&PostParams::default(), &build).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(other.client.clone());
    namespaces.delete(&other.name, &DeleteParams::default()).await.unwrap();
    let leases: Api<Lease> = other.api();
    while leases.get_opt("landfall").await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    story.operator.restart().await;
    gone(&story, &other.name).await;
}

/// Deletes a namespace, and waits for the end of it.
async fn gone(story: &Story, name: &str) {
    let namespaces: Api<Namespace> = Api::all(story.space.client.clone());
    let _ = namespaces.delete(name, &DeleteParams::default()).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Some(namespace) = namespaces.get_opt(name).await.unwrap() {
        assert!(Instant::now() < deadline, "{:#?}\n{}", namespace.status, story.operator.output());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
