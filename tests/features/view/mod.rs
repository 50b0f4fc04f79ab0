//! The aggregated API `view.landfall.dev`: real control planes of its own, real builds, real `landfall logs`, readers of every kind.

mod application_logs;
mod leaders;
mod plans;
mod readers;
mod rights;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use crate::support::{
    free_port,
    hosts::Hosts,
    plane::Dev,
    repository::git,
    wait::{self, PATIENCE},
};
use futures::{AsyncBufReadExt, AsyncReadExt, TryStreamExt};
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Service},
        rbac::v1::RoleBinding,
    },
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use landfall::{
    api::{Build, Deployment, Project, view},
    runtime::dev::Binaries,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// A script that says that it is there, and goes on when it is told so ([`Bench::touch`]).
const WAITS: &str = "echo begin; while ! [ -e go ]; do sleep 0.1; done";

/// A control plane with an operator that serves everything, and a namespace on it.
struct Bench {
    dev: Arc<Dev>,
    client: Client,
    namespace: String,
    dir: tempfile::TempDir,
}

/// One at a time: they measure, and a control plane takes its part of the machine.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// One for the tests that disturb nobody.
async fn shared() -> Arc<Dev> {
    static SHARED: OnceCell<Arc<Dev>> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async { Arc::new(Dev::shared("serving", &["--ephemeral", "--", "--allow-file-git"]).await) })
        .await
        .clone()
}

impl Bench {
    async fn on(dev: Arc<Dev>) -> Self {
        let client = dev.client().await;
        let namespace = format!("view-{:08x}", rand::random::<u32>());
        create::<Namespace>(&Api::all(client.clone()), json!({ "metadata": { "name": namespace } })).await;
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "-q", "--bare", "-b", "main", "origin.git"]);
        git(dir.path(), &["init", "-q", "-b", "main", "work"]);
        let bench = Self { dev, client, namespace, dir };
        for n in 1..=3 {
            fs::write(bench.dir.path().join("work/file"), n.to_string()).unwrap();
            git(&bench.dir.path().join("work"), &["add", "-A"]);
            git(&bench.dir.path().join("work"), &["commit", "-q", "-m", &format!("change {n}")]);
        }
        git(&bench.dir.path().join("work"), &["push", "-q", "../origin.git", "HEAD"]);
        bench
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A project of this script and its first build.
    async fn build(&self, name: &str, script: &str) {
        let url = format!("file://{}", self.dir.path().join("origin.git").display());
        let project = json!({ "metadata": { "name": name }, "spec": {
            "source": { "url": url, "interval": "1h" },
            "build": { "script": script, "artifacts": [{ "path": "file" }] },
            "run": { "process": { "command": ["true"] } },
        }});
        create::<Project>(&self.api(), project).await;
        create::<Build>(
            &self.api(),
            json!({ "metadata": { "name": name }, "spec": { "projectRef": { "name": name }, "revision": "main" } }),
        )
        .await;
    }

    async fn until_ended(&self, name: &str) -> Build {
        eventually("the build has ended", || async {
            let build = self.api::<Build>().get(name).await.ok()?;
            let ended = build.status.as_ref()?.attempts.last()?.outcome.is_some();
            ended.then_some(build)
        })
        .await
    }

    fn log_path(&self, name: &str) -> String {
        view::path(&self.namespace, "builds", name, "log")
    }

    /// Everything that a GET answers, to its clean end.
    async fn read(&self, path: &str) -> kube::Result<Vec<u8>> {
        read(&self.client, path).await
    }

    /// `landfall logs …` under way.
    fn cli(&self, arguments: &[&str]) -> std::process::Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_landfall"));
        command.args(arguments).args(["-n", &self.namespace]).env("KUBECONFIG", &self.dev.kubeconfig);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap()
    }

    /// A file in the checkout of a build that runs.
    async fn touch(&self, build: &str, file: &str) {
        let src = executor_log(self, build).await.with_file_name("src");
        fs::write(src.join(file), "").unwrap();
    }

    /// The operator of the moment, which is not this one.
    async fn operator_but(&self, other: Option<i32>) -> i32 {
        eventually("another operator runs", || async { operator_of(&self.dev).filter(|pid| Some(*pid) != other) }).await
    }

    async fn operator(&self) -> i32 {
        self.operator_but(None).await
    }
}

async fn read(client: &Client, path: &str) -> kube::Result<Vec<u8>> {
    let mut stream = client.request_stream(get(path)).await?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.map_err(|error| kube::Error::Service(Box::new(error)))?;
    Ok(all)
}

fn get(path: &str) -> hyper::Request<Vec<u8>> {
    hyper::Request::get(path).body(Vec::new()).unwrap()
}

async fn create<K>(api: &Api<K>, object: Value)
where
    K: Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
{
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
}

async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let look = || {
        let seen = look();
        async { seen.await.ok_or(()) }
    };
    wait::find(what, look, |()| String::new()).await
}

async fn output(child: std::process::Child) -> std::process::Output {
    let done = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    tokio::time::timeout(PATIENCE, done).await.expect("it ends").unwrap()
}

fn operator_of(dev: &Dev) -> Option<i32> {
    let folder = dev.folder().join("operator").display().to_string();
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.into_iter().find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(" run ") && line.contains(&folder)
    })
}

fn signal(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

async fn executor_log(bench: &Bench, name: &str) -> PathBuf {
    let uid = bench.api::<Build>().get(name).await.unwrap().metadata.uid.unwrap();
    bench.dev.folder().join("operator/executor").join(uid).join("1/log")
}

/// A client that the administrator lets act as somebody else.
async fn user(dev: &Dev, name: &str) -> Client {
    let config = Kubeconfig::read_from(&dev.kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    config.auth_info.impersonate = Some(name.to_owned());
    // What the server says is to be seen, also that it has too much to do.
    config.default_retry = false;
    Client::try_from(config).unwrap()
}
