//! What the API server answers: F02, F03, F04, F84, F85.

use std::time::Duration;

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{Secret, ServiceAccount},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use landfall::api::{Build, Deployment, HostGroup};
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    control_plane::chance,
    control_plane::story::{Object, Story},
    support::{
        plane,
        proxy::{Proxy, RetryState},
    },
};

/// A lease that outlasts some answers that never come.
const LONGER: &str = "--lease-seconds=6";

/// F02
#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_are_waited_out_and_nobody_knocks_all_the_time() {
    let story = Story::on(&plane::kubeconfig().await, "busy", |plan| plan.flag(LONGER)).await;
    let mut rng = chance("busy");
    story.proxy.rule(move |_| if rng.random_bool(0.2) { RetryState::Busy(1) } else { RetryState::Pass });
    story.first().await;
    story.second().await;
    // Nobody gets in at all, for longer than the lease lasts.
    let before = story.proxy.calls().len();
    story.proxy.rule(|_| RetryState::Busy(1));
    let refresh = json!({ "metadata": { "annotations": { "landfall.dev/refresh": "1" } } });
    story.patch::<HostGroup>("prod", refresh).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let knocks = story.proxy.calls().len() - before;
    story.proxy.calm();
    println!("busy: {knocks} requests in 8 s");
    assert!(knocks <= 60, "{knocks} requests in 8 s");
    story.until::<HostGroup>("prod", "refreshed", |group| group["status"]["lastHandled"] != json!(null)).await;
    story.is_right().await;
}

/// F03
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_applied_and_answered_by_an_error_is_not_done_again() {
    let story = Story::on(&plane::kubeconfig().await, "after", |plan| plan.flag(LONGER)).await;
    let mut rng = chance("after");
    let mut has_written = false;
    story.proxy.rule(move |call| {
        let code = [500, 503, 504][rng.random_range(0..3)];
        // An operator that can't reach its cluster when it starts ends and says so: it may not have begun here.
        has_written |= call.is_write();
        match call.is_write() && rng.random_bool(0.3) {
            true => RetryState::After(code),
            false if has_written && rng.random_bool(0.03) => RetryState::Cut(rng.random_range(0..400)),
            false => RetryState::Pass,
        }
    });
    story.first().await;
    story.second().await;
    story.proxy.calm();
    story.is_right().await;
}

/// F04: somebody else writes the status of every object, fifty times a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_conflicts_ends_and_nothing_is_decided_on_an_old_view() {
    let story = Story::new("storm").await;
    story.set_up().await;
    let calm = tokio::sync::Notify::new();
    let storm = async {
        let (builds, deployments) = (Storm::<Build>::on(&story, "shop-2"), Storm::<Deployment>::on(&story, "shop"));
        let (mut builds, mut deployments) = (builds, deployments);
        while tokio::time::timeout(Duration::from_millis(20), calm.notified()).await.is_err() {
            tokio::join!(builds.touch(), deployments.touch());
        }
        builds.written + deployments.written
    };
    let play = async {
        story.build("shop-1").await;
        story.built("shop-1").await;
        story.deploy("v1").await;
        story.deployed("v1").await;
        // Edits in its middle: what is asked for while the Deployment is paused is decided on as paused.
        story.patch::<Deployment>("shop", json!({ "spec": { "paused": true } })).await;
        story.ask_for_second().await;
        story
            .until::<Deployment>("shop", "seen as it was edited", |shop| {
                shop["status"]["observedGeneration"] == shop["metadata"]["generation"]
            })
            .await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        for host in story.hosts.all() {
            assert_eq!(host.sh("cat /srv/starts").await, "v1\n", "{}", host.name);
        }
        story.patch::<Deployment>("shop", json!({ "spec": { "paused": false, "minReadySeconds": 2 } })).await;
        story.half_deployed("v2").await;
        story.patch::<Deployment>("shop", json!({ "spec": { "minReadySeconds": 1 } })).await;
        story.deployed("v2").await;
        calm.notify_one();
    };
    let (written, ()) = tokio::join!(storm, play);
    let written: u32 = written;
    println!("storm: {written} foreign writes");
    assert!(written > 100);
    story.is_right().await;
}

/// A second writer who changes nothing but who manages a field: a new resource version each time, as by somebody who is right.
struct Storm<K> {
    api: Api<K>,
    name: &'static str,
    written: u32,
    generation: Value,
}

impl<K: Object> Storm<K> {
    fn on(story: &Story, name: &'static str) -> Self {
        Self { api: story.space.api(), name, written: 0, generation: Value::Null }
    }

    async fn touch(&mut self) {
        if self.written.is_multiple_of(20) {
            let Ok(Some(object)) = self.api.get_opt(self.name).await else { return };
            self.generation = serde_json::to_value(&object).unwrap()["status"]["observedGeneration"].clone();
        }
        let own = self.written.is_multiple_of(2) && !self.generation.is_null();
        let status = if own { json!({ "observedGeneration": self.generation }) } else { json!({}) };
        let apply = json!({ "apiVersion": K::api_version(&()), "kind": K::kind(&()), "status": status });
        let _ = self.api.patch_status(self.name, &PatchParams::apply("storm"), &Patch::Apply(apply)).await;
        self.written += 1;
    }
}

/// F84
#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_in_the_file_is_taken_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let kubeconfig = plane::kubeconfig().await;
    let accounts = Api::<ServiceAccount>::namespaced(plane::client_of(&kubeconfig).await, "landfall-system");
    let token = async || {
        let spec = TokenRequestSpec { expiration_seconds: Some(600), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let answer = accounts.create_token_request("landfall", &PostParams::default(), &request).await.unwrap();
        answer.status.unwrap().token.unwrap()
    };
    let old = token().await;
    std::fs::write(&file, &old).unwrap();
    let proxy = Proxy::before_with_token(&kubeconfig.with_file_name("operator.kubeconfig"), &file).await;
    let mut story = Story::on(&kubeconfig, "token", |plan| plan.kubeconfig(&proxy.kubeconfig)).await;
    story.proxy = proxy;
    story.first().await;
    // The second ends at another second, so it is another token.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let new = token().await;
    assert_ne!(old, new);
    let (pid, rotated) = (story.operator.pid(), Instant::now());
    std::fs::write(&file, &new).unwrap();
    // An old one is still good when a new one is written: so it is with a kubelet.
    let new = format!("Bearer {new}");
    story
        .until_true("using the new token", || story.proxy.calls().iter().any(|call| call.token.as_ref() == Some(&new)))
        .await;
    println!("token: used {} s after it was written", rotated.elapsed().as_secs());
    story
        .proxy
        .rule(move |call| if call.token.as_ref() == Some(&new) { RetryState::Pass } else { RetryState::Refuse(401) });
    story.second().await;
    assert_eq!((story.operator.pid(), story.operator.is_running()), (pid, true));
    story.is_right().await;
}

/// F85: the value of the Secret changes in the middle, and the hosts take the new one only.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_rotated_in_the_middle_of_a_rollout_is_used_for_the_next_connection() {
    let story = Story::new("rotated").await;
    story.first().await;
    story.ask_for_second().await;
    story.half_deployed("v2").await;
    let new = story.hosts.new_identity().await;
    story.patch::<Secret>("prod-identity", json!({ "stringData": { "identity": new } })).await;
    for host in story.hosts.all() {
        host.hangup().await;
    }
    story.deployed("v2").await;
    story.is_right().await;
    // Nor does it come out anywhere.
    let secret = new.lines().nth(2).unwrap();
    assert!(!story.operator.output().contains(secret));
}
