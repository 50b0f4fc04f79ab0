//! What a script may have and use, and what it does not reach: secrets, limits, the operator, the control plane.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use k8s_openapi::api::{core::v1::Secret, events::v1::Event};
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use landfall::api::Project;
use serde_json::{Value, json};

use crate::support::{
    builds::{Bench, condition, eventually, mark, message, processes},
    wait::until,
};

#[tokio::test]
async fn children_that_leave_their_session_do_not_outlive_the_script() {
    let sleep = mark();
    let bench = Bench::with(
        "children",
        &format!(
            "setsid sh -c 'trap \"\" TERM HUP; touch up; sleep {sleep}' >/dev/null 2>&1 &\nwhile ! [ -e up ]; do sleep 0.1; done; echo x > app"
        ),
    )
    .await;
    bench.build("shop-1", json!({})).await;
    bench.until_ready("shop-1").await;
    assert_eq!(processes(&sleep), 0);
}

/// Files below a folder that hold this text.
fn files_with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let output = Command::new("grep").args(["-rlaF", "--", text]).arg(folder).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect()
}

fn secret(name: &str, usage: &str, key: &str, value: &str) -> Secret {
    let label = format!("use.landfall.dev/{usage}");
    let secret = json!({ "metadata": { "name": name, "labels": { label: "shop" } }, "stringData": { key: value } });
    serde_json::from_value(secret).unwrap()
}

#[tokio::test]
async fn a_secret_reaches_the_script_and_is_found_nowhere_else() {
    let mut bench = Bench::new("secrets").await;
    let canary = format!("ca'nary/{:016x}+{:016x}", rand::random::<u64>(), rand::random::<u64>());
    let secrets = bench.namespace.api::<Secret>();
    secrets.create(&PostParams::default(), &secret("repo", "build", "token", &canary)).await.unwrap();
    let script = "echo \"plain $TOKEN.\"; printf %s \"$TOKEN\" | sha256sum; touch begun
while ! [ -e go ]; do echo tick \"$TOKEN\"; sleep 0.1; done
set -x; : \"$TOKEN\"; set +x
for before in '' a ab; do printf %s \"$before$TOKEN-\" | base64 -w0; echo; done
printf %s \"$TOKEN\" | cut -c1-9 | tr -d '\\n'; sleep 0.3; printf %s \"$TOKEN\" | cut -c10-
printf '{\"token\":\"%s\"}\\n' \"$TOKEN\"; printf %s \"$TOKEN\" | sed \"s/'/%27/;s,/,%2F,;s,+,%2B,\"; echo; echo the end >&2; exit 3";
    let env = json!([{ "name": "TOKEN", "valueFrom": { "secretKeyRef": { "name": "repo", "key": "token" } } }]);
    bench.project(json!({ "script": script, "env": env, "artifacts": [{ "path": "app" }] })).await;
    let uid = bench.build("shop-1", json!({})).await.uid().unwrap();
    let attempt = bench.operator.data.join("executor").join(&uid).join("1");
    eventually("begun", || attempt.join("src/begun").exists()).await;
    // The one who told the runner goes, and the Secret with it: neither is needed any more.
    bench.operator.restart().await;
    secrets.delete("repo", &DeleteParams::default()).await.unwrap();
    let lines = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("cmdline"));
    let told: Vec<_> =
        lines.filter(|line| std::fs::read_to_string(line).is_ok_and(|line| line.contains(&canary))).collect();
    assert_eq!(told, Vec::<PathBuf>::new(), "on a command line");
    assert_eq!(files_with(&bench.operator.data, &canary), Vec::<PathBuf>::new(), "on the disk while it runs");
    std::fs::write(attempt.join("src/go"), "").unwrap();
    let build = bench.until_stalled("shop-1", "ScriptFailed").await;
    let log = std::fs::read_to_string(attempt.join("log")).unwrap();
    let digest =
        Command::new("sh").args(["-c", "printf %s \"$1\" | sha256sum", "sh", &canary]).output().unwrap().stdout;
    assert!(log.contains(&*String::from_utf8(digest).unwrap()), "the script had the very value: {log}");
    assert!(log.starts_with("plain ***.\n") && log.contains("\n***\n{\"token\":\"***\"}\n***\nthe end\n"), "{log}");
    let random = canary.split_once('/').unwrap().1;
    let (one, two) = random.split_once('+').unwrap();
    let events = async || bench.namespace.api::<Event>().list(&Default::default()).await.unwrap().items;
    until("told of in an event", || async { !events().await.is_empty() }).await;
    let events = events().await;
    let project = bench.projects().get("shop").await.unwrap();
    let shown = serde_json::to_string(&json!([build, project, events])).unwrap() + &bench.operator.output() + &log;
    for piece in [one, two, &random[..20], "Y2EnbmFyeS9", "NhJ25hcnkv", "jYSduYXJ5L"] {
        assert!(!shown.contains(piece), "{piece} in {shown}");
        assert_eq!(files_with(&bench.operator.data, piece), Vec::<PathBuf>::new(), "{piece} on the disk");
    }
    assert!(shown.contains("the end"), "{shown}");
}

