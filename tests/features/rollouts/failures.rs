//! Hosts and processes that fail, and what heals them.

use super::*;

#[tokio::test]
async fn a_failed_host_stops_the_rollout_and_retry_takes_it_on() {
    let bench = Bench::new(3).await;
    bench.publish("v1", &format!("[ -e /srv/bad ] && {{ echo no database; exit 3; }}\n{SERVES}"));
    bench.hosts.host(1).sh("touch /srv/bad").await;
    bench.deploy("v1", json!({})).await;
    let failed = bench.until("failed", |object| is(object, "Stalled", "HostsFailed")).await;
    assert!(message(&failed).contains("web-02"), "{}", message(&failed));
    assert!(message(&failed).contains("no database"), "{}", message(&failed));
    let status = failed.status.as_ref().unwrap();
    assert_eq!((status.hosts.ready, status.hosts.failed, status.hosts.pending), (1, 1, 1));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.starts(1).await.len(), 1, "a failed host is left alone");
    assert!(bench.starts(2).await.is_empty(), "no further host is started");

    bench.hosts.host(1).sh("rm /srv/bad").await;
    bench.stamp("landfall.dev/retry", "1").await;
    let done = bench.until_deployed("v1").await;
    assert_eq!(done.status.unwrap().rollout.into_option().unwrap().attempt, 2);
    assert_eq!(bench.starts(0).await.len(), 1, "a host that is ready is not taken again");
}

#[tokio::test]
async fn a_dead_process_is_started_again_and_a_reboot_is_survived() {
    let bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.hosts.host(0).sh("pkill -x busybox").await;
    until("started again", || async { bench.starts(0).await.len() == 2 && bench.version_on(0).await == "v1" }).await;
    bench.until_deployed("v1").await;
    bench.hosts.host(1).reboot().await;
    until("started again", || async { bench.starts(1).await.len() == 2 && bench.version_on(1).await == "v1" }).await;
    bench.until_deployed("v1").await;
    assert_eq!((bench.starts(0).await.len(), bench.starts(1).await.len()), (2, 2));
}

#[tokio::test]
async fn a_process_that_ends_right_after_it_was_ready_is_seen_and_healed_with_a_wait() {
    let bench = Bench::new(1).await;
    // Each of them ends when it is told so, which is when all has settled that belongs to its start.
    let ends = "while ! [ -e /srv/end-$(wc -l <../../shared/starts) ]; do sleep 0.1; done";
    let times = "cut -d ' ' -f 1 /proc/uptime >>../../shared/times";
    bench.publish("v1", &format!("{times}; busybox httpd -f -p 8080 -h www & {ends}; kill $!; exit 1\n"));
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    let seen = bench.recorded().await;
    let healing = |object: &Deployment| {
        ["Ready", "Reconciling"].iter().all(|kind| is(object, kind, "Healing"))
            && exception(object, "web-01").is_some_and(|one| one.reason == "Healing")
    };
    bench.hosts.host(0).sh("touch /srv/end-1").await;
    let healed = || async {
        let mut seen = seen.states().into_iter().skip_while(|object| !healing(object));
        seen.any(|object| is(&object, "Ready", "Deployed"))
    };
    until("healed", healed).await;
    bench.hosts.host(0).sh("touch /srv/end-2").await;
    until("healed twice", || async { bench.starts(0).await.len() > 2 }).await;
    let times = bench.hosts.host(0).sh(&format!("cat {}/shared/times", bench.folder())).await;
    let times: Vec<f64> = times.lines().map(|line| line.parse().unwrap()).collect();
    // The keeper waits for one second, then for two.
    assert!(times[2] - times[1] > 1.9, "the second start waits longer: {times:?}");
}

