//! How the bytes of a version come to hosts that have the one before: as what differs from it, and whole where that is of no use.

use sha2::{Digest as _, Sha256};

use super::*;

/// Bytes of each library of a version; all hosts together are to save more than a megabyte.
const LIBRARY: usize = 700_000;

fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed * 2 + 1;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    std::iter::repeat_with(step).take(LIBRARY / 8).flat_map(u64::to_le_bytes).collect()
}

/// A version with two libraries, of which one has a few bytes in its middle that no other version has; the libraries.
fn publish(bench: &Bench, version: &str, own: u8) -> [Vec<u8>; 2] {
    let (same, mut other) = (noise(1), noise(2));
    other.splice(LIBRARY / 2..LIBRARY / 2 + 100, [own; 300]);
    bench.publish_files(version, SERVES, &[("lib/a.jar", &same), ("lib/b.jar", &other)]);
    [same, other]
}

async fn has_whole(bench: &Bench, i: usize, files: &[Vec<u8>; 2]) {
    let found = bench.hosts.host(i).sh(&format!("cd {}/current/lib && sha256sum a.jar b.jar", bench.folder())).await;
    let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let found: Vec<&str> = found.split_whitespace().step_by(2).collect();
    assert_eq!(found, [hex(&files[0]), hex(&files[1])], "host {i}");
}

/// Bytes that ever came to a host over its network.
async fn came_to(bench: &Bench, i: usize) -> u64 {
    bench.hosts.host(i).sh(r"sed -n 's/.*eth0: *\([0-9]*\) .*/\1/p' /proc/net/dev").await.trim().parse().unwrap()
}

/// What the log of a rollout says of a host.
fn told(bench: &Bench, uid: &str, rollout: &str, host: &str) -> String {
    let log = bench.operator.data.join("rollouts").join(uid).join(rollout).join(host);
    std::fs::read_to_string(log).unwrap_or_default()
}

/// Deploys a version; the bytes that came to each host meanwhile.
async fn roll(bench: &Bench, version: &str) -> [u64; 2] {
    let before = [came_to(bench, 0).await, came_to(bench, 1).await];
    bench.edit(json!({ "version": version })).await;
    bench.until_deployed(version).await;
    [came_to(bench, 0).await - before[0], came_to(bench, 1).await - before[1]]
}

#[tokio::test]
async fn the_next_version_costs_what_differs_and_an_edited_base_the_whole_release() {
    let bench = Bench::new(2).await;
    publish(&bench, "v1", 1);
    let uid = bench.deploy("v1", json!({})).await.uid().unwrap();
    bench.until_deployed("v1").await;
    let files = publish(&bench, "v2", 2);
    let came = roll(&bench, "v2").await;
    assert!(came.iter().all(|bytes| *bytes < LIBRARY as u64 / 4), "{came:?}");
    for i in 0..2 {
        has_whole(&bench, i, &files).await;
        let host = format!("web-0{}", i + 1);
        until("told", || async { told(&bench, &uid, "2.0.1", &host).contains("with what the host has of v1") }).await;
    }

    // The operator has no v2 any more, and of v1, which does not run, nobody looks whether it was changed.
    std::fs::remove_file(bench.operator.data.join("store/versions").join(&bench.space.name).join("shop/v2")).unwrap();
    let edit = "cd releases/v1-*/lib && printf x | dd of=a.jar bs=1 seek=5000 conv=notrunc 2>&1";
    bench.hosts.host(1).sh(&format!("cd {} && {edit}", bench.folder())).await;
    let files = publish(&bench, "v3", 3);
    let came = roll(&bench, "v3").await;
    assert!(came[0] < LIBRARY as u64 / 4 && came[1] > 2 * LIBRARY as u64, "{came:?}");
    for i in 0..2 {
        has_whole(&bench, i, &files).await;
    }
    let log = async || {
        let log = told(&bench, &uid, "3.0.1", "web-02");
        if log.contains("a.jar") && log.contains("the whole release is sent") { Ok(()) } else { Err(log) }
    };
    find("the cause and what is done instead", log, |log| log).await;
    assert!(!told(&bench, &uid, "3.0.1", "web-01").contains("the whole release is sent"));
}

#[tokio::test]
async fn a_slow_line_is_set_aside_with_its_reason_delays_nobody_and_goes_on_where_it_was() {
    let bench = Bench::new(3).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    let rate = json!({ "spec": { "upload": { "minBytesPerSecond": 200_000 } } });
    bench.patch::<HostGroup>("prod", rate).await;
    let files: Vec<Vec<u8>> = (3..7).map(noise).collect();
    let names = ["lib/a.jar", "lib/b.jar", "lib/c.jar", "lib/d.jar"];
    let libraries: Vec<(&str, &[u8])> = names.into_iter().zip(files.iter().map(Vec::as_slice)).collect();
    bench.publish_files("v2", SERVES, &libraries);
    bench.hosts.host(2).slow("800kbit").await;
    // It may not be away: nobody else could be updated.
    bench.edit(json!({ "version": "v2" })).await;
    let aside = |object: &Deployment| {
        let reason = exception(object, "web-03").is_some_and(|one| one.reason == "UploadTooSlow");
        reason && object.status.as_ref().is_some_and(|status| status.hosts.ready == 2)
    };
    let aside = bench.until("the others are updated", aside).await;
    assert!(message(&aside).contains("web-03"), "{}", message(&aside));
    let told = exception(&aside, "web-03").unwrap();
    assert!(told.message.contains("200000 are the least"), "{}", told.message);
    assert_eq!([bench.version_on(0).await, bench.version_on(1).await, bench.version_on(2).await], ["v2", "v2", "v1"]);

    let there = format!("find {}/.landfall/incoming -name '*.part' -printf %s", bench.folder());
    let there: u64 = bench.hosts.host(2).sh(&there).await.trim().parse().unwrap();
    let before = came_to(&bench, 2).await;
    bench.hosts.host(2).mend().await;
    bench.stamp("landfall.dev/retry", "the line is mended").await;
    bench.until_deployed("v2").await;
    let came = came_to(&bench, 2).await - before;
    let missing = 4 * LIBRARY as u64 - there;
    // A piece or two that were under way are sent twice, and it is looked at meanwhile.
    assert!(there > 0 && came < missing + 300_000, "{there} bytes were there, {missing} missing, {came} came");
    assert_eq!(bench.version_on(2).await, "v2");
}
