//! The aggregated API `view.landfall.dev`: real control planes of its own, real builds, real `landfall logs`, readers of every kind.

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

/// Bytes of memory that a process has resident.
fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_readers_and_a_terminal_get_every_byte_of_a_running_build_soon() {
    let _turn = TURN.lock().await;
    let bench = Bench::on(shared().await).await;
    // The reader comes before the build: it waits.
    let bench = Arc::new(bench);
    let terminal = tokio::spawn({
        let (client, path, bench) = (bench.client.clone(), bench.log_path("many"), bench.clone());
        async move {
            let mut answer = eventually("the log begins", || async {
                client.request_stream(get(&format!("{path}?follow=true"))).await.ok()
            })
            .await
            .lines();
            let mut waits = Vec::new();
            while let Some(line) = answer.try_next().await.unwrap() {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
                if let Some(then) = line.strip_prefix("at ").and_then(|then| then.parse::<u128>().ok()) {
                    waits.push(u64::try_from(now.saturating_sub(then) / 1000).unwrap());
                    // The script writes no further line before this one is here.
                    bench.touch("many", &format!("go-{}", waits.len())).await;
                }
            }
            waits
        }
    });
    bench
        .build("many", "for i in $(seq 40); do echo \"at $(date +%s%N)\"; printf 'k\\033[31mrot\\r'; while ! [ -e go-$i ]; do sleep 0.05; done; done; head -c 300000 /dev/zero | tr '\\0' x")
        .await;
    eventually("it runs", || async { bench.read(&bench.log_path("many")).await.ok().filter(|log| !log.is_empty()) })
        .await;
    let cli = bench.cli(&["logs", "build/many", "-f"]);
    let readers: Vec<_> = (0..20)
        .map(|_| {
            let (client, path) = (bench.client.clone(), format!("{}?follow=true", bench.log_path("many")));
            tokio::spawn(async move { read(&client, &path).await.unwrap() })
        })
        .collect();
    let cli = output(cli).await;
    let raw = fs::read(executor_log(&bench, "many").await).unwrap();
    assert_eq!(cli.stdout.len(), raw.len(), "{}", String::from_utf8_lossy(&cli.stderr));
    assert!(String::from_utf8_lossy(&cli.stderr).contains("attempt 1: Succeeded"));
    for reader in readers {
        assert!(reader.await.unwrap() == cli.stdout, "all readers get the same");
    }
    let shown = String::from_utf8(cli.stdout).unwrap();
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "nothing that a terminal would obey");
    assert!(shown.contains("k?[31mrot\n"), "{}", &shown[..200]);
    let mut waits = terminal.await.unwrap();
    waits.sort_unstable();
    println!(
        "line → follower: median {} µs, worst {} µs of {}",
        waits[waits.len() / 2],
        waits[waits.len() - 1],
        waits.len()
    );
    assert!(waits.len() == 40 && waits[20] < 5_000_000, "{waits:?}");

    // Parts of it, when it is over, and what is asked wrongly.
    let tail = bench.read(&format!("{}?tail=1", bench.log_path("many"))).await.unwrap();
    assert_eq!(tail.len(), 300_000);
    let since = bench.read(&format!("{}?since=100&attempt=1", bench.log_path("many"))).await.unwrap();
    assert_eq!(since, shown.as_bytes()[100..]);
    for (wrong, word) in
        [("folow=true", "folow"), ("since=99999999", "99999999"), ("attempt=7", "no attempt 7"), ("tail=x", "tail")]
    {
        let refused = bench.read(&format!("{}?{wrong}", bench.log_path("many"))).await.unwrap_err().to_string();
        assert!(refused.contains(word), "{refused}");
    }
    let kubectl = Binaries::find_or_build(&|_| {}).unwrap().program("kubectl");
    let raw = Command::new(kubectl)
        .args(["get", "--raw", &format!("{}?follow=true", bench.log_path("many"))])
        .env("KUBECONFIG", &bench.dev.kubeconfig)
        .output();
    assert_eq!(raw.unwrap().stdout, shown.as_bytes(), "kubectl get --raw reads it as well");
}

