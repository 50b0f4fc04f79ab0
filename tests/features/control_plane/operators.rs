//! Operators that stop, sleep, and take turns: F10, F16, F17, F18, F20, F26.

use std::time::Duration;

use kube::api::PostParams;
use landfall::api::Project;
use rand::Rng;
use rustix::process::Signal;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    control_plane::chance,
    control_plane::story::Story,
    support::{
        plane::{self, Operator},
        proxy::{Proxy, RetryState},
        wait::{PATIENCE, until},
    },
};

async fn holder(story: &Story) -> String {
    plane::leader(&story.space.client, &story.space.name).await
}

/// F17
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_told_to_stop_in_the_middle_gives_up_its_lease_and_the_next_one_goes_on() {
    let mut story = Story::new("term").await;
    story.set_up().await;
    story.build("shop-1").await;
    story.building("shop-1").await;
    stop(&mut story).await;
    story.built("shop-1").await;
    story.deploy("v1").await;
    story.deployed("v1").await;
    story.ask_for_second().await;
    story.half_deployed("v2").await;
    stop(&mut story).await;
    story.deployed("v2").await;
    story.is_right().await;
}

async fn stop(story: &mut Story) {
    let asked = Instant::now();
    assert!(story.operator.stop().await.success());
    // So long a cluster waits before it kills.
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    assert_eq!(holder(story).await, "", "nobody holds the lease");
    tokio::time::sleep(Duration::from_millis(500)).await;
    story.operator.restart().await;
}

/// F18
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_through_its_lease_does_nothing_when_it_wakes() {
    let story = Story::new("zombie").await;
    story.first().await;
    let second_proxy = Proxy::before(&plane::operator_kubeconfig().await).await;
    story.ask_for_second().await;
    story.half_deployed("v2").await;
    story.operator.signal(Signal::STOP);
    let first_holder = holder(&story).await;
    let second = Operator::of(&[&story.space.name]).kubeconfig(&second_proxy.kubeconfig);
    let _second = second.start_beside(&story.operator).await;
    until("taken: the lease", || async { holder(&story).await != first_holder }).await;
    // In the middle of whatever the second one does.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let woken = Instant::now();
    story.operator.signal(Signal::CONT);
    story.deployed("v2").await;
    story.operator.wait().await;
    let writes = story.proxy.writes_since(woken);
    // A write that it had begun before it slept may still arrive: its precondition is old.
    assert!(writes.len() <= 2, "{writes:#?}");
    story.is_right().await;
}

/// F18, alone: nobody took the lease meanwhile, so it goes on with its own.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_slept_alone_goes_on_with_its_own_lease() {
    let story = Story::new("sleeper").await;
    story.first().await;
    story.ask_for_second().await;
    story.half_deployed("v2").await;
    for _ in 0..2 {
        story.operator.signal(Signal::STOP);
        tokio::time::sleep(Duration::from_secs(4)).await;
        story.operator.signal(Signal::CONT);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    story.deployed("v2").await;
    assert!(story.operator.is_running());
    story.is_right().await;
}

/// F16
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_killed_at_random_three_times_in_a_row_and_while_it_recovers_loses_nothing() {
    let story = Story::new("thrice").await;
    story.operator.kill9().await;
    let plan = Operator::of(&[&story.space.name]).kubeconfig(&story.proxy.kubeconfig);
    let mut operator = plan.start_beside(&story.operator).await;
    let (mut rng, mut kills) = (chance("thrice"), 0);
    let play = async {
        story.first().await;
        story.second().await;
    };
    let killing = async {
        loop {
            tokio::time::sleep(Duration::from_millis(rng.random_range(3000..8000))).await;
            for _ in 0..3 {
                operator.restart().await;
                kills += 1;
                tokio::time::sleep(Duration::from_millis(rng.random_range(0..1500))).await;
            }
        }
    };
    tokio::select! {
        () = play => {}
        () = killing => {}
    }
    // The last one may have been killed and not started again; the next one comes to work when that one's lease is over.
    let before = holder(&story).await;
    operator.restart().await;
    until("taken: the lease", || async { holder(&story).await != before }).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!("thrice: killed {kills} times");
    assert!(kills >= 3, "the story was over before anybody was killed three times: {kills}");
    story.is_right().await;
}

