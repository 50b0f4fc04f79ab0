//! Rollouts that people hold, end and let go on.

use super::*;

#[tokio::test]
async fn a_pause_by_annotation_holds_a_rollout_and_an_abort_ends_it_where_it_is() {
    let mut bench = Bench::new(3).await;
    bench.publish("v1", SERVES);
    bench.publish_waiting("v2");
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.stamp("landfall.dev/pause", "the database is moved").await;
    bench.edit(json!({ "version": "v2" })).await;
    let paused = bench.until("paused", |object| is(object, "Reconciling", "Paused")).await;
    assert!(message(&paused).starts_with("paused (the database is moved): "), "{}", message(&paused));
    assert_eq!(bench.starts(0).await, ["v1"]);

    let removed = json!({ "metadata": { "annotations": { "landfall.dev/pause": null } } });
    bench.patch::<Deployment>("shop", removed).await;
    let verifies = |object: &Deployment| exception(object, "web-01").is_some_and(|one| one.phase == Phase::Verifying);
    bench.until("under way", verifies).await;
    bench.stamp("landfall.dev/abort", "1.0.1").await;
    until("refused, for it names another rollout", || async {
        events(&bench, "VerbRefused").await.iter().any(|note| note.contains("landfall.dev/abort=2.0.1"))
    })
    .await;
    bench.stamp("landfall.dev/abort", "2.0.1").await;
    bench.until("aborted", |object| is(object, "Reconciling", "Aborted")).await;
    for i in 0..3 {
        bench.hosts.host(i).sh("touch /srv/go").await;
    }
    let aborted = bench.until("ended", |object| is(object, "Stalled", "Aborted")).await;
    assert_eq!(aborted.status.as_ref().unwrap().history[0].outcome, RolloutOutcome::Aborted);
    assert_eq!(bench.version_on(0).await, "v2", "the host that was under way has finished");

    // Another operator knows it from what is on record, and heals what runs.
    bench.operator.kill9().await;
    bench.hosts.host(1).reboot().await;
    bench.operator.restart().await;
    until("healed", || async { bench.version_on(1).await == "v1" }).await;
    bench.until("still aborted", |object| is(object, "Stalled", "Aborted")).await;
    assert_eq!(bench.starts(2).await, ["v1"], "no other host was begun");

    bench.stamp("landfall.dev/retry", "1").await;
    let done = bench.until_deployed("v2").await;
    assert_eq!(done.status.unwrap().rollout.into_option().unwrap().attempt, 2);
    assert_eq!(bench.starts(0).await, ["v1", "v2"], "a host that is ready is not taken again");
}

#[tokio::test]
async fn a_canary_goes_first_and_the_others_follow_when_it_is_promoted() {
    let mut bench = Bench::new(3).await;
    bench.publish("v1", SERVES);
    bench.publish("v2", SERVES);
    let canary = json!({ "hosts": { "names": ["web-02"] } });
    bench.deploy("v1", json!({ "strategy": { "canary": canary } })).await;
    bench.until_deployed("v1").await;
    bench.edit(json!({ "version": "v2" })).await;
    let awaits = |object: &Deployment| {
        is(object, "Reconciling", "AwaitingPromotion") && is(object, "AwaitingPromotion", "AwaitingPromotion")
    };
    let waiting = bench.until("the canary is ready", awaits).await;
    assert!(message(&waiting).contains("landfall.dev/promote=2.0.1"), "{}", message(&waiting));

    // Another operator knows the canary from what is on record.
    bench.operator.kill9().await;
    bench.operator.restart().await;
    bench.stamp("landfall.dev/promote", "1.0.1").await;
    until("refused, for it names another rollout", || async { !events(&bench, "VerbRefused").await.is_empty() }).await;
    bench.until("still waiting", awaits).await;
    for (i, version) in [(0, "v1"), (1, "v2"), (2, "v1")] {
        assert_eq!(bench.version_on(i).await, version);
    }
    bench.stamp("landfall.dev/promote", "2.0.1").await;
    bench.until_deployed("v2").await;
    for i in 0..3 {
        assert_eq!(bench.starts(i).await, ["v1", "v2"]);
    }
    let promoted = || async { events(&bench, "Promoted").await.iter().any(|note| note.contains("web-02")) };
    until("told", promoted).await;
}

