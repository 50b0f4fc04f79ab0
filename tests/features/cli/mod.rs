//! The commands of a person and of CI, as programs: exit codes, JSON, and what is said where a cluster does not answer or refuses.

mod deploys;
mod story;
mod verbs;
mod waits;

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::support::plane::{TestNamespace, bare_namespace, kubeconfig};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{
    Api,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use landfall::api::Deployment;
use serde_json::{Value, json};

fn landfall(arguments: &[&str], kubeconfig: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfall"));
    command.args(arguments).env("KUBECONFIG", kubeconfig).stdin(Stdio::null()).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// A kubeconfig for an API server at this URL.
fn config_for(folder: &Path, server: &str) -> PathBuf {
    let path = folder.join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{ "name": "c", "cluster": { "server": server, "insecure-skip-tls-verify": true } }],
        "users": [{ "name": "u", "user": { "token": "x" } }],
        "contexts": [
            { "name": "here", "context": { "cluster": "c", "user": "u", "namespace": "shop" } },
            { "name": "there", "context": { "cluster": "c", "user": "u", "namespace": "team" } },
        ],
    });
    fs::write(&path, config.to_string()).unwrap();
    path
}

/// A Deployment whose status the test writes in place of an operator.
struct Example {
    space: TestNamespace,
    api: Api<Deployment>,
}

impl Example {
    async fn new() -> Self {
        let space = bare_namespace("cli").await;
        let example = Self { api: space.api(), space };
        example.create("web", json!({})).await;
        example
    }

    /// A Deployment of project `hello` on host group `prod`, with this metadata besides its name.
    async fn create(&self, name: &str, metadata: Value) {
        let mut object = json!({
            "apiVersion": "landfall.dev/v1alpha1", "kind": "Deployment", "metadata": metadata,
            "spec": { "projectRef": { "name": "hello" }, "hostGroupRef": { "name": "prod" }, "version": "v2" },
        });
        object["metadata"]["name"] = name.into();
        let object: Deployment = serde_json::from_value(object).unwrap();
        self.api.create(&PostParams::default(), &object).await.unwrap();
    }

    /// This part of its status.
    async fn patch_status(&self, status: Value) {
        let status = json!({ "status": status });
        self.api.patch_status("web", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }

    /// A command in its namespace.
    async fn run(&self, arguments: &[&str]) -> Output {
        landfall(&[arguments, &["-n", &self.space.name]].concat(), &kubeconfig().await)
    }

    async fn conditions(&self, conditions: &[(&str, &str, &str)]) {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(kind, status, reason)| {
                json!({ "type": kind, "status": status, "reason": reason, "message": "what happened",
                        "observedGeneration": 1, "lastTransitionTime": "2026-11-26T08:00:00Z" })
            })
            .collect();
        self.patch_status(json!({ "observedGeneration": 1, "conditions": conditions })).await;
    }

    async fn status(&self, more: &[&str]) -> Output {
        self.run(&[&["status", "lfd/web"], more].concat()).await
    }
}

#[tokio::test]
async fn status_tells_ready_failed_and_in_progress_by_its_exit_code() {
    let example = Example::new().await;
    let fresh = example.status(&[]).await;
    assert_eq!((code(&fresh), out(&fresh).contains("waiting for the operator")), (3, true), "{}", out(&fresh));
    for (wanted, word, conditions) in [
        (3, "in progress", &[("Ready", "False", "RollingOut"), ("Reconciling", "True", "RollingOut")][..]),
        (1, "failed, needs action", &[("Ready", "False", "HostsFailed"), ("Stalled", "True", "HostsFailed")]),
        (0, "ready", &[("Ready", "True", "Deployed")]),
    ] {
        example.conditions(conditions).await;
        let screen = example.status(&[]).await;
        assert_eq!(code(&screen), wanted, "{}", out(&screen));
        assert!(out(&screen).contains(&format!("state     {word}: {}\n", conditions[0].2)), "{}", out(&screen));
        let json: Value = serde_json::from_str(&out(&example.status(&["-o", "json"]).await)).unwrap();
        assert_eq!((&json["exitCode"], &json["reason"]), (&json!(wanted), &json!(conditions[0].2)));
        assert_eq!(json["status"]["observedGeneration"], 1);
    }
}

#[tokio::test]
async fn a_watched_object_is_followed_to_its_end_or_its_timeout() {
    let example = Example::new().await;
    let started = Instant::now();
    let waited = example.status(&["--watch", "--timeout", "2s"]).await;
    assert_eq!(code(&waited), 3, "{}", err(&waited));
    assert!(started.elapsed() >= Duration::from_secs(2));
    let (config, space) = (kubeconfig().await, example.space.name.clone());
    let watcher = tokio::task::spawn_blocking(move || landfall(&["status", "-n", &space, "lfd/web", "-w"], &config));
    example.conditions(&[("Ready", "False", "RollingOut"), ("Reconciling", "True", "RollingOut")]).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    example.conditions(&[("Ready", "False", "HostsFailed"), ("Stalled", "True", "HostsFailed")]).await;
    let watched = watcher.await.unwrap();
    assert_eq!(code(&watched), 1, "{}", err(&watched));
    assert!(out(&watched).contains("in progress: RollingOut: what happened\n"), "{}", out(&watched));
    assert!(out(&watched).contains("state     failed, needs action: HostsFailed"), "{}", out(&watched));
}

#[tokio::test]
async fn what_does_not_exist_is_named_with_the_command_that_lists_the_others() {
    let space = bare_namespace("cli-none").await;
    let missing = landfall(&["status", "-n", &space.name, "build/nope"], &kubeconfig().await);
    let wanted = format!(
        "landfall: Build {0}/nope does not exist; `kubectl get builds.landfall.dev -n {0}` lists what does\n",
        space.name
    );
    assert_eq!((code(&missing), err(&missing)), (2, wanted));
}

