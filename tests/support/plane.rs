//! Control planes, namespaces and operators for tests: real `landfall dev` and `landfall run` processes that end with the test process.
//!
//! One control plane serves all tests: that of `LANDFALL_TEST_KUBECONFIG` (the administrator's kubeconfig in the folder of a
//! `landfall dev --no-operator`), else one that is started for this process. Each test takes a namespace of its own, and an operator that
//! sees this namespace only. What disturbs others starts a [`Dev`] of its own, or takes turns with its like on one that they share
//! ([`Dev::shared`]).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use futures::StreamExt;
use hyper::header::{HeaderValue, USER_AGENT};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::Namespace,
    rbac::v1::{RoleBinding, RoleRef, Subject},
};
use kube::{
    Api, Client, Config, Resource,
    api::{DeleteParams, ObjectMeta, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{WatchStreamExt, watcher},
};
use landfall::model::leading::{Leadership, OBJECT};
use rustix::process::{Pid, Signal};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{OnceCell, watch},
    time::Instant,
};

use super::wait::PATIENCE;

/// So often an object is looked at that nobody tells of.
const LOOK: Duration = Duration::from_secs(3);

const BINARY: &str = env!("CARGO_BIN_EXE_landfall");

/// The administrator's kubeconfig of the control plane that the tests of this process share.
pub async fn kubeconfig() -> PathBuf {
    static SHARED: OnceCell<PathBuf> = OnceCell::const_new();
    let start = || async {
        if let Some(given) = std::env::var_os("LANDFALL_TEST_KUBECONFIG") {
            return PathBuf::from(given);
        }
        let dev = Dev::start(&["--ephemeral", "--no-operator"]).await;
        let kubeconfig = dev.kubeconfig.clone();
        // It ends with this process.
        std::mem::forget(dev);
        kubeconfig
    };
    SHARED.get_or_init(start).await.clone()
}

/// The kubeconfig with the rights that `manifests/` gives the operator, of the same control plane.
pub async fn operator_kubeconfig() -> PathBuf {
    kubeconfig().await.with_file_name("operator.kubeconfig")
}

/// An administrator's client. Each test makes its own: a client lives on the runtime of the test that made it.
pub async fn client() -> Client {
    client_of(&kubeconfig().await).await
}

/// A client of this user, who is in these groups beside `system:authenticated`: the administrator acts for him.
pub async fn client_as(user: &str, groups: &[&str]) -> Client {
    let config = Kubeconfig::read_from(&kubeconfig().await).expect("a kubeconfig");
    let mut config =
        Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.expect("a usable kubeconfig");
    config.auth_info.impersonate = Some(user.to_owned());
    config.auth_info.impersonate_groups = Some(groups.iter().map(ToString::to_string).collect());
    Client::try_from(config).expect("a client")
}

pub async fn client_of(kubeconfig: &Path) -> Client {
    let config = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let mut config =
        Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.expect("a usable kubeconfig");
    // Manager of the fields that tests write.
    config.headers.push((USER_AGENT, HeaderValue::from_static("features")));
    Client::try_from(config).expect("a client")
}

/// A namespace of one test, whose Secrets and leases the operator may use.
pub struct TestNamespace {
    pub name: String,
    pub client: Client,
}

/// Makes `<prefix>-<random>`.
pub async fn namespace(prefix: &str) -> TestNamespace {
    namespace_on(client().await, prefix).await
}

/// The same without any right of the operator's in it.
pub async fn bare_namespace(prefix: &str) -> TestNamespace {
    bare_namespace_on(client().await, prefix).await
}

/// [`namespace`] on another control plane.
pub async fn namespace_on(client: Client, prefix: &str) -> TestNamespace {
    let namespace = bare_namespace_on(client, prefix).await;
    for role in ["landfall-tenant", "landfall-lease"] {
        namespace.bind_operator(role).await;
    }
    namespace
}

/// A namespace of this very name.
pub async fn named_namespace_on(client: Client, name: &str) -> TestNamespace {
    let namespace = make_namespace(client, name.to_owned()).await;
    for role in ["landfall-tenant", "landfall-lease"] {
        namespace.bind_operator(role).await;
    }
    namespace
}

async fn bare_namespace_on(client: Client, prefix: &str) -> TestNamespace {
    make_namespace(client, format!("{prefix}-{:08x}", rand::random::<u32>())).await
}

async fn make_namespace(client: Client, name: String) -> TestNamespace {
    let object =
        Namespace { metadata: ObjectMeta { name: Some(name.clone()), ..Default::default() }, ..Default::default() };
    Api::all(client.clone()).create(&PostParams::default(), &object).await.expect("a namespace");
    TestNamespace { name, client }
}

