//! Namespaces that are deleted under an operator that is limited to them (F12), also where the object by which it leads goes with them, and
//! its right to it.

use crate::{
    control_plane::story::{Story, processes},
    support::{
        plane::{self, Operator},
        wait::find,
    },
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use landfall::api::{Build, FINALIZER, Project};
use serde_json::json;

/// F12
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_in_the_middle_of_a_rollout_and_the_operator_goes_on_in_the_others() {
    let admin = plane::kubeconfig().await;
    let other = plane::namespace("staying").await;
    let lease = format!("--lease-namespace={}", other.name);
    let story = Story::on(&admin, "leaving", |plan| plan.namespace(&other.name).flag(lease)).await;
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
}

/// F12, where the object lies in the namespace that goes, and it is all that the operator works for.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_with_the_operators_own_lease_goes_while_it_leads_and_while_no_operator_runs() {
    let story = Story::on(&plane::kubeconfig().await, "own", |plan| plan).await;
    story.first().await;
    gone(&story, &story.space.name).await;

    // Nobody ever led by an object in this one that could be had again.
    let other = plane::namespace("closing").await;
    let build = json!({
        "apiVersion": "landfall.dev/v1alpha1", "kind": "Build",
        "metadata": { "name": "shop-1", "finalizers": [FINALIZER] },
        "spec": { "projectRef": { "name": "shop" }, "revision": "main" },
    });
    let build: Build = serde_json::from_value(build).unwrap();
    other.api::<Build>().create(&PostParams::default(), &build).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(other.client.clone());
    namespaces.delete(&other.name, &DeleteParams::default()).await.unwrap();
    let _operator = Operator::start(&[&other.name]).await;
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
