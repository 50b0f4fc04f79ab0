//! Pins: hosts that have another version than the others, until a time or until they are taken out.

use super::*;

/// The Deployment is ready about this generation, and these versions run on so many hosts.
async fn until_versions(bench: &Bench, versions: &[(&str, i32)]) -> Deployment {
    bench
        .until(&format!("{versions:?} run"), |object| {
            let Some(status) = &object.status else { return false };
            let runs: Vec<(&str, i32)> = status.versions.iter().map(|one| (one.version.as_str(), one.hosts)).collect();
            is(object, "Ready", "Deployed") && runs == versions
        })
        .await
}

#[tokio::test]
async fn a_pinned_host_keeps_its_version_is_healed_with_it_and_follows_when_the_pin_ends() {
    let bench = Bench::new(3).await;
    bench.publish("v1", SERVES);
    bench.publish("v2", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;

    let pin = json!({ "version": "v1", "hosts": { "names": ["web-03"] }, "reason": "memory leak under study" });
    bench.edit(json!({ "version": "v2", "pins": [pin] })).await;
    let both = until_versions(&bench, &[("v1", 1), ("v2", 2)]).await;
    let counts = both.status.as_ref().unwrap().hosts.clone();
    assert_eq!((counts.total, counts.ready, counts.updated, counts.pinned), (3, 3, 3, 1));
    assert!(message(&both).contains("pinned: v1 on web-03"), "{}", message(&both));
    assert_eq!(bench.starts(2).await, ["v1"], "what runs the version of its pin is not touched");

    bench.hosts.host(2).sh("pkill -9 -x busybox").await;
    until("started again", || async { bench.starts(2).await == ["v1", "v1"] }).await;
    until("serves", || async { bench.version_on(2).await == "v1" }).await;
    until_versions(&bench, &[("v1", 1), ("v2", 2)]).await;

    // Its end comes by itself: nobody writes a spec then.
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(5);
    let until_then = soon.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let pin = json!({
        "version": "v1", "hosts": { "names": ["web-03"] }, "reason": "memory leak under study", "until": until_then,
    });
    bench.edit(json!({ "pins": [pin] })).await;
    let done = until_versions(&bench, &[("v2", 3)]).await;
    assert_eq!(bench.starts(2).await, ["v1", "v1", "v2"]);
    assert_eq!(bench.starts(0).await, ["v1", "v2"], "the others are left alone");
    let status = done.status.unwrap();
    assert_eq!(status.hosts.pinned, 0);
    let changes: Vec<_> = status.history.iter().map(|entry| entry.change.unwrap()).collect();
    assert_eq!(changes, [HistoryChange::Pins, HistoryChange::Version, HistoryChange::Version]);
}

#[tokio::test]
async fn a_pin_of_a_version_that_is_not_there_yet_waits_and_goes_on_when_it_is_published() {
    let bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.publish("v2", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    let pin = json!({ "version": "v9", "hosts": { "names": ["web-02"] }, "reason": "tried on one host" });
    bench.edit(json!({ "version": "v2", "pins": [pin] })).await;
    let waits = bench.until("waits", |object| is(object, "Ready", "VersionNotFound")).await;
    assert_eq!(bench.version_on(0).await, "v2", "the others go on");
    assert_eq!(bench.starts(1).await, ["v1"]);
    assert_eq!(exception(&waits, "web-02").unwrap().reason, "VersionNotFound");
    bench.publish("v9", SERVES);
    // As a Build that publishes does.
    bench.stamp("test/wake", "1").await;
    until_versions(&bench, &[("v2", 1), ("v9", 1)]).await;
    assert_eq!(bench.version_on(1).await, "v9");
}

#[tokio::test]
async fn a_host_in_two_pins_stops_new_updates_and_both_are_named() {
    let bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.publish("v2", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    let pin =
        |version: &str, reason: &str| json!({ "version": version, "hosts": { "names": ["web-02"] }, "reason": reason });
    bench.edit(json!({ "version": "v2", "pins": [pin("v1", "a leak"), pin("v2", "a trial")] })).await;
    let seen = bench.until("refused", |object| is(object, "Stalled", "HostPinnedTwice")).await;
    for word in ["web-02", "spec.pins[0] to v1 (a leak)", "spec.pins[1] to v2 (a trial)"] {
        assert!(message(&seen).contains(word), "{word}: {}", message(&seen));
    }
    assert_eq!(bench.starts(0).await, ["v1"], "no update begins");
    bench.edit(json!({ "pins": [pin("v1", "a leak")] })).await;
    until_versions(&bench, &[("v1", 1), ("v2", 1)]).await;
}
