//! Values of Secrets for applications: where they come to, where they are not, and what becomes of a change.

use std::path::Path;

use k8s_openapi::api::core::v1::ConfigMap;

use super::*;

fn secret(name: &str, labels: serde_json::Value, key: &str, value: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "labels": labels },
        "stringData": { key: value },
    })
}

fn variable(name: &str, secret: &str, key: &str) -> serde_json::Value {
    json!({ "name": name, "valueFrom": { "secretKeyRef": { "name": secret, "key": key } } })
}

/// No text that anybody else writes.
fn canary() -> String {
    format!("canary{:016x}", rand::random::<u64>())
}

/// What the program saw of a variable when it started.
async fn seen(bench: &Bench, name: &str) -> String {
    let script = format!("sed -n 's/^{name}=//p' {}/shared/env 2>/dev/null || true", bench.folder());
    bench.hosts.host(0).sh(&script).await.trim().to_owned()
}

/// Where the text lies below the group's root, and in the command line of whatever process or the environment of one of ours. The program
/// of the tests writes its own environment into `shared/env`.
async fn on_host(bench: &Bench, text: &str) -> String {
    // What looks for it is not found by it.
    let (first, rest) = text.split_at(1);
    let pattern = format!("[{first}]{rest}");
    let script = format!(
        "grep -rl '{pattern}' /srv/landfall 2>/dev/null | grep -v '/shared/env$'; \
         grep -l '{pattern}' /proc/[0-9]*/cmdline 2>/dev/null; \
         for p in /proc/[0-9]*; do \
           case \"$(readlink $p/exe 2>/dev/null)\" in */.landfall/bin/*) grep -l '{pattern}' $p/environ 2>/dev/null;; esac; \
         done; true"
    );
    bench.hosts.host(0).sh(&script).await.trim().to_owned()
}

fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let files = walkdir::WalkDir::new(folder).into_iter().flatten().filter(|entry| entry.file_type().is_file());
    let has = |path: &Path| {
        std::fs::read(path).is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    };
    files.filter(|entry| has(entry.path())).map(|entry| entry.path().display().to_string()).collect()
}

/// Nothing of ours shows the text: store, journal and log of the operator, objects, events, and the host.
async fn is_nowhere(bench: &Bench, text: &str) {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    for text in [text.to_owned(), STANDARD.encode(text).trim_end_matches('=').to_owned()] {
        assert_eq!(on_host(bench, &text).await, "");
        assert_eq!(files_with(&bench.operator.data, &text), Vec::<String>::new());
        assert!(!bench.operator.output().contains(&text), "in the operator's log");
        let objects = [
            serde_json::to_string(&bench.deployments().list(&Default::default()).await.unwrap()).unwrap(),
            serde_json::to_string(&bench.space.api::<HostGroup>().list(&Default::default()).await.unwrap()).unwrap(),
            serde_json::to_string(&bench.space.api::<Event>().list(&Default::default()).await.unwrap()).unwrap(),
        ];
        assert!(!objects.iter().any(|object| object.contains(&text)), "in an object");
    }
}

#[tokio::test]
async fn a_value_of_a_secret_reaches_the_process_alone_and_a_change_rolls_out() {
    let bench = Bench::new(1).await;
    let (password, token, group, changed) = (canary(), canary(), canary(), canary());
    let of_shop = json!({ "use.landfall.dev/run": "shop" });
    bench.create::<Secret>(secret("db", of_shop.clone(), "password", &password)).await;
    bench.create::<Secret>(secret("api", of_shop, "token", &token)).await;
    bench.create::<Secret>(secret("all", json!({ "use.landfall.dev/run": "" }), "word", &group)).await;
    bench.patch::<HostGroup>("prod", json!({ "spec": { "env": [variable("WORD", "all", "word")] } })).await;
    let hook = json!([{ "at": "AfterReady", "exec": ["sh", "-c", "test -n \"$DB_PASSWORD\""] }]);
    let run = json!({ "env": [variable("DB_PASSWORD", "db", "password")], "hooks": hook });
    let probe = json!({ "httpGet": { "port": 8080, "path": "/version" } });
    bench.publish_with("v1", SERVES, probe, run);
    bench.deploy("v1", json!({ "env": [variable("TOKEN", "api", "token")] })).await;
    let deployed = bench.until_deployed("v1").await;
    assert_eq!(seen(&bench, "DB_PASSWORD").await, password);
    assert_eq!(seen(&bench, "TOKEN").await, token);
    assert_eq!(seen(&bench, "WORD").await, group);
    assert!(deployed.status.as_ref().unwrap().wanted_hash.as_ref().unwrap().starts_with("2:"));

    // It is looked at every half minute; a change of the object has it looked at now.
    bench.patch::<Secret>("db", json!({ "stringData": { "password": changed } })).await;
    bench.patch::<Deployment>("shop", json!({ "metadata": { "annotations": { "look": "now" } } })).await;
    until("the new value", || async { seen(&bench, "DB_PASSWORD").await == changed }).await;
    let rolled = bench.until_deployed("v1").await;
    let status = rolled.status.as_ref().unwrap();
    assert_eq!(status.revision, Some(2));
    assert_eq!(status.history[0].change, Some(HistoryChange::Environment));
    assert_eq!(bench.starts(0).await.len(), 2);
    for value in [&password, &token, &group, &changed] {
        is_nowhere(&bench, value).await;
    }
}

