//! What `run` says beside its process: hooks, drains, probes for as long as it runs, when it is started again.

use super::*;
use crate::support::wait::find;

/// Serves `shared/www`, where a test adds and removes pages; `ok` and `alive` are there after each start.
const SERVES_SHARED: &str = "mkdir -p ../../shared/www && cd ../../shared/www && { [ ! -e slow ] || sleep 5; } && touch ok alive && exec busybox httpd -f -p 8080\n";

fn page(path: &str) -> serde_json::Value {
    json!({ "httpGet": { "port": 8080, "path": path }, "periodSeconds": 1, "failureThreshold": 2 })
}

async fn on_host(bench: &Bench, script: &str) -> String {
    bench.hosts.host(0).sh(&format!("cd {}/shared && {script}", bench.folder())).await
}

#[tokio::test]
async fn a_probe_that_fails_after_the_rollout_is_shown_until_it_passes_and_nothing_is_restarted() {
    let bench = Bench::new(1).await;
    bench.publish_with("v1", SERVES_SHARED, page("/ok"), json!({}));
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    on_host(&bench, "rm www/ok").await;
    let seen = bench.until("not ready", |object| is(object, "Ready", "HostsNotReady")).await;
    assert!(is(&seen, "Reconciling", "HostsNotReady"), "{:?}", seen.status);
    let entry = exception(&seen, "web-01").unwrap();
    assert_eq!((entry.reason.as_str(), entry.phase), ("NotReady", Phase::Verifying));
    assert!(entry.message.contains("/ok") && entry.message.contains("404"), "{}", entry.message);
    let counts = &seen.status.as_ref().unwrap().hosts;
    assert_eq!((counts.ready, counts.updated, counts.failed), (0, 1, 0));
    until("told", || async { events(&bench, "NotReady").await.len() == 1 }).await;
    on_host(&bench, "touch www/ok").await;
    bench.until_deployed("v1").await;
    until("told", || async { events(&bench, "ReadyAgain").await.len() == 1 }).await;
    assert_eq!(bench.starts(0).await.len(), 1, "nobody starts it again for its readiness");
}

#[tokio::test]
async fn a_liveness_probe_that_fails_has_the_process_started_again_and_is_told() {
    let bench = Bench::new(1).await;
    bench.publish_with("v1", SERVES_SHARED, page("/ok"), json!({ "livenessProbe": page("/alive") }));
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    // Its next start takes its time, or nobody may look while it is away.
    on_host(&bench, "touch www/slow && rm www/alive").await;
    until("started again", || async { bench.starts(0).await.len() == 2 }).await;
    bench.until_deployed("v1").await;
    let told = || async {
        let notes = events(&bench, "Healing").await;
        if notes.iter().any(|note| note.contains("liveness probe failed")) { Ok(()) } else { Err(notes) }
    };
    find("told with the cause", told, |notes| format!("{notes:?}")).await;
    assert_eq!(bench.starts(0).await.len(), 2);
}

#[tokio::test]
async fn hooks_run_at_their_places_and_one_that_fails_fails_the_host_with_its_last_lines() {
    let bench = Bench::new(1).await;
    let probe = json!({ "httpGet": { "port": 8080, "path": "/version" } });
    let points = ["BeforeStop", "AfterStop", "BeforeStart", "AfterStart", "AfterReady"];
    let says = |at: &str| format!("echo {at} $LANDFALL_VERSION after $(cat ../../shared/starts) >>../../shared/hooks");
    let hooks: Vec<_> = points.iter().map(|at| json!({ "at": at, "exec": ["sh", "-c", says(at)] })).collect();
    bench.publish("v1", SERVES);
    bench.publish_with("v2", SERVES, probe.clone(), json!({ "hooks": hooks }));
    let bad = json!([{ "at": "BeforeStop", "exec": ["sh", "-c", "echo the schema is locked; exit 4"] }]);
    bench.publish_with("v3", SERVES, probe, json!({ "hooks": bad }));
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.edit(json!({ "version": "v2" })).await;
    bench.until_deployed("v2").await;
    let ran = on_host(&bench, "cat hooks").await;
    let ran: Vec<&str> = ran.lines().collect();
    let places: Vec<&str> = ran.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(places, points, "{ran:?}");
    assert!(ran.iter().all(|line| line.contains(" v2 ")), "{ran:?}");
    assert!(ran[..3].iter().all(|line| line.ends_with("after v1")), "{ran:?}");
    assert!(ran[4].ends_with("after v1 v2"), "{ran:?}");

    bench.edit(json!({ "version": "v3" })).await;
    let failed = bench.until("failed", |object| is(object, "Stalled", "HostsFailed")).await;
    let entry = exception(&failed, "web-01").unwrap();
    assert_eq!(entry.reason, "HookFailed");
    assert!(entry.message.contains("BeforeStop") && entry.message.contains("exit status 4"), "{}", entry.message);
    assert!(entry.message.contains("the schema is locked"), "{}", entry.message);
    assert_eq!(bench.version_on(0).await, "v2", "what ran is left running");
    assert_eq!(bench.starts(0).await, ["v1", "v2"]);
}

