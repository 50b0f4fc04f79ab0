//! Namespaces that are deleted under an operator that is limited to them (F12): its lease goes with them, and its right to it.

use crate::{
    control_plane::story::{Story, processes},
    support::{
        plane,
        wait::{find, until},
    },
};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Namespace};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use landfall::api::{Build, FINALIZER, Project};
use serde_json::json;

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
    let decided = |project: &Project| project.status.as_ref().is_some_and(|status| status.observed_generation == 1);
    story.operator.until(&other.api(), "shop", "decided on", decided).await;

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
    until("gone: the lease", || async { leases.get_opt("landfall").await.unwrap().is_none() }).await;
    story.operator.restart().await;
    gone(&story, &other.name).await;
}

/// Deletes a namespace, and waits for the end of it.
async fn gone(story: &Story, name: &str) {
    let namespaces: Api<Namespace> = Api::all(story.space.client.clone());
    let _ = namespaces.delete(name, &DeleteParams::default()).await;
    let look = || async {
        match namespaces.get_opt(name).await.unwrap() {
            None => Ok(()),
            Some(namespace) => Err(namespace.status),
        }
    };
    find(&format!("gone: {name}"), look, |status| format!("{status:#?}\n{}", story.operator.output())).await;
}
