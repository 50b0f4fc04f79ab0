//! What a person does on a host with `landfall-host`, past the operator.

use super::*;

/// A command by hand on one host, as `ann` by sudo.
async fn by_hand(bench: &Bench, i: usize, command: &str) {
    let program = "/srv/landfall/.landfall/bin/landfall-host";
    bench.hosts.host(i).sh(&format!("SUDO_USER=ann {program} {command}")).await;
}

/// An event of this reason that has all of these words.
async fn told(bench: &Bench, words: &[&str]) {
    let told = async || {
        let told = events(bench, "ChangedByHand").await;
        let is_told = told.iter().any(|note| words.iter().all(|word| note.contains(word)));
        if is_told { Ok(()) } else { Err(told) }
    };
    find("an event tells of it", told, |told| format!("{told:?}")).await;
}

#[tokio::test]
async fn what_a_person_stops_on_a_host_is_shown_and_left_until_a_redeploy() {
    let mut bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    by_hand(&bench, 1, "stop --reason 'disk swap'").await;
    // It is shown from its begin on.
    let is_over = |object: &Deployment| exception(object, "web-02").is_some_and(|one| one.version.is_none());
    let left = bench.until("shown", |object| is(object, "Ready", "ChangedByHand") && is_over(object)).await;
    assert!(is(&left, "Reconciling", "ChangedByHand"), "{:?}", left.status);
    assert!(message(&left).contains("web-02: stop by ann (claimed): disk swap"), "{}", message(&left));
    let entry = exception(&left, "web-02").unwrap();
    assert_eq!((entry.reason.as_str(), entry.version.as_deref()), ("ChangedByHand", None));
    assert!(entry.message.contains("nothing runs there"), "{}", entry.message);
    told(&bench, &["web-02", "stop", "ann", "disk swap"]).await;

    // The next operator finds it so, and decides twice before a person says what is to be.
    bench.operator.restart().await;
    for seconds in [1, 2] {
        bench.edit(json!({ "progressDeadlineSeconds": 600 + seconds })).await;
        bench.until("still left", |object| is(object, "Ready", "ChangedByHand")).await;
    }
    assert_eq!(bench.starts(1).await, ["v1"]);
    assert_eq!(events(&bench, "ChangedByHand").await.len(), 1, "it is told once");
    bench.stamp("landfall.dev/redeploy", "1").await;
    bench.until_deployed("v1").await;
    assert_eq!(bench.version_on(1).await, "v1");
    assert_eq!((bench.starts(0).await.len(), bench.starts(1).await.len()), (2, 2));
}

#[tokio::test]
async fn a_version_that_a_person_uses_is_left_until_a_new_one_and_a_start_ends_a_stop() {
    let bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.publish("v2", SERVES);
    bench.publish("v3", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.edit(json!({ "version": "v2" })).await;
    bench.until_deployed("v2").await;
    by_hand(&bench, 1, "use v1 --reason 'orders are lost'").await;
    let left = bench
        .until("shown", |object| {
            let runs = exception(object, "web-02").is_some_and(|one| one.version.as_deref() == Some("v1"));
            runs && is(object, "Ready", "ChangedByHand")
        })
        .await;
    let versions = left.status.as_ref().unwrap().versions.iter();
    assert_eq!(versions.map(|one| (one.version.as_str(), one.hosts)).collect::<Vec<_>>(), [("v1", 1), ("v2", 1)]);
    told(&bench, &["web-02", "use v1", "orders are lost"]).await;
    assert_eq!(bench.version_on(1).await, "v1");

    bench.edit(json!({ "version": "v3" })).await;
    bench.until_deployed("v3").await;
    assert_eq!(bench.starts(1).await, ["v1", "v2", "v1", "v3"], "what is asked for later counts");

    by_hand(&bench, 0, "stop").await;
    bench.until("shown", |object| is(object, "Ready", "ChangedByHand")).await;
    by_hand(&bench, 0, "start").await;
    bench.until_deployed("v3").await;
    assert_eq!(bench.starts(0).await, ["v1", "v2", "v3", "v3"]);
}

#[tokio::test]
async fn a_release_that_was_changed_on_a_host_is_staged_again_before_it_is_started_again() {
    let bench = Bench::new(1).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    let app = format!("{}/current/app", bench.folder());
    bench.hosts.host(0).sh(&format!("sed -i '1a touch /srv/changed' {app}; pkill -x busybox")).await;
    until("started again", || async { bench.starts(0).await.len() == 2 && bench.version_on(0).await == "v1" }).await;
    bench.until_deployed("v1").await;
    let found = bench.hosts.host(0).sh(&format!("grep -c changed {app} || true; ls /srv")).await;
    assert!(found.starts_with("0\n") && !found.contains("changed"), "{found}");
}