#[tokio::test]
async fn a_process_that_ends_within_min_ready_seconds_has_failed() {
    let bench = Bench::new(2).await;
    // It ends as soon as it has answered.
    let asked = "while ! grep -q response:200 ../../shared/asked; do sleep 0.1; done";
    bench.publish(
        "v1",
        &format!("busybox httpd -f -v -p 8080 -h www 2>../../shared/asked & {asked}; kill $!; exit 1\n"),
    );
    bench.deploy("v1", json!({ "minReadySeconds": 60 })).await;
    let failed = bench.until("failed", |object| is(object, "Stalled", "HostsFailed")).await;
    let died: Vec<usize> = (0..2)
        .filter(|i| exception(&failed, &bench.hosts.host(*i).name).is_some_and(|one| one.reason == "ProcessDied"))
        .collect();
    // One that does not answer at once lets the other go first.
    let [first] = died[..] else { panic!("{:?}", failed.status) };
    // It had been ready, so its keeper starts it again.
    assert!(bench.starts(1 - first).await.is_empty());
}

#[tokio::test]
async fn a_process_that_ignores_term_is_killed_after_its_grace() {
    let bench = Bench::new(1).await;
    bench.publish("v1", "trap '' TERM\nbusybox httpd -f -p 8080 -h www &\nwhile :; do sleep 1; done\n");
    bench.publish("v2", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.edit(json!({ "version": "v2" })).await;
    bench.until_deployed("v2").await;
    assert_eq!(bench.version_on(0).await, "v2");
}

#[tokio::test]
async fn a_port_that_a_stranger_holds_fails_the_host_and_starts_nothing() {
    let bench = Bench::new(1).await;
    bench.publish("v1", SERVES);
    bench
        .hosts
        .host(0)
        .sh("mkdir -p /srv/x && echo me > /srv/x/version && setsid busybox httpd -p 8080 -h /srv/x")
        .await;
    bench.deploy("v1", json!({})).await;
    let failed = bench.until("failed", |object| is(object, "Stalled", "HostsFailed")).await;
    let entry = exception(&failed, "web-01").unwrap();
    assert_eq!(entry.reason, "PortInUse");
    assert!(entry.message.contains("8080"), "{}", entry.message);
    assert!(bench.starts(0).await.is_empty());
    assert_eq!(bench.version_on(0).await, "me", "the stranger is left alone");
}

#[tokio::test]
async fn a_program_that_talks_all_the_time_keeps_to_its_part_of_the_disk() {
    let bench = Bench::new(1).await;
    let talk = "busybox httpd -f -p 8080 -h www &\nwhile :; do head -c 200000 /dev/zero | tr '\\0' x; echo; sleep 0.02; done\n";
    bench.publish("v1", talk);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    // Nobody looks; its keeper does.
    bench.patch::<HostGroup>("prod", json!({ "spec": { "probe": { "periodSeconds": 3600 } } })).await;
    let sizes = format!("stat -c %s {}/shared/log/output.log* 2>/dev/null || true", bench.folder());
    let sizes = async || -> Vec<u64> {
        bench.hosts.host(0).sh(&sizes).await.lines().map(|line| line.parse().unwrap()).collect()
    };
    until("rotated twice", || async { sizes().await.len() > 2 }).await;
    let sizes = sizes().await;
    assert!(sizes.iter().all(|size| *size < 30 << 20), "{sizes:?}");
    assert_eq!(bench.starts(0).await, ["v1"]);
}

#[tokio::test]
async fn a_full_disk_fails_the_host_before_anything_stops() {
    let bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.publish("v2", &format!("# {}\n{SERVES}", "x".repeat(300_000)));
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.hosts.host(1).fill_but(64).await;
    bench.edit(json!({ "version": "v2" })).await;
    let failed = bench.until("failed", |object| is(object, "Stalled", "HostsFailed")).await;
    assert_eq!(exception(&failed, "web-02").unwrap().reason, "DiskFull");
    assert_eq!(bench.version_on(0).await, "v1", "staging failed, so nothing was stopped anywhere");
    bench.hosts.host(1).drain().await;
    bench.stamp("landfall.dev/retry", "1").await;
    bench.until_deployed("v2").await;
}

#[tokio::test]
async fn a_process_that_keeps_ending_is_started_again_and_shown_by_the_next_operator() {
    let mut bench = Bench::new(1).await;
    bench.publish("v1", &format!("[ -e /srv/bad ] && {{ echo no database; sleep 1; exit 1; }}\n{SERVES}"));
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    let host = bench.hosts.host(0).clone();
    bench.operator.kill9().await;
    host.sh("touch /srv/bad; pkill -x busybox").await;
    until("started by its keeper alone", || async { bench.starts(0).await.len() > 2 }).await;
    bench.operator.restart().await;
    let healing = bench
        .until("not healed", |object| {
            let said = exception(object, "web-01").is_some_and(|one| one.message.contains("ProcessDied"));
            said && is(object, "Ready", "Healing") && is(object, "Reconciling", "Healing")
        })
        .await;
    assert!(message(&healing).contains("no database"), "its last words: {}", message(&healing));
    // An event follows the status that it is about.
    let told = async || {
        let told = events(&bench, "ProcessDied").await;
        let is_told = told.iter().any(|note| note.contains("web-01") && note.contains("no database"));
        if is_told { Ok(()) } else { Err(told) }
    };
    crate::support::wait::find("an event has the last words", told, |told| format!("{told:?}")).await;
    host.sh("rm /srv/bad").await;
    bench.until_deployed("v1").await;
    assert_eq!(bench.version_on(0).await, "v1");
}

#[tokio::test]
async fn a_retry_after_not_ready_starts_a_new_process() {
    let bench = Bench::new(1).await;
    let waits = "[ -e /srv/go ] || sleep 1000\n";
    bench.publish_with(
        "v1",
        &format!("{waits}{SERVES}"),
        json!({ "httpGet": { "port": 8080, "path": "/version" } }),
        json!({ "healthyDeadlineSeconds": 3 }),
    );
    bench.deploy("v1", json!({})).await;
    let failed = bench.until("failed", |object| is(object, "Stalled", "HostsFailed")).await;
    assert_eq!(exception(&failed, "web-01").unwrap().reason, "NotReady");
    bench.hosts.host(0).sh("touch /srv/go").await;
    bench.stamp("landfall.dev/retry", "1").await;
    bench.until_deployed("v1").await;
    assert_eq!(bench.starts(0).await.len(), 2);
}

#[tokio::test]
async fn what_runs_is_healed_while_the_group_lists_an_address_twice() {
    let mut bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    let addresses = [0, 1].map(|i| bench.hosts.host(i).address.clone());
    let host = |name: &str, i: usize| json!({ "name": name, "address": addresses[i] });
    let hosts = json!([host("web-01", 0), host("web-02", 1), host("web-03", 0)]);
    bench.patch::<HostGroup>("prod", json!({ "spec": { "hosts": hosts } })).await;
    bench.until("refused", |object| is(object, "Stalled", "DuplicateAddress")).await;
    bench.hosts.host(1).sh("pkill -x busybox").await;
    until("started again", || async { bench.starts(1).await.len() == 2 && bench.version_on(1).await == "v1" }).await;
    // A new operator finds the group as it is.
    bench.operator.kill9().await;
    bench.operator.restart().await;
    bench.hosts.host(0).sh("pkill -x busybox").await;
    until("started again", || async { bench.starts(0).await.len() == 2 && bench.version_on(0).await == "v1" }).await;
    let object = bench.get("shop").await;
    assert!(is(&object, "Stalled", "DuplicateAddress"), "{}", message(&object));
    bench.patch::<HostGroup>("prod", json!({ "spec": { "hosts": [host("web-01", 0), host("web-02", 1)] } })).await;
    bench.until_deployed("v1").await;
    assert_eq!((bench.starts(0).await.len(), bench.starts(1).await.len()), (2, 2));
}