#[tokio::test]
async fn a_canary_with_seconds_is_promoted_by_time_and_a_zone_is_finished_before_the_next() {
    let bench = Bench::new(4).await;
    bench.publish("v1", SERVES);
    bench.publish("v2", SERVES);
    let group = bench.space.api::<HostGroup>().get("prod").await.unwrap();
    let mut hosts = json!(group.spec.hosts);
    for (i, zone) in ["a", "b", "a", "b"].into_iter().enumerate() {
        hosts[i]["labels"] = json!({ "zone": zone });
    }
    bench.patch::<HostGroup>("prod", json!({ "spec": { "hosts": hosts } })).await;
    let rolling = json!({ "maxUnavailable": 2, "spreadBy": "zone", "order": "ByZone", "pauseSeconds": 1 });
    let canary = json!({ "hosts": { "selector": { "matchLabels": { "zone": "b" } } }, "maxHosts": 1, "pause": { "seconds": 2 } });
    bench.deploy("v1", json!({ "strategy": { "rollingUpdate": rolling, "canary": canary } })).await;
    bench.until_deployed("v1").await;
    let seen = bench.recorded().await;
    bench.edit(json!({ "version": "v2" })).await;
    bench.until_deployed("v2").await;
    let mut order: Vec<String> = Vec::new();
    for object in seen.states() {
        let rollout = object.status.as_ref().and_then(|status| status.rollout.as_ref().cloned());
        let updating = rollout.and_then(|rollout| rollout.intent).map(|intent| intent.updating).unwrap_or_default();
        order.extend(updating.into_iter().filter(|host| !order.contains(host)).collect::<Vec<_>>());
    }
    assert_eq!(order, ["web-02", "web-01", "web-03", "web-04"], "the canary, zone a, zone b");
}

#[tokio::test]
async fn a_rollout_that_fails_is_taken_back_and_tried_again_when_a_person_asks() {
    let mut bench = Bench::new(3).await;
    bench.publish("v1", SERVES);
    bench.publish("v2", &format!("[ -e /srv/bad ] && {{ echo no database; exit 3; }}\n{SERVES}"));
    bench.deploy("v1", json!({ "strategy": { "onFailure": "RollBack" } })).await;
    bench.until_deployed("v1").await;
    bench.hosts.host(1).sh("touch /srv/bad").await;
    bench.edit(json!({ "version": "v2" })).await;
    let back = bench.until("taken back", |object| is(object, "Stalled", "RolledBack")).await;
    for said in ["v2 failed on 1 host (web-02: ProcessDied", "no database", "all 3 hosts run v1"] {
        assert!(message(&back).contains(said), "{said} in {}", message(&back));
    }
    for i in 0..3 {
        assert_eq!(bench.version_on(i).await, "v1");
    }
    assert_eq!(bench.starts(0).await, ["v1", "v2", "v1"]);
    assert_eq!(bench.starts(2).await, ["v1"], "a host that runs v1 all the time is not touched");
    let history = back.status.unwrap().history;
    let outcomes: Vec<_> = history.iter().map(|entry| (entry.version.as_str(), entry.outcome)).collect();
    let expected =
        [("v1", RolloutOutcome::Succeeded), ("v2", RolloutOutcome::Failed), ("v1", RolloutOutcome::Succeeded)];
    assert_eq!(outcomes, expected);
    assert_eq!(history[0].change, Some(HistoryChange::RollBack));

    // The next look, and that of another operator, leave it so.
    bench.operator.kill9().await;
    bench.operator.restart().await;
    bench.edit(json!({ "progressDeadlineSeconds": 500 })).await;
    bench.until("looked at", |object| is(object, "Stalled", "RolledBack")).await;
    assert_eq!(bench.starts(0).await.len(), 3);
    bench.hosts.host(1).sh("rm /srv/bad").await;
    bench.stamp("landfall.dev/retry", "1").await;
    bench.until_deployed("v2").await;
}