async fn executor_log(bench: &Bench, name: &str) -> PathBuf {
    let uid = bench.api::<Build>().get(name).await.unwrap().metadata.uid.unwrap();
    bench.dev.folder().join("operator/executor").join(uid).join("1/log")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_and_slow_readers_of_a_hundred_megabytes_cost_the_build_nothing_and_the_operator_little() {
    let turn = TURN.lock().await;
    let bench = Bench::on(shared().await).await;
    // As fast as it goes, once the readers are there.
    let script = format!("{WAITS}; yes 0123456789abcdef0123456789abcdef | head -c 95000000");
    let begins = async |name: &str| {
        let log = async || bench.read(&bench.log_path(name)).await.ok().filter(|log| log == b"begin\n");
        eventually("it begins", log).await;
    };
    bench.build("alone", &script).await;
    begins("alone").await;
    bench.touch("alone", "go").await;
    let alone = length(&bench.until_ended("alone").await);
    let before = resident(bench.operator().await);
    bench.build("read", &script).await;
    let mut streams = Vec::new();
    begins("read").await;
    for n in 0..10 {
        let mut stream =
            bench.client.request_stream(get(&format!("{}?follow=true", bench.log_path("read")))).await.unwrap();
        if n == 0 {
            // A slow one: 1 KiB now and then.
            tokio::spawn(async move {
                let mut some = [0; 1024];
                while stream.read(&mut some).await.is_ok_and(|n| n > 0) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        } else {
            // Dead ones: they read nothing.
            streams.push(stream);
        }
    }
    bench.touch("read", "go").await;
    let read = length(&bench.until_ended("read").await);
    let after = resident(bench.operator().await);
    println!(
        "95 MB: {alone} s alone, {read} s with 10 dead or slow readers; operator {} → {} MiB",
        before >> 20,
        after >> 20
    );
    // Held up by the dead ones, it would not have ended. Seconds as the status has them.
    assert!(read <= alone * 4 + 30, "the build is not held up: {alone} s alone, {read} s read");
    assert!(after < before + (64 << 20), "{before} → {after}");

    // After a minute they are given up: what is on the way to a dead one is all that it ever gets.
    drop(turn);
    tokio::time::sleep(Duration::from_secs(75)).await;
    let mut dead = streams.pop().unwrap();
    let mut got = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, dead.read_to_end(&mut got)).await.expect("it ends");
    println!("a dead reader got {} bytes, then {ended:?}", got.len());
    assert!(got.len() < 90_000_000 && ended.is_err(), "{} bytes, {ended:?}", got.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_follows_too_many_logs_is_told_to_come_again_and_others_find_a_place() {
    let _turn = TURN.lock().await;
    let bench = Bench::on(shared().await).await;
    bench.build("popular", &format!("{WAITS}; echo end")).await;
    eventually("it begins", || async {
        bench.read(&bench.log_path("popular")).await.ok().filter(|log| !log.is_empty())
    })
    .await;
    let binding = json!({ "metadata": { "name": "viewers" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "greedy" },
                     { "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "vera" }] });
    create::<RoleBinding>(&bench.api(), binding).await;
    let (greedy, vera) = (user(&bench.dev, "greedy").await, user(&bench.dev, "vera").await);
    let path = format!("{}?follow=true", bench.log_path("popular"));
    let first = eventually("a viewer follows", || async { greedy.request_stream(get(&path)).await.ok() }).await;
    let mut followed = vec![first];
    let refused = loop {
        match greedy.request_stream(get(&path)).await {
            Ok(stream) => followed.push(stream),
            Err(kube::Error::Api(status)) => break status,
            Err(error) => panic!("{error}"),
        }
        assert!(followed.len() <= 64, "one user has {} places", followed.len());
    };
    assert_eq!((followed.len(), refused.code, refused.reason.as_str()), (64, 429, "TooManyRequests"), "{refused:?}");
    assert!(refused.message.contains("greedy") && refused.message.contains("try again in 5 s"), "{}", refused.message);
    let other = vera.request_stream(get(&path)).await.expect("another user finds a place");
    // A place is free again when its reader goes.
    drop(followed.pop());
    followed.push(eventually("a place is free", || async { greedy.request_stream(get(&path)).await.ok() }).await);
    bench.touch("popular", "go").await;
    for mut stream in followed.into_iter().chain([other]) {
        let mut log = String::new();
        stream.read_to_string(&mut log).await.unwrap();
        assert_eq!(log, "begin\nend\n");
    }
}

fn length(build: &Build) -> i64 {
    let attempt = build.status.as_ref().unwrap().attempts.last().unwrap();
    attempt.completed_at.as_ref().unwrap().0.as_second() - attempt.started_at.0.as_second()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_may_reads_and_only_the_api_server_says_who_he_is() {
    let _turn = TURN.lock().await;
    let bench = Bench::on(shared().await).await;
    bench.build("secret", "echo for viewers only").await;
    bench.until_ended("secret").await;
    let path = bench.log_path("secret");
    let mallory = user(&bench.dev, "mallory").await;
    let forged = hyper::Request::get(&path)
        .header("X-Remote-User", "landfall-dev-admin")
        .header("X-Remote-Group", "system:masters")
        .body(Vec::new())
        .unwrap();
    for request in [get(&path), forged] {
        let refused = mallory.request_text(request).await.unwrap_err();
        assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");
    }
    let binding = json!({ "metadata": { "name": "viewers" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "vera" }] });
    create::<RoleBinding>(&bench.api(), binding).await;
    let vera = user(&bench.dev, "vera").await;
    let log = eventually("a viewer reads", || async { read(&vera, &path).await.ok() }).await;
    assert_eq!(log, b"for viewers only\n");
    let path_of_commits = view::path(&bench.namespace, "projects", "secret", "commits");
    // Its newest commit is a version as soon as the build has published it.
    let commits = eventually("the version is shown", || async {
        let page: view::CommitPage = vera.request(get(&path_of_commits)).await.unwrap();
        page.commits[0].version.is_some().then_some(page)
    })
    .await;
    let subjects: Vec<_> = commits.commits.iter().map(|commit| commit.subject.as_str()).collect();
    assert_eq!(subjects, ["change 3", "change 2", "change 1"]);
    assert_eq!((commits.branch.as_str(), commits.more), ("main", false));
    let unknown = format!("{}?branch=nope", view::path(&bench.namespace, "projects", "secret", "commits"));
    assert!(vera.request_text(get(&unknown)).await.unwrap_err().to_string().contains("nope"));
    let screen = output(bench.cli(&["commits", "secret"])).await;
    assert_eq!(String::from_utf8_lossy(&screen.stdout).lines().count(), 3);

    // Past the API server, straight to the operator.
    let pki = bench.dev.folder().join("pki");
    let admin = Kubeconfig::read_from(&bench.dev.kubeconfig).unwrap();
    let admin = admin.auth_infos[0].auth_info.clone().unwrap();
    let text = |data: &Option<String>| {
        use base64::Engine;
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(data.as_ref().unwrap()).unwrap()).unwrap()
    };
    let admin_key = serde_json::to_value(&admin).unwrap()["client-key-data"].as_str().map(str::to_owned);
    assert!(direct(&bench, None, &path, Some("vera")).await.is_err(), "without a certificate");
    let cluster = (text(&admin.client_certificate_data), text(&admin_key));
    assert!(
        direct(&bench, Some(cluster), &path, Some("vera")).await.is_err(),
        "an administrator's certificate is not the front proxy's"
    );
    assert!(direct(&bench, Some(impostor(&pki)), &path, Some("vera")).await.is_err(), "a name that is not allowed");
    let file = |name: &str| fs::read_to_string(pki.join(name)).unwrap();
    let proxy = || Some((file("front-proxy-client.crt"), file("front-proxy-client.key")));
    // A handshake may take longer than the operator waits for it.
    let answer = async |user: Option<&str>| {
        eventually("an answer", || async { direct(&bench, proxy(), &path, user).await.ok() }).await
    };
    assert_eq!(answer(None).await, 401, "nobody");
    assert_eq!(answer(Some("mallory")).await, 403, "asked again, whatever was asked before");
    assert_eq!(answer(Some("vera")).await, 200);
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

/// A certificate of the front proxy's authority for somebody else.
fn impostor(pki: &Path) -> (String, String) {
    let authority = rcgen::KeyPair::from_pem(&fs::read_to_string(pki.join("front-proxy-ca.key")).unwrap()).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "landfall-dev front-proxy-ca");
    let issuer = rcgen::Issuer::new(params, authority);
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "somebody");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let key = rcgen::KeyPair::generate().unwrap();
    (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
}

/// The status code of a GET at the operator's own port.
async fn direct(
    bench: &Bench,
    certificate: Option<(String, String)>,
    path: &str,
    user: Option<&str>,
) -> std::io::Result<u16> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let service = Api::<APIService>::all(bench.client.clone()).get(view::API_SERVICE).await.unwrap().spec.unwrap();
    let mut roots = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(&service.ca_bundle.unwrap().0) {
        roots.add(root.unwrap()).unwrap();
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match certificate {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
    };
    let port = u16::try_from(service.service.unwrap().port.unwrap()).unwrap();
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("landfall-view.landfall-system.svc").unwrap();
    let mut tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    let user = user.map(|user| format!("X-Remote-User: {user}\r\n")).unwrap_or_default();
    tls.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n{user}Connection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    let _ = tls.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    let code = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    code.ok_or_else(|| std::io::Error::other("no answer"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_over_killed_operators_and_a_namespace_goes_while_none_is_there() {
    let _turn = TURN.lock().await;
    let dev = Arc::new(Dev::start(&["--ephemeral", "--", "--allow-file-git"]).await);
    let bench = Bench::on(dev.clone()).await;
    let services = Api::<APIService>::all(bench.client.clone());
    let available = || async {
        let found = services.get_opt(view::API_SERVICE).await.ok()??;
        let conditions = found.status?.conditions?;
        conditions.iter().any(|one| one.type_ == "Available" && one.status == "True").then_some(())
    };
    eventually("it is announced", available).await;
    let script = "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); echo \"line $i of a build that goes on\"; [ $((i % 100)) != 0 ] || sleep 0.1
        [ $i != 2000 ] || while ! [ -e go ]; do sleep 0.1; done; done";
    bench.build("long", script).await;
    let spare = Bench::on(dev.clone()).await;
    let cli = bench.cli(&["logs", "build/long", "-f"]);
    eventually("it runs", || async { bench.read(&bench.log_path("long")).await.ok().filter(|log| log.len() > 5000) })
        .await;
    let first = bench.operator().await;
    signal(first, rustix::process::Signal::KILL);
    let began = Instant::now();
    Api::<Namespace>::all(bench.client.clone()).delete(&spare.namespace, &DeleteParams::default()).await.unwrap();
    eventually("the namespace is gone", || async {
        Api::<Namespace>::all(bench.client.clone()).get_opt(&spare.namespace).await.unwrap().is_none().then_some(())
    })
    .await;
    println!("a namespace went {:?} after the operator was killed", began.elapsed());
    let began = Instant::now();
    eventually("it is announced again", available).await;
    println!("announced again {:?} after that", began.elapsed());
    let second = bench.operator_but(Some(first)).await;
    signal(second, rustix::process::Signal::KILL);
    bench.touch("long", "go").await;
    let cli = output(cli).await;
    let raw = fs::read(executor_log(&bench, "long").await).unwrap();
    assert!(
        cli.stdout == raw,
        "no gap, no line twice: {} of {}\n{}",
        cli.stdout.len(),
        raw.len(),
        String::from_utf8_lossy(&cli.stderr)
    );
    assert_eq!(raw.iter().filter(|byte| **byte == b'\n').count(), 4000);

    // One that hangs is as good as dead.
    let hung = bench.operator_but(Some(second)).await;
    eventually("it is announced again", available).await;
    signal(hung, rustix::process::Signal::STOP);
    eventually("it is taken away", || async {
        services.get_opt(view::API_SERVICE).await.unwrap().is_none().then_some(())
    })
    .await;
    signal(hung, rustix::process::Signal::CONT);
    eventually("it is announced again", available).await;
    drop(bench);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_on_hosts_is_read_as_it_happens_by_all_or_by_one_and_afterwards() {
    let _turn = TURN.lock().await;
    let (bench, hosts) = tokio::join!(async { Bench::on(shared().await).await }, Hosts::up(2));
    let tenant = json!({ "metadata": { "name": "landfall-tenant" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "landfall-tenant" },
        "subjects": [{ "kind": "ServiceAccount", "name": "landfall", "namespace": "landfall-system" }] });
    create::<RoleBinding>(&bench.api(), tenant).await;
    for object in hosts.group(&bench.namespace, "prod") {
        match object["kind"].as_str() {
            Some("HostGroup") => create::<landfall::api::HostGroup>(&bench.api(), object).await,
            _ => create::<k8s_openapi::api::core::v1::Secret>(&bench.api(), object).await,
        }
    }
    let url = format!("file://{}", bench.dir.path().join("origin.git").display());
    let script = "case $LANDFALL_VERSION in v1) then='exec sleep 1000';; *) then='echo cannot do it; exit 3';; esac\nprintf '#!/bin/sh\\n%s\\n' \"$then\" >app; chmod +x app";
    let project = json!({ "metadata": { "name": "shop" }, "spec": {
        "source": { "url": url, "interval": "1h" },
        "build": { "script": script, "artifacts": [{ "path": "app" }], "tag": { "push": false } },
        "run": { "process": { "command": ["./app"] } },
    }});
    create::<Project>(&bench.api(), project).await;
    for version in ["v1", "v2"] {
        let build = json!({ "metadata": { "name": version }, "spec": { "projectRef": { "name": "shop" }, "revision": "main", "tag": version } });
        create::<Build>(&bench.api(), build).await;
    }
    let deployment = json!({ "metadata": { "name": "shop" }, "spec": {
        "projectRef": { "name": "shop" }, "hostGroupRef": { "name": "prod" }, "version": "v1" } });
    create::<Deployment>(&bench.api(), deployment).await;
    let first = output(bench.cli(&["logs", "deployment/shop", "-f"])).await;
    let first = String::from_utf8(first.stdout).unwrap();
    println!("{first}");
    for host in ["web-01", "web-02"] {
        for word in ["v1 is to run here", "stage: done in", "stop, switch, start: done in", "verify: done in", "ready"]
        {
            assert!(first.lines().any(|line| line.contains(&format!(" {host}: {word}"))), "{host} {word}");
        }
    }
    let rows = eventually("both hosts are shown with it", || async {
        let rows = String::from_utf8(output(bench.cli(&["hosts", "prod"])).await.stdout).unwrap();
        let both = |line: &&str| line.contains("shop") && line.contains("v1") && line.contains("Ready");
        (rows.lines().filter(both).count() == 2).then_some(rows)
    })
    .await;
    println!("{rows}");

    let patch = kube::api::Patch::Merge(json!({ "spec": { "version": "v2" } }));
    bench.api::<Deployment>().patch("shop", &kube::api::PatchParams::default(), &patch).await.unwrap();
    eventually("the second rollout has begun", || async {
        let status = bench.api::<Deployment>().get("shop").await.unwrap().status?;
        status.rollout.into_option().filter(|rollout| rollout.id.starts_with("2."))
    })
    .await;
    let second = output(bench.cli(&["logs", "deployment/shop", "-f"])).await;
    let second = String::from_utf8(second.stdout).unwrap();
    assert!(second.contains("FAILED: ProcessDied") && second.contains("cannot do it"), "{second}");
    let failed = if second.contains("web-01: FAILED") { "web-01" } else { "web-02" };
    let one = output(bench.cli(&["logs", "lfd/shop", "--host", failed])).await;
    let own: Vec<&str> = second.lines().filter(|line| line.contains(&format!(" {failed}: "))).collect();
    assert_eq!(String::from_utf8(one.stdout).unwrap().lines().collect::<Vec<_>>(), own, "its part, and nothing else");
    let missing = output(bench.cli(&["logs", "lfd/shop", "--host", "web-77"])).await;
    assert!(!missing.status.success() && String::from_utf8_lossy(&missing.stderr).contains("has no host \"web-77\""));

    // The first one's log is in the store by now, or on its way there: it reads the same.
    let uid = bench.api::<Deployment>().get("shop").await.unwrap().metadata.uid.unwrap();
    let folder = bench.dev.folder().join("operator/rollouts").join(uid);
    eventually("it is sealed", || async { (!folder.join("1.0.1").exists()).then_some(()) }).await;
    let again = output(bench.cli(&["logs", "deployment/shop", "--attempt", "1.0.1"])).await;
    assert_eq!(String::from_utf8(again.stdout).unwrap(), first);
    bench.api::<Deployment>().delete("shop", &DeleteParams::default()).await.unwrap();
    eventually("it is gone", || async {
        bench.api::<Deployment>().get_opt("shop").await.unwrap().is_none().then_some(())
    })
    .await;
}

/// A replica of the operator, killed when dropped.
struct Replica(std::process::Child);

impl Replica {
    fn start(dev: &Dev, data: &Path, port: u16, lease: &str) -> Self {
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            env!("CARGO_BIN_EXE_landfall"),
            "run",
            "--allow-file-git",
            "--lease-seconds",
            lease,
        ]);
        command.arg("--data-dir").arg(data).arg("--view-address").arg(format!("127.0.0.1:{port}"));
        command.env("KUBECONFIG", dev.folder().join("operator.kubeconfig")).stdin(Stdio::null());
        let log = fs::File::create(data.with_extension("log")).unwrap();
        Self(command.stderr(log).spawn().unwrap())
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_does_not_lead_relays_and_without_a_leader_serves_what_is_sealed() {
    let _turn = TURN.lock().await;
    let dev = Arc::new(Dev::start(&["--ephemeral", "--no-operator"]).await);
    let bench = Bench::on(dev.clone()).await;
    let (first, second) = (free_port(), free_port());
    let service = json!({ "metadata": { "name": view::VIEW_SERVICE }, "spec": {
        "type": "ExternalName", "externalName": "localhost", "ports": [{ "port": second }] }});
    create::<Service>(&Api::namespaced(bench.client.clone(), "landfall-system"), service).await;
    // As manifests/ has it: without the authority, which the operator fills in.
    let announced = json!({ "metadata": { "name": view::API_SERVICE }, "spec": {
        "group": view::VIEW_GROUP, "version": view::VIEW_VERSION, "groupPriorityMinimum": 100, "versionPriority": 10,
        "service": { "name": view::VIEW_SERVICE, "namespace": "landfall-system", "port": second } }});
    create::<APIService>(&Api::all(bench.client.clone()), announced).await;
    let data = [bench.dir.path().join("one"), bench.dir.path().join("two")];
    for folder in &data {
        fs::create_dir(folder).unwrap();
    }
    // The store is common, as a bucket would be.
    fs::create_dir(data[0].join("store")).unwrap();
    std::os::unix::fs::symlink(data[0].join("store"), data[1].join("store")).unwrap();
    let mut leader = Replica::start(&dev, &data[0], first, "300");
    eventually("the first one leads", || async {
        let leases =
            Api::<k8s_openapi::api::coordination::v1::Lease>::namespaced(bench.client.clone(), "landfall-system");
        let lease = leases.get_opt("landfall").await.unwrap()?;
        assert_eq!(lease.metadata.annotations?.get(view::VIEW_ADDRESS)?, &format!("127.0.0.1:{first}"));
        Some(())
    })
    .await;
    let _other = Replica::start(&dev, &data[1], second, "2");
    bench.build("short", "echo sealed").await;
    bench.until_ended("short").await;
    let log = eventually("it is relayed", || async { bench.read(&bench.log_path("short")).await.ok() }).await;
    assert_eq!(log, b"sealed\n");
    bench.build("long", "for i in $(seq 30); do echo $i; sleep 0.1; done; sleep 1000").await;
    eventually("it runs", || async {
        bench.read(&bench.log_path("long")).await.ok().filter(|log| log.starts_with(b"1\n"))
    })
    .await;
    let mut follow =
        bench.client.request_stream(get(&format!("{}?follow=true", bench.log_path("long")))).await.unwrap().lines();
    for n in 1..=20 {
        assert_eq!(follow.try_next().await.unwrap(), Some(n.to_string()), "relayed as it comes");
    }
    let group = json!({ "metadata": { "name": "web" }, "spec": {
        "ssh": { "user": "x", "credentialsRef": { "name": "key" }, "hostKeys": { "knownHostsRef": { "name": "hosts" } } },
        "hosts": [{ "name": "web-01", "address": "192.0.2.1" }] }});
    create::<landfall::api::HostGroup>(&bench.api(), group).await;
    let hosts = view::path(&bench.namespace, "hostgroups", "web", "hosts");
    eventually("its host is shown", || async {
        let matrix: view::HostMatrix = bench.client.request(get(&hosts)).await.ok()?;
        matrix.hosts.iter().map(|row| row.host.as_str()).eq(["web-01"]).then_some(())
    })
    .await;

    let short = bench.api::<Build>().get("short").await.unwrap().metadata.uid.unwrap();
    let piece = data[0].join("store/logs").join(short).join("1/0");
    eventually("the log of the short one is sealed", || async { piece.exists().then_some(()) }).await;
    leader.0.kill().unwrap();
    leader.0.wait().unwrap();
    assert!(follow.try_collect::<Vec<_>>().await.is_err(), "a cut is no end");
    eventually("what is sealed is read", || async {
        bench.read(&bench.log_path("short")).await.ok().filter(|log| log == b"sealed\n")
    })
    .await;
    for away in [bench.log_path("long"), hosts] {
        let request = hyper::Request::get(&away).body(kube::client::Body::empty()).unwrap();
        let mut config = Config::from_custom_kubeconfig(
            Kubeconfig::read_from(&dev.kubeconfig).unwrap(),
            &KubeConfigOptions::default(),
        )
        .await
        .unwrap();
        config.default_retry = false;
        let refused = Client::try_from(config).unwrap().send(request).await.unwrap();
        assert_eq!(refused.status(), 503, "{away}");
        assert!(refused.headers().contains_key("retry-after"), "{away}");
    }
    // The script of the long build is nobody's any more.
    {
        let uid = bench.api::<Build>().get("long").await.unwrap().metadata.uid.unwrap();
        let record: Value =
            serde_json::from_slice(&fs::read(data[0].join("executor").join(uid).join("1/pid")).unwrap()).unwrap();
        signal(i32::try_from(record["runner"]["pid"].as_i64().unwrap()).unwrap(), rustix::process::Signal::KILL);
    }
}