#[tokio::test]
async fn a_secret_that_is_missing_or_not_for_builds_is_waited_for() {
    let bench = Bench::new("nosecret").await;
    let env = json!([{ "name": "TOKEN", "valueFrom": { "secretKeyRef": { "name": "repo", "key": "token" } } }]);
    bench
        .project(json!({ "script": "printf %s \"$TOKEN\" > app", "env": env, "artifacts": [{ "path": "app" }] }))
        .await;
    bench.build("shop-1", json!({ "tag": "v1" })).await;
    let build = bench.until_reason("shop-1", "SecretNotFound").await;
    assert_eq!((condition(&build, "Reconciling"), condition(&build, "Stalled")), ("True", "absent"), "it waits");
    assert!(message(&build).contains("repo"), "{}", message(&build));
    let free = |project: &Project| project.status.as_ref().is_some_and(|status| status.active_build.is_none());
    bench.until_project("free: it does not hold up others", free).await;
    let secrets = bench.namespace.api::<Secret>();
    secrets.create(&PostParams::default(), &secret("repo", "ssh", "token", "hunter22")).await.unwrap();
    let build = bench.until_reason("shop-1", "SecretNotForThis").await;
    // U21: a deploy key is not advised to be labelled for builds as well.
    let said = message(&build);
    assert!(said.contains("is for ssh, not for build") && said.contains("another Secret"), "{said}");
    let label = json!({ "metadata": { "labels": { "use.landfall.dev/ssh": null, "landfall.dev/use": "build" } } });
    secrets.patch("repo", &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    let command = "kubectl label -n NAMESPACE secret repo use.landfall.dev/build=shop landfall.dev/use-";
    let command = command.replace("NAMESPACE", &bench.namespace.name);
    bench.until("shop-1", "the command", |build| message(build).contains(&command)).await;
    let label = json!({ "metadata": { "labels": { "use.landfall.dev/build": "shop", "landfall.dev/use": null } } });
    secrets.patch("repo", &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    bench.until_ready("shop-1").await;
    assert_eq!(bench.release("v1")["app"], b"hunter22");
    let bad =
        json!([{ "name": "A", "value": "x", "valueFrom": { "secretKeyRef": { "name": "repo", "key": "token" } } }]);
    let both = json!({ "spec": { "build": { "env": bad } } });
    let refused = bench.projects().patch("shop", &PatchParams::default(), &Patch::Merge(both)).await.unwrap_err();
    assert!(refused.to_string().contains("either value or valueFrom"), "{refused}");
}

#[tokio::test]
async fn a_script_that_takes_too_much_fails_with_the_limit_named_and_the_next_one_runs() {
    let bench = Bench::new("limits").await;
    let script = "case $KIND in memory) x=$(head -c 600000000 /dev/zero | tr '\\0' x);; pids) perl -e 'fork while 1';; esac; echo x > app";
    let limits = json!({ "limits": { "memory": "64Mi", "pids": 64, "cpu": 2 } });
    bench
        .project(json!({ "script": script, "parameters": [{ "name": "KIND" }], "artifacts": [{ "path": "app" }], "resources": limits }))
        .await;
    for (kind, reason, says) in [
        ("memory", "OutOfMemory", "build.resources.limits.memory (64Mi)"),
        ("pids", "ProcessLimit", "build.resources.limits.pids (64)"),
    ] {
        bench.build(kind, json!({ "parameters": { "KIND": kind } })).await;
        let build = bench.until_stalled(kind, reason).await;
        assert!(message(&build).contains(says), "{}", message(&build));
    }
    assert!(bench.operator.is_running());
    bench.build("none", json!({ "parameters": { "KIND": "none" } })).await;
    bench.until_ready("none").await;
    for (limits, says) in [
        (json!({ "cpu": "two" }), "2, 0.5 or 500m"),
        (json!({ "cpu": "0.0" }), "2, 0.5 or 500m"),
        (json!({ "memory": "5 GB" }), "512Mi or 4Gi"),
        (json!({ "pids": 1 }), "spec.build.resources.limits.pids"),
    ] {
        let patch = Patch::Merge(json!({ "spec": { "build": { "resources": { "limits": limits } } } }));
        let refused = bench.projects().patch("shop", &PatchParams::default(), &patch).await.unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    }
}

#[tokio::test]
async fn a_script_reaches_nothing_of_the_operator_nor_of_the_control_plane() {
    let bench = Bench::new("reach").await;
    let admin = crate::support::plane::kubeconfig().await;
    let plane = admin.parent().unwrap();
    let ports: Value = serde_json::from_slice(&std::fs::read(plane.join("ports.json")).unwrap()).unwrap();
    let (etcd, operator, data) = (ports["etcd"].as_u64().unwrap(), bench.operator.pid(), bench.operator.data.display());
    let server = std::fs::read_to_string(&admin).unwrap();
    let server =
        server.lines().find_map(|line| line.trim().strip_prefix("server: ")).unwrap().trim_matches('"').to_owned();
    let script = format!(
        "set +e
try() {{ \"$@\" >/dev/null 2>&1 && echo \"LEAK: $*\"; }}
for path in {data} {data}/store {data}/executor {plane} {plane}/pki /root/.kube /var/run/secrets /run /sys; do try ls $path; done
for path in {admin} {plane}/operator.kubeconfig {plane}/pki/etcd.key {data}/executor; do try cat $path; done
for pid in {operator} 1; do
    for name in environ mem maps root/etc/shadow cwd/x fd/0; do try cat /proc/$pid/$name; done
    try ls /proc/$pid/fd; try kill -0 $pid; try kill -9 $pid
    command -v strace >/dev/null || echo \"LEAK: no strace here, so nothing was tried\"
    timeout 2 strace -p $pid 2>&1 | grep attached | sed 's/^/LEAK: /'
done
grep -l -e kubeconfig -e KUBECONFIG /proc/[0-9]*/environ 2>/dev/null | sed 's/^/LEAK: /'
try curl -sk -m 5 https://127.0.0.1:{etcd}/health
try curl -sk -m 5 https://127.0.0.1:{etcd}/v3/kv/range -d '{{\"key\":\"AA==\",\"range_end\":\"AA==\"}}'
echo secrets $(curl -sk -m 60 -o /dev/null -w '%{{http_code}}' {server}/api/v1/secrets)
env | grep -i -e kube -e token -e secret | sed 's/^/LEAK: /'
echo tried; echo x > app",
        plane = plane.display(),
        admin = admin.display(),
    );
    bench.project(json!({ "script": script, "artifacts": [{ "path": "app" }] })).await;
    let uid = bench.build("shop-1", json!({})).await.uid().unwrap();
    bench.until_ready("shop-1").await;
    let log = std::fs::read_to_string(bench.operator.data.join("executor").join(uid).join("1/log")).unwrap();
    assert!(log.contains("tried") && !log.contains("LEAK"), "{log}");
    assert!(log.contains("secrets 401") || log.contains("secrets 403"), "{log}");
    assert!(bench.operator.is_running());
}
