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
