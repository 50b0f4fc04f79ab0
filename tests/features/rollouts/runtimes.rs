//! Applications that their own commands start, stop and look at (`run.script`), and files that something else serves (`run.static`).

use serde_json::Value;

use super::*;

const START: &str = "env >../../shared/env; echo $(cat www/version) >>../../shared/starts; \
                     setsid busybox httpd -f -p 8080 -h www </dev/null >/dev/null 2>&1 & echo $! >../../shared/data/pid";
const STOP: &str = "echo $(cat www/version) >>../../shared/stops; kill $(cat ../../shared/data/pid)";
/// Who adopts orphans may let a dead one wait.
const STATUS: &str = "pid=$(cat ../../shared/data/pid); grep -q '^State:.[^Z]' /proc/$pid/status";

fn command(text: &str, seconds: i64) -> Value {
    json!({ "command": ["sh", "-c", text], "timeoutSeconds": seconds })
}

fn script(start: &str, stop: &str, status: &str) -> Value {
    let script = json!({ "start": command(start, 30), "stop": command(stop, 30), "status": command(status, 30) });
    json!({ "process": null, "script": script, "stop": { "to": "Main" } })
}

fn page() -> Value {
    json!({ "httpGet": { "port": 8080, "path": "/version" } })
}

fn with(mut run: Value, more: Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        run[key] = value.clone();
    }
    run
}

async fn shared(bench: &Bench, script: &str) -> String {
    bench.hosts.host(0).sh(&format!("cd {}/shared && {script}", bench.folder())).await.trim().to_owned()
}

/// The host failed in this way, and says so with these words.
async fn fails(bench: &Bench, version: &str, reason: &str, words: &[&str]) {
    bench.edit(json!({ "version": version })).await;
    let failed = bench.until(&format!("{version} fails"), |object| is(object, "Stalled", "HostsFailed")).await;
    let entry = exception(&failed, "web-01").unwrap();
    assert_eq!(entry.reason, reason, "{}", entry.message);
    for word in words {
        assert!(entry.message.contains(word), "{word}: {}", entry.message);
    }
}

async fn deploys(bench: &Bench, version: &str) {
    bench.edit(json!({ "version": version })).await;
    bench.until_deployed(version).await;
}

#[tokio::test]
async fn an_application_of_commands_is_updated_healed_stopped_by_hand_and_removed() {
    let bench = Bench::new(1).await;
    for version in ["v1", "v2"] {
        bench.publish_with(version, "", page(), script(START, STOP, STATUS));
    }
    bench.deploy("v1", json!({ "deletionPolicy": "Remove" })).await;
    bench.until_deployed("v1").await;
    assert_eq!(bench.version_on(0).await, "v1");
    deploys(&bench, "v2").await;
    assert_eq!(bench.version_on(0).await, "v2");
    assert_eq!(shared(&bench, "cat stops").await, "v1", "by the command of the version that ran");

    // What ends is started again, and it is said how it was found.
    shared(&bench, "kill -KILL $(cat data/pid)").await;
    until("started again", || async { bench.starts(0).await == ["v1", "v2", "v2"] }).await;
    bench.until_deployed("v2").await;
    let is_told = || async { events(&bench, "Healing").await.iter().any(|note| note.contains("its status command")) };
    until("told with the cause", is_told).await;

    let program = "/srv/landfall/.landfall/bin/landfall-host";
    bench.hosts.host(0).sh(&format!("{program} stop --reason 'disk swap'")).await;
    bench.until("shown", |object| is(object, "Ready", "ChangedByHand")).await;
    assert_eq!(bench.version_on(0).await, "");
    bench.hosts.host(0).sh(&format!("{program} start --reason 'disk swapped'")).await;
    bench.until_deployed("v2").await;
    assert_eq!(bench.starts(0).await.len(), 4);

    let pid = shared(&bench, "cat data/pid").await;
    bench.delete("shop").await;
    let left =
        format!("ls -d {} 2>/dev/null; grep '^State:.[^Z]' /proc/{pid}/status 2>/dev/null; true", bench.folder());
    assert_eq!(bench.hosts.host(0).sh(&left).await, "");
}

#[tokio::test]
async fn commands_of_an_application_that_fail_are_told_and_block_no_other_version() {
    let bench = Bench::new(1).await;
    let bad_stop = "echo the lock is held; exit 5";
    bench.publish_with("v1", "", page(), script(START, bad_stop, STATUS));
    bench.publish_with("v2", "", page(), script("echo no such table; exit 3", STOP, STATUS));
    let mut hangs = script("", STOP, STATUS);
    hangs["script"]["start"] = command("sleep 1000 & sleep 1001", 2);
    bench.publish_with("v3", "", page(), hangs);
    let slow = with(script(START, STOP, "echo is starting; exit 9"), json!({ "healthyDeadlineSeconds": 1 }));
    bench.publish_with("v4", "", Value::Null, slow);
    bench.publish_with("v5", "", page(), script(START, STOP, STATUS));
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    // Its stop fails: what it left is ended all the same.
    fails(&bench, "v2", "StartFailed", &["start (sh -c", "exit status 3", "last output: no such table"]).await;
    assert_eq!(bench.version_on(0).await, "");
    let log = shared(&bench, "cat log/*").await;
    assert!(log.contains("the lock is held; what was left of the application was ended"), "{log}");
    fails(&bench, "v3", "StartFailed", &["not done within 2 s; it was ended"]).await;
    fails(&bench, "v4", "NotReady", &["not ready within 1 s", "exit status 9: is starting"]).await;
    deploys(&bench, "v5").await;
    assert_eq!(bench.version_on(0).await, "v5");
}