#[tokio::test]
async fn a_hook_that_fails_while_no_operator_listens_is_told_by_the_next_one() {
    let mut bench = Bench::new(1).await;
    let script = "touch ../../shared/begun; until [ -e ../../shared/go ]; do sleep 0.05; done; exit 3";
    let hooks = json!({ "hooks": [{ "at": "AfterReady", "exec": ["sh", "-c", script] }] });
    bench.publish_with("v1", SERVES, json!({ "httpGet": { "port": 8080, "path": "/version" } }), hooks);
    bench.deploy("v1", json!({})).await;
    // Its folder is not there yet.
    let begun = format!("ls {}/shared 2>&1 || true", bench.folder());
    until("the hook runs", || async { bench.hosts.host(0).sh(&begun).await.contains("begun") }).await;
    bench.operator.kill9().await;
    on_host(&bench, "touch go").await;
    until("the task is over", || async { on_host(&bench, "tail -n 1 ../.landfall/journal").await.contains("failed") })
        .await;
    bench.operator.restart().await;
    let failed = bench.until("failed", |object| is(object, "Stalled", "HostsFailed")).await;
    let entry = exception(&failed, "web-01").unwrap();
    assert_eq!((entry.reason.as_str(), entry.phase), ("HookFailed", Phase::Failed));
    assert!(entry.message.contains("AfterReady") && entry.message.contains("exit status 3"), "{}", entry.message);
    assert_eq!(bench.starts(0).await, ["v1"], "what serves is left running");
    assert_eq!(on_host(&bench, "grep -c '\"kind\":\"begin\"' ../.landfall/journal").await.trim(), "2", "stage, update");
}

