//! `landfall run` as a process: who may act, and how it ends. Real leases of a real API server.

use std::time::Duration;

use crate::support::{
    plane::{Operator, TestNamespace, client, namespace},
    wait::{find, until},
};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::json;
use tokio::time::Instant;

/// Holder and transitions.
async fn lease(space: &TestNamespace) -> Option<(String, i32)> {
    let leases: Api<Lease> = Api::namespaced(client().await, &space.name);
    let spec = leases.get_opt("landfall").await.unwrap()?.spec?;
    Some((spec.holder_identity.unwrap_or_default(), spec.lease_transitions.unwrap_or_default()))
}

async fn until_held(space: &TestNamespace, fits: impl Fn(&str, i32) -> bool) -> (String, i32) {
    let fits = &fits;
    let look = || async move {
        match lease(space).await {
            Some((holder, transitions)) if fits(&holder, transitions) => Ok((holder, transitions)),
            other => Err(other),
        }
    };
    find("held", look, |lease| format!("the lease is {lease:?}")).await
}

/// When its holder renewed it last.
async fn renewed(space: &TestNamespace) -> jiff::Timestamp {
    let leases: Api<Lease> = Api::namespaced(client().await, &space.name);
    leases.get("landfall").await.unwrap().spec.unwrap().renew_time.unwrap().0
}

/// A Project whose repository can't be reached: whoever acts says so in its status.
async fn project(space: &TestNamespace, name: &str) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("landfall.dev", "v1alpha1", "Project"));
    let api: Api<DynamicObject> = Api::namespaced_with(client().await, &space.name, &kind);
    let object = json!({
        "apiVersion": "landfall.dev/v1alpha1", "kind": "Project", "metadata": { "name": name },
        "spec": {
            "source": { "url": "file:///nowhere/at/all.git" },
            "build": { "script": "true", "artifacts": [{ "path": "x" }] },
            "run": { "process": { "command": ["x"] } },
        },
    });
    api.patch(name, &PatchParams::apply("test"), &Patch::Apply(object)).await.unwrap();
    api
}

async fn observed(api: &Api<DynamicObject>, name: &str) -> bool {
    api.get(name).await.unwrap().data["status"]["observedGeneration"] == 1
}

#[tokio::test]
async fn a_second_operator_waits_does_nothing_and_goes_on_where_a_killed_one_stopped() {
    let space = namespace("lease").await;
    let with_lease = |seconds: i64| Operator::of(&[&space.name]).flag(format!("--lease-seconds={seconds}"));
    let first = with_lease(10).start().await;
    let (holder, before) = until_held(&space, |holder, _| !holder.is_empty()).await;
    let _second = with_lease(10).start().await;
    // Longer than it lasts without being renewed.
    let begun = renewed(&space).await;
    until("renewed for long", || async { renewed(&space).await.duration_since(begun).as_secs() > 12 }).await;
    assert_eq!(lease(&space).await, Some((holder.clone(), before)), "the first one renews its lease and keeps it");
    drop(first);
    let (_, after) = until_held(&space, |now, _| !now.is_empty() && now != holder).await;
    assert_eq!(after, before + 1, "a new holder has a higher fence token");
    let api = project(&space, "shop").await;
    until("decided on: the second operator acts", || observed(&api, "shop")).await;
}

#[tokio::test]
async fn an_operator_that_is_told_to_stop_gives_its_lease_back_at_once() {
    let space = namespace("stop").await;
    let operator = Operator::start(&[&space.name]).await;
    until_held(&space, |holder, _| !holder.is_empty()).await;
    let asked = Instant::now();
    operator.stop().await;
    // So long a cluster waits before it kills.
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    assert_eq!(lease(&space).await.unwrap().0, "", "nobody holds it now");
}

#[tokio::test]
async fn an_operator_that_slept_longer_than_its_lease_ends_when_another_has_it() {
    let space = namespace("sleeper").await;
    let sleeper = Operator::start(&[&space.name]).await;
    let (holder, _) = until_held(&space, |holder, _| !holder.is_empty()).await;
    let pid = rustix::process::Pid::from_raw(sleeper.pid()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let _second = Operator::start(&[&space.name]).await;
    let (other, _) = until_held(&space, |now, _| !now.is_empty() && now != holder).await;
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    // To begin anew behind the other.
    sleeper.wait().await;
    assert_eq!(lease(&space).await.unwrap().0, other);
}