/// F20: the leases of the two are refused in turns, so that the lead goes to and fro.
#[tokio::test(flavor = "multi_thread")]
async fn a_lead_that_changes_every_few_seconds_still_gets_on_and_does_nothing_twice() {
    let story = Story::new("flapping").await;
    story.operator.kill9().await;
    let config = plane::operator_kubeconfig().await;
    let proxies = [Proxy::before(&config).await, Proxy::before(&config).await];
    let mut operators = Vec::new();
    for proxy in &proxies {
        let plan = Operator::of(&[&story.space.name]).kubeconfig(&proxy.kubeconfig);
        operators.push(plan.start_beside(&story.operator).await);
    }
    let first = fence(&story).await;
    let calm = tokio::sync::Notify::new();
    let play = async {
        story.first().await;
        story.second().await;
        // On a quick machine the story is over before the lead has changed often.
        while fence(&story).await - first < 3 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        proxies.iter().for_each(Proxy::calm);
        calm.notify_one();
        story.is_right().await;
    };
    let flap = async {
        let mut turn = 0;
        let mut changed = Instant::now();
        let mut calm_now = false;
        loop {
            for operator in &mut operators {
                if !operator.is_running() {
                    operator.restart().await;
                }
            }
            if !calm_now && changed.elapsed() > Duration::from_secs(7) {
                turn += 1;
                changed = Instant::now();
                proxies[turn % 2].rule(|call| if call.is_lease() { RetryState::Refuse(500) } else { RetryState::Pass });
                proxies[(turn + 1) % 2].calm();
            }
            if tokio::time::timeout(Duration::from_millis(200), calm.notified()).await.is_ok() {
                calm_now = true;
            }
        }
    };
    tokio::select! {
        () = play => {}
        () = flap => {}
        () = tokio::time::sleep(PATIENCE * 5) => panic!("the lead changed {} times", fence(&story).await - first),
    }
    let changes = fence(&story).await - first;
    println!("flapping: the lead changed {changes} times");
    assert!(changes >= 3, "{changes}");
}

/// The highest one that was given: one more for each change of the lead.
async fn fence(story: &Story) -> i64 {
    plane::leadership(&story.space.client, &story.space.name).await.map_or(0, |leadership| leadership.counter)
}

/// F10, F26: the operator's wall clock jumps to and fro; what it measures, it measures by another clock.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_ten_minutes_to_and_fro_fails_nothing() {
    let architectures = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let mut libraries = architectures.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    let library = libraries.find(|library| library.exists()).expect("libfaketime (scripts/install-test-tools.sh)");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("time");
    std::fs::write(&file, "+0\n").unwrap();
    let story = Story::on(&plane::kubeconfig().await, "clock", |plan| {
        plan.env("LD_PRELOAD", library.display().to_string())
            .env("FAKETIME_TIMESTAMP_FILE", file.display().to_string())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    })
    .await;
    let mut rng = chance("clock");
    let jumps = async {
        loop {
            let offset = ["+600", "-600", "+0", "+86400", "-86400"][rng.random_range(0..5)];
            // By a rename: the operator reads it at any moment.
            let next = folder.path().join("next");
            std::fs::write(&next, format!("{offset}\n")).unwrap();
            std::fs::rename(&next, &file).unwrap();
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
    };
    let play = async {
        story.first().await;
        story.second().await;
    };
    tokio::select! {
        () = play => {}
        () = jumps => {}
    }
    story.is_right().await;
}

/// F83, of the object that says who leads.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_without_the_right_to_lead_says_which_one_is_missing_and_where_it_is_given() {
    let closed = plane::bare_namespace("closed").await;
    let operator = Operator::start(&[&closed.name]).await;
    assert!(!operator.wait().await.success());
    let said = operator.output().replace("\\\"", "\"");
    let wanted = format!(
        "cannot get resource \"leases\" in API group \"coordination.k8s.io\" in the namespace \"{}\"",
        closed.name
    );
    assert!(said.contains(&wanted) && said.contains("manifests/operator-rights.yaml"), "{said}");
}

/// F83, of the leases that operators from before led by.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_grants_no_lease_is_served_with_the_others() {
    let closed = plane::bare_namespace("closed").await;
    closed.bind_operator("landfall-tenant").await;
    let story = Story::on(&plane::kubeconfig().await, "open", |plan| plan.namespace(&closed.name)).await;
    story.first().await;
    let project = json!({
        "apiVersion": "landfall.dev/v1alpha1", "kind": "Project", "metadata": { "name": "shop" },
        "spec": {
            "source": { "url": "https://git.invalid/shop.git" },
            "build": { "script": "true", "artifacts": [{ "path": "app" }] },
            "run": { "process": { "command": ["./app"] } },
        },
    });
    let project: Project = serde_json::from_value(project).unwrap();
    closed.api::<Project>().create(&PostParams::default(), &project).await.unwrap();
    let decided = |project: &Project| project.status.as_ref().is_some_and(|status| status.observed_generation == 1);
    story.operator.until(&closed.api(), "shop", "decided on", decided).await;
}