impl TestNamespace {
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// What `kubectl apply -n <namespace> -k manifests/tenant` (or `scoped`) does.
    pub async fn bind_operator(&self, role: &str) {
        let binding = RoleBinding {
            metadata: ObjectMeta { name: Some(role.to_owned()), ..Default::default() },
            role_ref: RoleRef {
                api_group: Some("rbac.authorization.k8s.io".into()),
                kind: "ClusterRole".into(),
                name: role.to_owned(),
            },
            subjects: Some(vec![Subject {
                kind: "ServiceAccount".into(),
                name: "landfall".into(),
                namespace: Some("landfall-system".into()),
                ..Default::default()
            }]),
        };
        self.api::<RoleBinding>().create(&PostParams::default(), &binding).await.expect("a role binding");
    }

    pub async fn delete(self) {
        Api::<Namespace>::all(self.client.clone()).delete(&self.name, &DeleteParams::default()).await.expect("deleted");
    }
}

/// Who leads, by the object in this namespace: `None` where there is none.
pub async fn leadership(client: &Client, namespace: &str) -> Option<Leadership> {
    let lease = Api::<Lease>::namespaced(client.clone(), namespace).get_opt(OBJECT).await.expect("an answer")?;
    Some(Leadership::read(&lease.metadata.annotations.unwrap_or_default()).expect("a leadership"))
}

/// The holder of the only term of that object; empty where there is none.
pub async fn leader(client: &Client, namespace: &str) -> String {
    let terms = leadership(client, namespace).await.map(|leadership| leadership.terms);
    terms.and_then(|mut terms| terms.pop()).map_or(String::new(), |term| term.holder)
}

/// A `landfall dev`: one's own, or one that tests share.
pub struct Dev {
    /// None where it is shared: it outlives this process.
    process: Option<Tethered>,
    /// The administrator's.
    pub kubeconfig: PathBuf,
    /// What it says on stderr.
    pub log: PathBuf,
}

impl Dev {
    /// Comes back when it is ready.
    pub async fn start(arguments: &[&str]) -> Self {
        let log = log_path("dev");
        let mut command = tether("TERM");
        command
            .arg("dev")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a log"));
        let mut process = Tethered::spawn(command);
        let out = process.stdout.take().expect("its stdout");
        let ready = tokio::task::spawn_blocking(move || {
            let mut lines = BufReader::new(out).lines().map_while(Result::ok);
            lines.find_map(|line| line.strip_prefix("ready: export KUBECONFIG=").map(PathBuf::from))
        });
        let ready = ready.await.expect("a reader");
        let kubeconfig = ready.unwrap_or_else(|| {
            panic!("landfall dev did not get ready: {}", fs::read_to_string(&log).unwrap_or_default())
        });
        Self { process: Some(process), kubeconfig, log }
    }