#[tokio::test]
async fn a_secret_that_is_missing_or_not_labelled_is_named_and_stops_new_updates_only() {
    let bench = Bench::new(1).await;
    let probe = json!({ "httpGet": { "port": 8080, "path": "/version" } });
    bench.publish("v1", SERVES);
    bench.publish_with("v2", SERVES, probe, json!({ "env": [variable("DB_PASSWORD", "db", "password")] }));
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.edit(json!({ "version": "v2" })).await;
    let waiting = bench.until("waiting", |object| is(object, "Reconciling", "SecretNotFound")).await;
    for words in ["version v2, run.env, variable DB_PASSWORD", "the Secret db does not exist in this namespace"] {
        assert!(message(&waiting).contains(words), "{}", message(&waiting));
    }
    let value = canary();
    bench.create::<Secret>(secret("db", json!({}), "password", &value)).await;
    let stalled = bench.until("named", |object| is(object, "Stalled", "SecretNotForThis")).await;
    let command = format!("kubectl label -n {} secret db use.landfall.dev/run=shop", bench.space.name);
    assert!(message(&stalled).contains(&command), "{}", message(&stalled));
    bench.hosts.host(0).sh("pkill -x busybox").await;
    until("started again", || async { bench.starts(0).await.len() == 2 && bench.version_on(0).await == "v1" }).await;
    bench.patch::<Secret>("db", json!({ "metadata": { "labels": { "use.landfall.dev/run": "shop" } } })).await;
    bench.until_deployed("v2").await;
    assert_eq!(seen(&bench, "DB_PASSWORD").await, value);
    is_nowhere(&bench, &value).await;
}

#[tokio::test]
async fn after_a_reboot_the_operator_brings_the_values_and_only_a_group_that_says_so_keeps_them_on_its_hosts() {
    let bench = Bench::new(1).await;
    let value = canary();
    bench.create::<Secret>(secret("db", json!({ "use.landfall.dev/run": "" }), "password", &value)).await;
    let probe = json!({ "httpGet": { "port": 8080, "path": "/version" } });
    bench.publish_with("v1", SERVES, probe, json!({ "env": [variable("DB_PASSWORD", "db", "password")] }));
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.hosts.host(0).reboot().await;
    until("healed", || async { bench.starts(0).await.len() == 2 && bench.version_on(0).await == "v1" }).await;
    assert_eq!(seen(&bench, "DB_PASSWORD").await, value);
    is_nowhere(&bench, &value).await;

    bench.patch::<HostGroup>("prod", json!({ "spec": { "keepSecretsOnHost": true } })).await;
    bench.stamp("landfall.dev/redeploy", "1").await;
    until("kept", || async { !on_host(&bench, &value).await.is_empty() }).await;
    bench.until("redeployed", |object| is(object, "Ready", "Deployed")).await;
    let kept = on_host(&bench, &value).await;
    assert!(kept.lines().count() == 1 && kept.contains("/.landfall/config/"), "{kept}");
    let mode = bench.hosts.host(0).sh(&format!("stat -c %a {kept}")).await;
    assert_eq!(mode.trim(), "600");
}

#[tokio::test]
async fn files_come_from_secrets_and_config_maps_and_a_changed_one_rolls_out() {
    let bench = Bench::new(1).await;
    let key = canary();
    let settings = |colour: &str| json!({ "data": { "application.yaml": format!("colour: {colour}\n") } });
    let mut map = settings("blue");
    map["apiVersion"] = json!("v1");
    map["kind"] = json!("ConfigMap");
    map["metadata"] = json!({ "name": "app" });
    bench.create::<ConfigMap>(map).await;
    bench.create::<Secret>(secret("tls", json!({ "use.landfall.dev/run": "shop" }), "key.pem", &key)).await;
    let files = json!([
        { "name": "application.yaml", "mode": 0o644,
          "valueFrom": { "configMapKeyRef": { "name": "app", "key": "application.yaml" } } },
        { "name": "key.pem", "valueFrom": { "secretKeyRef": { "name": "tls", "key": "key.pem" } } },
    ]);
    let script = format!("cat ../../shared/config/application.yaml > ../../shared/colour\n{SERVES}");
    let probe = json!({ "httpGet": { "port": 8080, "path": "/version" } });
    bench.publish_with("v1", &script, probe, json!({ "files": files }));
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    let config = |script: &str| {
        let script = format!("cd {}/shared/config && {script}", bench.folder());
        let host = bench.hosts.host(0);
        async move { host.sh(&script).await.trim().to_owned() }
    };
    assert_eq!(config("stat -c '%n %a' *").await, "application.yaml 644\nkey.pem 600");
    assert_eq!(config("cat key.pem ../colour").await, format!("{key}colour: blue"));
    assert_eq!(on_host(&bench, &key).await, format!("{}/shared/config/key.pem", bench.folder()), "there alone");

    bench.patch::<ConfigMap>("app", settings("green")).await;
    bench.patch::<Deployment>("shop", json!({ "metadata": { "annotations": { "look": "now" } } })).await;
    until("started again", || async { config("cat ../colour").await == "colour: green" }).await;
    let rolled = bench.until_deployed("v1").await;
    assert_eq!(rolled.status.as_ref().unwrap().revision, Some(2));
}
