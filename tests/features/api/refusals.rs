//! What a user reads where a value can't work: a sentence that names the field and says what to write (U15, U19, U21, C19, C20).

use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, PostParams},
};
use serde_json::{Value, json};

use super::specs::{FieldPath, Step, with};
use crate::support::plane::client;

/// `spec.hosts[0].address`, with `[0]` as `.0`.
fn path(text: &str) -> FieldPath {
    let step = |name: &str| if name == "0" { Step::Item } else { Step::Field(name.to_owned()) };
    FieldPath(text.split('.').map(step).collect())
}

async fn answer(kind: &str, field: &str, value: Value) -> Result<DynamicObject, String> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("landfall.dev", "v1alpha1", kind));
    let api: Api<DynamicObject> = Api::namespaced_with(client().await, "default", &resource);
    let object = serde_json::from_value(with(kind, &path(field), value)).unwrap();
    match api.create(&PostParams { dry_run: true, ..PostParams::default() }, &object).await {
        Ok(taken) => Ok(taken),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

/// Refused, with the field and this sentence; and without a pattern.
async fn refused(kind: &str, field: &str, value: Value, sentence: &str) {
    let Err(message) = answer(kind, field, value.clone()).await else { panic!("{field}: {value} is taken") };
    let shown = field.replace(".0", "[0]");
    assert!(
        message.contains(&shown) || message.contains(shown.trim_end_matches("[0]")),
        "{shown} is not named: {message}"
    );
    assert!(message.contains(sentence), "{sentence:?} is not in: {message}");
    assert!(!message.contains("should match"), "a bare pattern: {message}");
}

async fn taken(kind: &str, field: &str, value: Value) {
    answer(kind, field, value.clone()).await.unwrap_or_else(|message| panic!("{field}: {value}: {message}"));
}

#[tokio::test]
async fn what_can_not_work_is_refused_with_a_sentence_of_what_to_write() {
    for (field, value, sentence) in [
        ("spec.source.url", json!("git@example.com:shop/a.git"), "ssh://git@git.example.com/shop/petclinic.git"),
        ("spec.source.branches", json!(["[bad"]), "brackets and braces are closed"),
        ("spec.build.trigger.onPush", json!(["{a"]), "brackets and braces are closed"),
        ("spec.source.interval", json!("0s"), "at least one second"),
        ("spec.source.interval", json!("soon"), "30s, 1m, 1h30m"),
        ("spec.build.tag.template", json!("v{numbr}"), "unknown or unclosed placeholder"),
        ("spec.build.tag.template", json!("latest"), "has no {number}"),
        ("spec.build.tag.template", json!("-{number}"), "makes no version"),
        ("spec.build.resources.limits.memory", json!("1Mi"), "at least 16Mi"),
        ("spec.build.artifacts.0.path", json!("a[b"), "brackets and braces are closed"),
        ("spec.build.caches.0.name", json!("M2"), "begins and ends with a letter or digit"),
        ("spec.build.script", json!("a\0b"), "NUL"),
        ("spec.run.user", json!("Root"), "login name"),
        ("spec.run.env.0.name", json!("spring.datasource.url"), "SPRING_DATASOURCE_URL"),
        ("spec.run.env.0.name", json!("UID"), "a shell starts the process"),
        ("spec.run.env.0.name", json!("RANDOM"), "a shell starts the process"),
        ("spec.run.env.0.name", json!("landfall_line"), "are set by landfall"),
        ("spec.run.env.0.value", json!("a\0b"), "NUL"),
        ("spec.run.process.command", json!(["a\0b"]), "NUL"),
        ("spec.run.systemd.command", json!(["a\0b"]), "NUL"),
        ("spec.run.systemd.unit", json!("../app.service"), "ends in .service"),
        ("spec.run.systemd.unit", json!("landfall-shop.web.service"), "does not begin with landfall-"),
        ("spec.run.systemd.memoryMax", json!("1Mi"), "at least 16Mi"),
        ("spec.run.systemd", json!({ "command": ["./app"], "unit": "app.service" }), "either command or unit"),
        ("spec.run.systemd", json!({ "unit": "app.service", "memoryMax": "1Gi" }), "its own MemoryMax="),
        ("spec.run.script.start.command", json!(["a\0b"]), "NUL"),
        ("spec.run.script.status.timeoutSeconds", json!(61), "less than or equal to 60"),
        ("spec.run.static.reload.command", json!(["a\0b"]), "NUL"),
        ("spec.run.drain", json!({}), "a drain has either exec or http"),
        ("spec.run.drain", json!({ "http": { "port": 1, "path": "/" }, "undoExec": ["x"] }), "undoExec goes with exec"),
        ("spec.run.drain.http.path", json!("drain"), "path begins with '/'"),
        ("spec.run.hooks.0.exec", json!(["a\0b"]), "NUL"),
        ("spec.run.hooks.0.at", json!("BeforeReady"), "\"BeforeStop\""),
        ("spec.run.livenessProbe", json!({}), "a livenessProbe has either httpGet or tcpSocket"),
        ("spec.run.readinessProbe.httpGet.host", json!("[::1]"), "an IP address without brackets"),
        ("spec.run.readinessProbe.httpGet.httpHeaders.0.name", json!("a b"), "the name of a header takes"),
        ("spec.run.readinessProbe.httpGet.httpHeaders.0.value", json!("a\r\nb"), "printable ASCII"),
        ("metadata.name", json!("a.b"), "has no dot"),
    ] {
        refused("Project", field, value, sentence).await;
    }
    for (field, value, sentence) in [
        ("spec.hosts.0.address", json!("10.0.0.1:22"), "address takes no port; set ssh.port"),
        ("spec.hosts.0.address", json!("[::1]:22"), "address takes no port; set ssh.port"),
        ("spec.hosts.0.address", json!("10.0.0.256"), "IPv4 address"),
        ("spec.ssh.jump.0.address", json!("bastion:2222"), "address takes no port; set port beside it"),
        ("spec.hosts.0.labels", json!({ "b ad": "x" }), "a label key takes"),
        ("spec.hosts.0.suspend.until", json!("2026-12-01"), "a time with its zone"),
        ("spec.hosts.0.suspend.until", json!([]), "must be of type string"),
        ("spec.hosts.0.labels", json!({ "zone": "b ad" }), "a label value takes"),
        ("spec.become.users", json!(["Root"]), "login name"),
        ("spec.root", json!("/srv/../etc"), "without '.' or '..'"),
        ("metadata.name", json!("a.b"), "the name of a HostGroup takes"),
    ] {
        refused("HostGroup", field, value, sentence).await;
    }
    for (field, value, sentence) in [
        ("spec.version", json!("a..b"), "has no '..'"),
        (
            "spec.hosts.selector.matchExpressions.0.operator",
            json!("Like"),
            "\"In\", \"NotIn\", \"Exists\", \"DoesNotExist\"",
        ),
        ("spec.hosts.selector.matchExpressions.0.key", json!("b ad"), "a label key takes"),
        ("spec.hosts.names", json!(["Web 1"]), "begins and ends with a letter or digit"),
        ("spec.pins.0.version", json!("a..b"), "has no '..'"),
        ("spec.pins.0.reason", json!(""), "should be at least 1 chars long"),
        ("spec.pins.0.until", json!("2026-12-01"), "a time with its zone"),
        ("spec.pins.0.hosts", json!({}), "hosts has either names or selector"),
        ("metadata.name", json!("a.b"), "the name of a Deployment takes"),
        (
            "spec.strategy.canary.pause",
            json!({ "seconds": 5, "manual": true }),
            "pause has either seconds, or manual: true",
        ),
        ("spec.strategy.canary.pause", json!({ "manual": false }), "pause has either seconds, or manual: true"),
        ("spec.strategy.canary.hosts", json!({}), "hosts has either names or selector"),
        ("spec.strategy.rollingUpdate", json!({ "order": "ByZone" }), "order: ByZone needs spreadBy"),
        ("spec.strategy.rollingUpdate.spreadBy", json!("a b"), "a label key takes"),
        ("spec.minReadySeconds", json!(60), "spec.progressDeadlineSeconds must be greater than spec.minReadySeconds"),
    ] {
        refused("Deployment", field, value, sentence).await;
    }
    for (field, value, sentence) in [
        ("spec.revision", json!("a b"), "a branch, a tag or a commit id"),
        ("spec.tag", json!("v1.lock"), "does not end in '.' or '.lock'"),
        ("spec.parameters", json!({ "A B": "x" }), "the name of a variable"),
        ("spec.projectRef.name", json!("Shop"), "a name of an object"),
        ("metadata.name", json!("a.b"), "the name of a Build takes"),
    ] {
        refused("Build", field, value, sentence).await;
    }
}

#[tokio::test]
async fn what_people_write_is_taken() {
    for (field, value) in [
        ("spec.source.branches", json!(["main", "release/*", "v[0-9]*", "{a,b[0-9]}/**"])),
        ("spec.source.interval", json!("1h30m")),
        ("spec.build.tag.template", json!("v{date}-{number}")),
        ("spec.build.tag.template", json!("release-{number}")),
        ("spec.build.resources.limits", json!({ "cpu": 2, "memory": "16Mi" })),
        (
            "spec.build.artifacts",
            json!([{ "path": "target/*.jar" }, { "path": "dist/**/[a-z]?.{js,css}" }, { "path": "my file" }]),
        ),
        ("spec.build.executor", json!({ "local": {} })),
        ("spec.run.env.0.value", json!("a\nb 'c' \"d\" $e `f` \\ \t ü 🚢")),
    ] {
        taken("Project", field, value).await;
    }
    for (field, value) in [
        ("spec.hosts.0.address", json!("2001:db8::1")),
        ("spec.hosts.0.address", json!("Web-01.example.com")),
        ("spec.hosts.0.labels", json!({ "topology.kubernetes.io/zone": "eu-1", "empty": "" })),
    ] {
        taken("HostGroup", field, value).await;
    }
}

#[tokio::test]
async fn a_union_has_exactly_one_member_and_no_default() {
    refused("Project", "spec.build.executor", json!({}), "exactly one of: local").await;
    let none = answer("Project", "spec.run.process", Value::Null).await.unwrap_err();
    assert!(none.contains("spec.run: ") && none.contains("exactly one of: process"), "{none}");
    let mut object = answer("Project", "spec.build.executor", Value::Null).await.unwrap();
    assert!(object.data["spec"]["build"].get("executor").is_none(), "{}", object.data["spec"]["build"].take());
}