/// A kubeconfig of a service account without any right.
async fn stranger(space: &TestNamespace, folder: &Path) -> PathBuf {
    let accounts: Api<ServiceAccount> = space.api();
    let account = ServiceAccount {
        metadata: ObjectMeta { name: Some("stranger".into()), ..Default::default() },
        ..Default::default()
    };
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let request = k8s_openapi::api::authentication::v1::TokenRequest {
        spec: Some(k8s_openapi::api::authentication::v1::TokenRequestSpec::default()),
        ..Default::default()
    };
    let token = accounts.create_token_request("stranger", &PostParams::default(), &request).await.unwrap();
    let mut config: Value = serde_saphyr::from_str(&fs::read_to_string(kubeconfig().await).unwrap()).unwrap();
    config["users"][0]["user"] = json!({ "token": token.status.unwrap().token });
    let path = folder.join("stranger.kubeconfig");
    fs::write(&path, config.to_string()).unwrap();
    path
}

#[tokio::test]
async fn a_refusal_by_rbac_is_the_api_servers_sentence() {
    let space = bare_namespace("cli-rbac").await;
    let folder = tempfile::tempdir().unwrap();
    let config = stranger(&space, folder.path()).await;
    for arguments in [["status", "lfd/web"], ["hosts", "web"], ["commits", "hello"], ["logs", "lfb/hello-1"]] {
        let refused = landfall(&[&arguments[..], &["-n", &space.name]].concat(), &config);
        let said = err(&refused);
        assert_eq!(code(&refused), 2, "{said}");
        assert!(said.contains("is forbidden: User \"system:serviceaccount:"), "{arguments:?}: {said}");
        for debug in ["Status {", "ApiError", "Some("] {
            assert!(!said.contains(debug), "{arguments:?}: {said}");
        }
    }
}

#[test]
fn a_cluster_that_refuses_connections_is_given_up_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = format!("https://127.0.0.1:{}", crate::support::free_port());
    let config = config_for(folder.path(), &server);
    let started = Instant::now();
    let status = landfall(&["status", "lfd/web"], &config);
    assert_eq!(code(&status), 2);
    assert!(err(&status).contains(&server) && err(&status).contains("refused"), "{}", err(&status));
    let hosts = landfall(&["hosts", "web"], &config);
    assert_eq!(code(&hosts), 2);
    assert!(err(&hosts).matches(&server).count() == 2 && err(&hosts).contains("retrying for up to"), "{}", err(&hosts));
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_cluster_that_never_answers_is_given_up_and_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("https://{}", listener.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let config = config_for(folder.path(), &server);
    let started = Instant::now();
    let hosts = landfall(&["hosts", "web"], &config);
    assert_eq!(code(&hosts), 2);
    assert!(err(&hosts).contains(&server), "{}", err(&hosts));
    assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());
}

#[test]
fn kubeconfig_and_context_are_chosen_by_options() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_for(folder.path(), &format!("https://127.0.0.1:{}", crate::support::free_port()));
    let elsewhere = folder.path().join("nowhere");
    let chosen = ["status", "lfd/web", "--kubeconfig", config.to_str().unwrap(), "--context", "there"];
    assert!(err(&landfall(&chosen, &elsewhere)).contains("does not answer"));
    let unknown = ["status", "lfd/web", "--kubeconfig", config.to_str().unwrap(), "--context", "nope"];
    let said = err(&landfall(&unknown, &elsewhere));
    assert!(said.contains("kubeconfig is not usable") && said.contains("nope"), "{said}");
}

#[test]
fn usage_errors_have_the_exit_code_2_and_name_what_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_for(folder.path(), "https://127.0.0.1:1");
    for arguments in [&["status", "web"][..], &["logs", "project/x"], &["hosts", "build/x"], &["status"], &["nonsense"]]
    {
        assert_eq!(code(&landfall(arguments, &config)), 2, "{arguments:?}");
    }
    assert!(err(&landfall(&["status", "web"], &config)).contains("deployment/NAME"));
}

#[test]
fn completion_scripts_are_valid_shell_and_know_the_commands() {
    let none = Path::new("/nonexistent");
    let script = landfall(&["completion", "bash"], none);
    assert_eq!(code(&script), 0);
    assert!(out(&script).contains("--kubeconfig"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("completion.bash");
    fs::write(&file, out(&script)).unwrap();
    assert!(Command::new("bash").arg("-n").arg(&file).status().unwrap().success());
    for shell in ["bash", "zsh", "fish"] {
        let script = out(&landfall(&["completion", shell], none));
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}

const COMMANDS: [&str; 24] = [
    "promote",
    "pause",
    "abort",
    "matrix",
    "history",
    "status",
    "wait",
    "plan",
    "diff",
    "deploy",
    "retry",
    "redeploy",
    "skip-drain",
    "adopt",
    "refresh",
    "suspend",
    "resume",
    "logs",
    "hosts",
    "commits",
    "completion",
    "crds",
    "dev",
    "run",
];

#[test]
fn every_command_and_option_says_what_it_is() {
    let none = Path::new("/nonexistent");
    for command in COMMANDS {
        let help = out(&landfall(&[command, "--help"], none));
        let lines: Vec<&str> = help.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let trimmed = line.trim_start();
            if let Some(value) = trimmed.strip_prefix("- ") {
                assert!(value.contains(": "), "{command}: {line}");
            } else if trimmed.starts_with('-') && line.starts_with("  ") {
                let next = lines.get(at + 1).map_or("", |next| next.trim());
                let described = trimmed.contains("  ") || (!next.is_empty() && !next.starts_with('-'));
                assert!(described, "{command}: {line}");
            }
        }
    }
}