    /// The control plane of this name, started by the first test that asks for it. With `LANDFALL_TEST_PLANES` (a folder) it is shared by
    /// all test processes, and whoever set that ends the processes that `<name>.pid` in there names; else it ends with this process.
    pub async fn shared(name: &'static str, arguments: &'static [&'static str]) -> Self {
        let Some(folder) = std::env::var_os("LANDFALL_TEST_PLANES").map(PathBuf::from) else {
            return Self::start(arguments).await;
        };
        let file = |end: &str| folder.join(format!("{name}.{end}"));
        let (lock, ready, log, pid) = (file("lock"), file("ready"), file("log"), file("pid"));
        let arguments: Vec<&str> = arguments.to_vec();
        let start = move || {
            let lock = File::create(lock).expect("a lock");
            rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("the lock");
            if !ready.exists() {
                let output = File::create(&log).expect("a log");
                let mut command = Command::new(BINARY);
                command.args(["dev", "--ready-file"]).arg(&ready).args(arguments).process_group(0);
                command.stdin(Stdio::null()).stdout(output.try_clone().expect("a log")).stderr(output);
                // It outlives this test on purpose: other tests share it, and scripts/test.sh ends it by its pid file.
                #[allow(clippy::zombie_processes)]
                let mut child = command.spawn().expect("landfall starts");
                fs::write(pid, child.id().to_string()).expect("a pid file");
                while fs::read_to_string(&ready).unwrap_or_default().is_empty() {
                    let ended = child.try_wait().expect("a child").is_some();
                    assert!(!ended, "landfall dev: {}", fs::read_to_string(&log).unwrap_or_default());
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            (PathBuf::from(fs::read_to_string(&ready).expect("a kubeconfig").trim()), log)
        };
        let (kubeconfig, log) = tokio::task::spawn_blocking(start).await.expect("a control plane");
        Self { process: None, kubeconfig, log }
    }

    fn process(&self) -> &Tethered {
        self.process.as_ref().expect("a control plane of one's own")
    }

    pub async fn client(&self) -> Client {
        client_of(&self.kubeconfig).await
    }

    /// The kubeconfig with the rights that `manifests/` gives the operator.
    pub fn operator_kubeconfig(&self) -> PathBuf {
        self.kubeconfig.with_file_name("operator.kubeconfig")
    }

    /// Where it keeps everything.
    pub fn folder(&self) -> PathBuf {
        self.kubeconfig.parent().expect("a folder").to_owned()
    }

    pub fn kill9(&self) {
        self.process().signal(Signal::KILL);
    }

    /// Asks it to stop, and waits until it has.
    pub async fn stop(self) -> ExitStatus {
        self.process().signal(Signal::TERM);
        self.process().ended().await
    }
}

/// A real `landfall run` with the operator's rights, limited to some namespaces. Killed when dropped; its data folder goes with it.
pub struct Operator {
    plan: OperatorPlan,
    process: Tethered,
    pub data: PathBuf,
    pub log: PathBuf,
    _folder: tempfile::TempDir,
}

/// How an operator is started.
#[derive(Clone, Default)]
pub struct OperatorPlan {
    namespaces: Vec<String>,
    flags: Vec<String>,
    environment: BTreeMap<String, String>,
    sees: Vec<(PathBuf, &'static str)>,
    kubeconfig: Option<PathBuf>,
}

impl OperatorPlan {
    /// It sees this file at that place, as it is at the moment; such as `/etc/hosts`, `/etc/resolv.conf`.
    pub fn sees(mut self, file: &Path, place: &'static str) -> Self {
        self.sees.push((file.to_owned(), place));
        self
    }

    /// For example `LANDFALL_EFFECTS_LEDGER`, `LANDFALL_CRASH_AT`.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// One more of its namespaces.
    pub fn namespace(mut self, name: &str) -> Self {
        self.namespaces.push(name.to_owned());
        self
    }

    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// Another than that of [`operator_kubeconfig`].
    pub fn kubeconfig(mut self, path: &Path) -> Self {
        self.kubeconfig = Some(path.to_owned());
        self
    }

    /// One more operator, on the data folder of the first, as replicas share one.
    pub async fn start_beside(self, first: &Operator) -> Operator {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, log) = (first.data.clone(), log_path("second-operator"));
        let process = self.spawn(&data, &log).await;
        Operator { plan: self, process, data, log, _folder: folder }
    }

    pub async fn start(self) -> Operator {
        let folder = tempfile::Builder::new().prefix("landfall-operator-").tempdir().expect("a data folder");
        let data = folder.path().to_owned();
        let log = log_path(self.namespaces.first().map_or("operator", String::as_str));
        let process = self.spawn(&data, &log).await;
        Operator { plan: self, process, data, log, _folder: folder }
    }

    async fn spawn(&self, data: &Path, log: &Path) -> Tethered {
        let output = File::options().create(true).append(true).open(log).expect("a log");
        let mut command = match self.sees.as_slice() {
            [] => tether("KILL"),
            files => in_mounts(files, &tether("KILL")),
        };
        let kubeconfig = match &self.kubeconfig {
            Some(path) => path.clone(),
            None => operator_kubeconfig().await,
        };
        command.args(["run", "--allow-file-git", "--allow-local-git", "--data-dir"]).arg(data);
        if !self.namespaces.is_empty() {
            command.args(["--namespaces", &self.namespaces.join(",")]);
        }
        // Operators of tests would all write one object: each has one of its own, in the first of its namespaces.
        let own =
            self.namespaces.first().filter(|_| !self.flags.iter().any(|flag| flag.starts_with("--lease-namespace")));
        command.args(own.map(|namespace| format!("--lease-namespace={namespace}")));
        if !self.flags.iter().any(|flag| flag.starts_with("--lease-seconds")) {
            command.arg("--lease-seconds=2");
        }
        command.args(&self.flags).envs(&self.environment).env("KUBECONFIG", kubeconfig);
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a log")).stderr(output);
        Tethered::spawn(command)
    }
}

impl Operator {
    /// An operator for these namespaces, not started yet.
    pub fn of(namespaces: &[&str]) -> OperatorPlan {
        OperatorPlan { namespaces: namespaces.iter().map(ToString::to_string).collect(), ..Default::default() }
    }

    /// Started, with nothing special.
    pub async fn start(namespaces: &[&str]) -> Self {
        Self::of(namespaces).start().await
    }

    pub fn pid(&self) -> i32 {
        self.process.pid.as_raw_nonzero().get()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// `kill -9`; comes back when it is gone.
    pub async fn kill9(&self) {
        self.process.signal(Signal::KILL);
        self.process.ended().await;
    }

    /// TERM; comes back with its exit status.
    pub async fn stop(&self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.ended().await
    }

    /// Comes back when it ended by itself.
    pub async fn wait(&self) -> ExitStatus {
        self.process.ended().await
    }

    /// The same, for as long as that takes.
    pub async fn ended(&self) {
        let _ = self.process.end.clone().wait_for(Option::is_some).await;
    }

    pub fn is_running(&self) -> bool {
        self.process.end.borrow().is_none()
    }

    /// Starts it again on the same data folder, as it was started before; kills it first where it still runs.
    pub async fn restart(&mut self) {
        self.restart_with(|plan| plan).await;
    }

    /// The same with other settings, say without the crash.
    pub async fn restart_with(&mut self, change: impl FnOnce(OperatorPlan) -> OperatorPlan) {
        self.kill9().await;
        self.plan = change(self.plan.clone());
        self.process = self.plan.spawn(&self.data, &self.log).await;
    }

    /// Takes a setting away again.
    pub fn unset(&mut self, name: &str) {
        self.plan.environment.remove(name);
    }

    /// What it wrote so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of it.
    pub fn tail(&self) -> String {
        let output = self.output();
        let tail: Vec<&str> = output.lines().rev().take(30).collect();
        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Waits until an object is as wished; what it is instead is told with the end of the log. States of a moment are seen too, for it is
    /// watched. An API server that is away, or mute, is no end.
    pub async fn until<K>(&self, api: &Api<K>, name: &str, what: &str, wished: impl Fn(&K) -> bool) -> K
    where
        K: Resource + Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize + Send + 'static,
    {
        let deadline = Instant::now() + PATIENCE;
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = Box::pin(watcher(api.clone(), config).default_backoff());
        let mut last = None;
        while Instant::now() < deadline {
            let now = tokio::select! {
                event = events.next() => match event {
                    Some(Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object))) => Some(object),
                    Some(Ok(watcher::Event::Delete(_))) => None,
                    _ => continue,
                },
                () = tokio::time::sleep(LOOK) => {
                    let Ok(Ok(object)) = tokio::time::timeout(LOOK * 2, api.get_opt(name)).await else { continue };
                    object
                }
            };
            match now {
                Some(object) if wished(&object) => return object,
                other => last = other,
            }
        }
        let status = last.map(|object| serde_json::to_value(object).expect("JSON")["status"].clone());
        panic!("{name} is not {what}: {:#}\n{}\n{}", status.unwrap_or_default(), self.log.display(), self.tail());
    }
}

/// A process that gets a signal when this one dies, and dies when this is dropped.
struct Tethered {
    pid: Pid,
    stdout: Option<std::process::ChildStdout>,
    end: watch::Receiver<Option<ExitStatus>>,
}

/// `landfall` under `setpriv`, which becomes it.
fn tether(signal: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", signal, BINARY]);
    command
}

/// The same command where these files are at those places.
fn in_mounts(files: &[(PathBuf, &str)], command: &Command) -> Command {
    let mut within = Command::new("unshare");
    let script = "while [ $1 != -- ]; do mount --bind $1 $2 && shift 2 || exit; done; shift && exec \"$@\"";
    within.args(["-m", "sh", "-euc", script, "sh"]);
    for (file, place) in files {
        within.arg(file).arg(place);
    }
    within.arg("--");
    within.arg(command.get_program()).args(command.get_args());
    within
}

impl Tethered {
    /// The signal comes when the *thread* that spawned dies, and those of tests come and go: so a thread of its own, which stays.
    fn spawn(mut command: Command) -> Self {
        let (started, start) = std::sync::mpsc::channel();
        let (ended, end) = watch::channel(None);
        std::thread::spawn(move || {
            let mut child: Child = command.spawn().expect("landfall starts");
            started.send((child.id(), child.stdout.take())).expect("somebody waits");
            let status = child.wait().expect("a child");
            let _ = ended.send(Some(status));
        });
        let (pid, stdout) = start.recv().expect("landfall started");
        Self { pid: Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid"), stdout, end }
    }

    fn signal(&self, signal: Signal) {
        if self.end.borrow().is_none() {
            let _ = rustix::process::kill_process(self.pid, signal);
        }
    }

    async fn ended(&self) -> ExitStatus {
        let mut end = self.end.clone();
        let status = tokio::time::timeout(PATIENCE, end.wait_for(Option::is_some)).await;
        status.expect("it ends in time").expect("a thread that waits").expect("a status")
    }
}

impl Drop for Tethered {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// `target/test-logs/<name>-<process>-<n>.log`
fn log_path(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-logs");
    fs::create_dir_all(&folder).expect("a folder for logs");
    folder.join(format!("{name}-{}-{}.log", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
}