#[tokio::test]
async fn what_serves_is_drained_before_it_is_stopped_and_a_drain_that_fails_fails_the_host() {
    let bench = Bench::new(1).await;
    let probe = json!({ "httpGet": { "port": 8080, "path": "/version" } });
    let drain = "cat www/version ../../shared/starts >>../../shared/drained; pgrep -x busybox >>../../shared/drained";
    bench.publish_with("v1", SERVES, probe.clone(), json!({ "drain": { "exec": ["sh", "-c", drain] } }));
    let nowhere = json!({ "drain": { "http": { "port": 8080, "path": "/nowhere", "method": "GET" } } });
    bench.publish_with("v2", SERVES, probe, nowhere);
    bench.publish("v3", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.edit(json!({ "version": "v2" })).await;
    bench.until_deployed("v2").await;
    let drained = on_host(&bench, "cat drained").await;
    // The page has no line end; behind both is the process that still serves.
    let words: Vec<&str> = drained.split_whitespace().collect();
    assert!(words.len() > 1 && words[0] == "v1v1", "v1 is drained, in its release, while it runs: {drained}");

    bench.edit(json!({ "version": "v3" })).await;
    let failed = bench.until("failed", |object| is(object, "Stalled", "HostsFailed")).await;
    let entry = exception(&failed, "web-01").unwrap();
    assert_eq!(entry.reason, "DrainFailed");
    assert!(entry.message.contains("/nowhere") && entry.message.contains("404"), "{}", entry.message);
    assert!(entry.message.contains("landfall.dev/skip-drain"), "{}", entry.message);
    assert_eq!(bench.version_on(0).await, "v2", "what ran is left running");
    assert_eq!(bench.starts(0).await, ["v1", "v2"]);

    // A person says why it goes on without it.
    bench.stamp("landfall.dev/skip-drain", "the balancer is gone").await;
    bench.stamp("landfall.dev/retry", "1").await;
    let deployed = bench.until_deployed("v3").await;
    assert_eq!(bench.starts(0).await, ["v1", "v2", "v3"]);
    let rollout = deployed.status.as_ref().unwrap().rollout.as_ref().unwrap();
    assert_eq!(rollout.intent.as_ref().unwrap().skip_drain.as_deref(), Some("the balancer is gone"));
    let told = || async { events(&bench, "DrainSkipped").await };
    until("told", || async { told().await.iter().any(|note| note.contains("web-01: the balancer is gone")) }).await;
}

#[tokio::test]
async fn what_is_removed_is_drained_before_it_is_stopped() {
    let bench = Bench::new(2).await;
    let probe = json!({ "httpGet": { "port": 8080, "path": "/version" } });
    // Beside the folder, which is removed.
    let drain = "cat www/version >>../../../drained; pgrep -x busybox >>../../../drained";
    bench.publish_with("v1", SERVES, probe, json!({ "drain": { "exec": ["sh", "-c", drain] } }));
    bench.deploy("v1", json!({ "deletionPolicy": "Remove", "hosts": { "names": ["web-01", "web-02"] } })).await;
    bench.until_deployed("v1").await;
    let on = async |i: usize, script: &str| bench.hosts.host(i).sh(script).await;
    // A host that leaves the selection, then all others.
    bench.edit(json!({ "hosts": { "names": ["web-01"] } })).await;
    let folder = format!("ls -d {} 2>/dev/null; true", bench.folder());
    until("removed", || async { on(1, &folder).await.is_empty() }).await;
    bench.delete("shop").await;
    for i in [0, 1] {
        let drained = on(i, "cat /srv/landfall/drained 2>/dev/null; true").await;
        let (version, pid) = drained.split_at(drained.len().min(2));
        assert!(version == "v1" && !pid.trim().is_empty(), "in its release, while it runs: {drained:?}");
        assert_eq!((on(i, &folder).await, bench.version_on(i).await), (String::new(), String::new()));
    }
}

#[tokio::test]
async fn a_drain_that_fails_at_a_removal_is_told_and_left_out_where_a_person_asks() {
    let bench = Bench::new(2).await;
    let probe = json!({ "httpGet": { "port": 8080, "path": "/version" } });
    bench.publish_with("v1", SERVES, probe, json!({ "drain": { "exec": ["sh", "-c", "exit 3"] } }));
    bench.deploy("v1", json!({ "deletionPolicy": "Remove", "hosts": { "names": ["web-01", "web-02"] } })).await;
    bench.until_deployed("v1").await;
    let folder = format!("ls -d {} 2>/dev/null; true", bench.folder());
    let fails = |host: &'static str| {
        move |object: &Deployment| exception(object, host).is_some_and(|one| one.reason == "DrainFailed")
    };
    // A host that leaves while the other one stays.
    bench.edit(json!({ "hosts": { "names": ["web-01"] } })).await;
    let failing = bench.until("told", fails("web-02")).await;
    let said = message(&failing);
    assert!(said.contains("web-02: DrainFailed") && said.contains("skip-drain"), "{said}");
    let told = async || events(&bench, "DrainFailed").await;
    until("an event", || async { told().await.iter().any(|note| note.contains("web-02")) }).await;
    assert_eq!(bench.version_on(1).await, "v1", "what ran is left running");
    bench.stamp("landfall.dev/skip-drain", "the balancer is gone").await;
    bench.until_deployed("v1").await;
    assert_eq!(bench.hosts.host(1).sh(&folder).await, "");
    // The last one, with the Deployment. What a person said of the other is done with.
    bench.deployments().delete("shop", &Default::default()).await.unwrap();
    bench.until("told again", fails("web-01")).await;
    bench.stamp("landfall.dev/skip-drain", "it goes").await;
    until("gone", || async { bench.deployments().get_opt("shop").await.unwrap().is_none() }).await;
    assert_eq!(bench.hosts.host(0).sh(&folder).await, "");
    until("each failure is told once", || async { told().await.len() == 2 }).await;
}

#[tokio::test]
async fn a_process_that_has_done_its_work_is_ready_and_is_not_started_again() {
    let bench = Bench::new(1).await;
    let run = json!({ "process": { "command": ["./app"], "restartPolicy": "OnFailure" } });
    bench.publish_with("v1", "exit 0\n", serde_json::Value::Null, run);
    bench.publish("v2", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.edit(json!({ "version": "v2" })).await;
    bench.until_deployed("v2").await;
    assert_eq!(bench.starts(0).await, ["v1", "v2"]);
}