#[tokio::test]
async fn commands_run_as_the_run_user_with_values_of_secrets_where_they_start() {
    let bench = Bench::with_hosts(1, &["--user", "deploy"]).await;
    bench.patch::<HostGroup>("prod", json!({ "spec": { "become": { "method": "Sudo", "users": ["app"] } } })).await;
    let value = format!("word{:016x}", rand::random::<u64>());
    bench
        .create::<Secret>(json!({
            "apiVersion": "v1", "kind": "Secret", "stringData": { "word": value },
            "metadata": { "name": "words", "labels": { "use.landfall.dev/run": "shop" } },
        }))
        .await;
    let word = json!([{ "name": "WORD", "valueFrom": { "secretKeyRef": { "name": "words", "key": "word" } } }]);
    let says = |what: &str| format!("echo {what} $(id -un) ${{#WORD}} >>../../shared/data/said");
    let start = format!(
        "{}; setsid busybox httpd -f -p 8080 -h www </dev/null >/dev/null 2>&1 & echo $! >../../shared/data/pid",
        says("start")
    );
    let stop = format!("{}; kill $(cat ../../shared/data/pid)", says("stop"));
    let more = json!({ "user": "app", "env": word });
    bench.publish_with("v1", "", page(), with(script(&start, &stop, STATUS), more.clone()));
    let reload =
        json!({ "process": null, "static": { "reload": command(&says("reload"), 30) }, "stop": { "to": "Main" } });
    bench.publish_with("v2", "", Value::Null, with(reload, more.clone()));
    let leaks = with(script("echo the word is $WORD; exit 4", &stop, STATUS), more);
    bench.publish_with("v3", "", page(), leaks);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    deploys(&bench, "v2").await;
    let said = shared(&bench, "cat data/said").await;
    assert_eq!(said.lines().collect::<Vec<_>>(), ["start app 20", "stop app 0", "reload app 20"]);
    fails(&bench, "v3", "StartFailed", &["exit status 4", "the word is ***"]).await;
}

#[tokio::test]
async fn files_are_switched_reloaded_and_mended_where_somebody_switches_them() {
    let bench = Bench::new(1).await;
    let files = |reload: Value| json!({ "process": null, "static": { "reload": reload }, "stop": { "to": "Main" } });
    let reloads = command("cat ../../current/www/version >>../../shared/reloads; echo >>../../shared/reloads", 30);
    for version in ["v1", "v2"] {
        bench.publish_with(version, "", Value::Null, files(reloads.clone()));
    }
    bench.publish_with("v3", "", Value::Null, files(command("echo no such site; exit 3", 30)));
    bench.publish_with("v4", "", Value::Null, files(command("sleep 1000", 1)));
    bench.publish_with("v5", "", Value::Null, json!({ "process": null, "static": {}, "stop": { "to": "Main" } }));
    let served = || async { shared(&bench, "cat ../current/www/version").await };
    bench.deploy("v1", json!({ "deletionPolicy": "Remove" })).await;
    bench.until_deployed("v1").await;
    assert_eq!(served().await, "v1");
    deploys(&bench, "v2").await;
    assert_eq!((served().await, shared(&bench, "cat reloads").await), ("v2".to_owned(), "v1\nv2".to_owned()));

    shared(&bench, "cd .. && ln -sfn $(ls -d releases/v1-*) current").await;
    until("mended", || async { shared(&bench, "cat reloads").await == "v1\nv2\nv2" }).await;
    bench.until_deployed("v2").await;
    assert_eq!(served().await, "v2");
    let is_told =
        || async { events(&bench, "Healing").await.iter().any(|note| note.contains("current points at v1-")) };
    until("told with the cause", is_told).await;

    fails(&bench, "v3", "StartFailed", &["reload (sh -c", "exit status 3", "last output: no such site"]).await;
    fails(&bench, "v4", "StartFailed", &["not done within 1 s; it was ended"]).await;
    deploys(&bench, "v5").await;
    assert_eq!(served().await, "v5");
    bench.delete("shop").await;
    assert_eq!(bench.hosts.host(0).sh(&format!("ls -d {} 2>/dev/null; true", bench.folder())).await, "");
}
