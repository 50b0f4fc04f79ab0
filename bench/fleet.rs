//! The fleet alone on the bench's hosts, without Kubernetes: commands on stdin, one answer line each (`ok WALL CPU` in seconds, or `error WHY`).
//!
//! `fleet STATE [PROGRAM]`, where STATE is the folder of tests/support/hosts.sh, PROGRAM another landfall-host than the embedded one:
//! `connect N` all reached; `drop`; `look N` each asked once; `load VERSION TAR [BASE]`; `put N VERSION` its bytes are on N hosts;
//! `roll N BY VERSION` staged on all, then in batches to ready; `remove N`.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::future::{BoxFuture, try_join_all};
use landfall::{
    effects::{
        clock,
        gate::Gate,
        payload::{self, Payload},
        program::{Image, Images},
        ssh::{Credentials, SshTarget},
    },
    fleet::{Fleet, FleetSettings, GroupAccess, HostAccess, HostId, Object, Order, Outcome, Priority, SshDialer, Work},
    model::ids::FenceToken,
};
use landfall_host_bundle::{Release, encode, write};
use landfall_host_protocol::{
    Author, Bundle, ConfigHash, Configuration, Digest, FolderName, Hello, HttpGet, HttpScheme, LogLimits,
    Outcome as End, Owner, Probe, ProbeAction, ProcessRuntime, ReleaseName, RestartPolicy, Runtime, Secrets, Start,
    Step, Stop, Task, TaskId, VERSIONS,
};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncBufReadExt;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const NAMESPACE: &str = "bench";
const GROUP: &str = "hosts";
const PATIENCE: Duration = Duration::from_secs(120);

/// Held once, sent to many.
struct Memory(Bytes);

impl payload::Source for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn open(&self) -> BoxFuture<'_, std::io::Result<payload::Bytes>> {
        let bytes = self.0.clone();
        Box::pin(async move { Ok(Box::new(std::io::Cursor::new(bytes)) as payload::Bytes) })
    }
}

struct Version {
    name: ReleaseName,
    digest: Digest,
    release: Release,
    manifest: Object,
    bundle: Object,
    base: Option<ReleaseName>,
}

fn digest(bytes: &[u8]) -> Result<Digest> {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Digest::parse(&hex).ok_or_else(|| "a digest".into())
}

fn object(bytes: Vec<u8>) -> Result<Object> {
    let (sha256, size) = (digest(&bytes)?, bytes.len() as u64);
    Ok(Object { sha256, size, payload: Payload::of(Memory(bytes.into())) })
}

struct Bench {
    fleet: Fleet,
    hosts: Vec<(String, HostAccess)>,
    versions: HashMap<String, Version>,
    /// Journal numbers by host.
    journals: HashMap<String, u64>,
}

impl Bench {
    fn new(state: &Path, images: Images) -> Result<Self> {
        let read = |name: &str| std::fs::read_to_string(state.join(name));
        let credentials = Credentials::new(&read("identity")?, &read("known_hosts")?)?;
        let user = read("user")?.trim().to_owned();
        let mut hosts = Vec::new();
        for line in read("list")?.lines() {
            let [name, address, port] = line.split('\t').collect::<Vec<_>>()[..] else { return Err("list".into()) };
            let target = SshTarget {
                address: address.to_owned(),
                port: port.parse()?,
                user: user.clone(),
                connect_timeout: Duration::from_secs(30),
            };
            let hello = Hello {
                versions: VERSIONS,
                namespace: NAMESPACE.to_owned(),
                become_method: None,
                become_users: vec![],
            };
            let root = "/srv/landfall".to_owned();
            let access = HostAccess { target, credentials: credentials.clone(), jumps: vec![], root, hello, hash: 1 };
            hosts.push((name.to_owned(), access));
        }
        let gate = Gate::open_for(FenceToken { epoch: "bench".to_owned(), created: 1, transitions: 1 });
        let fleet = Fleet::new(Arc::new(SshDialer::new(gate, images)), FleetSettings::default());
        Ok(Self { fleet, hosts, versions: HashMap::new(), journals: HashMap::new() })
    }

    fn first(&self, n: usize) -> Result<Vec<HostId>> {
        let hosts = self.hosts.get(..n).ok_or("not so many hosts")?;
        Ok(hosts.iter().map(|(name, _)| HostId::new(NAMESPACE, GROUP, name)).collect())
    }

    async fn connect(&self, n: usize) -> Result<()> {
        let hosts: BTreeMap<_, _> = self.hosts.iter().take(n).cloned().collect();
        let group = GroupAccess { hosts, connections: None, period: Duration::from_secs(600), least_rate: None };
        self.fleet.configure(NAMESPACE, GROUP, group);
        self.each(n, Priority::Look, |_| Ok(vec![Work::Look])).await.map(drop)
    }

    /// One piece of work after the other on each of the first hosts, all hosts beside each other.
    async fn each(
        &self,
        n: usize,
        priority: Priority,
        work: impl Fn(&HostId) -> Result<Vec<Work>>,
    ) -> Result<Vec<(HostId, Outcome)>> {
        self.on(&self.first(n)?, priority, work).await
    }

    async fn on(
        &self,
        hosts: &[HostId],
        priority: Priority,
        work: impl Fn(&HostId) -> Result<Vec<Work>>,
    ) -> Result<Vec<(HostId, Outcome)>> {
        let all = hosts.iter().map(|host| {
            let work = work(host);
            async move {
                let mut last = Outcome::Done;
                for work in work? {
                    let order = Order { priority, work, patience: PATIENCE };
                    last = self.fleet.submit(host, order).done().await?;
                    if let Outcome::Ended { result, .. } = &last
                        && result.outcome != End::Succeeded
                    {
                        return Err(format!("{}: {:?}", host.host, result.outcome).into());
                    }
                }
                Ok::<_, Box<dyn Error + Send + Sync>>((host.clone(), last))
            }
        });
        try_join_all(all).await
    }

    fn load(&mut self, version: &str, tar: &Path, base: Option<&str>) -> Result<()> {
        let base = base.and_then(|base| self.versions.get(base));
        let whole = digest(&std::fs::read(tar)?)?;
        let release = Release::read(File::open(tar)?, &whole)?;
        let mut bundle = Vec::new();
        write(&release, base.map(|base| &base.release), &mut bundle)?;
        let loaded = Version {
            name: ReleaseName::new(version, whole.as_str()),
            digest: whole,
            manifest: object(encode(release.manifest()))?,
            bundle: object(bundle)?,
            base: base.map(|base| base.name.clone()),
            release,
        };
        self.versions.insert(version.to_owned(), loaded);
        Ok(())
    }

    fn task(&self, host: &HostId, steps: Vec<Step>) -> Work {
        let n = self.journals.get(&host.host).copied().unwrap_or_default();
        let owner = Owner {
            control_plane_id: "bench".to_owned(),
            namespace: NAMESPACE.to_owned(),
            deployment: "app".to_owned(),
            uid: "uid".to_owned(),
            host: host.host.clone(),
        };
        let task = Task {
            id: TaskId { uid: "uid".to_owned(), rollout: "1.0".to_owned(), attempt: 1, n },
            folder: folder(),
            owner,
            replaces: None,
            fence: landfall_host_protocol::FenceToken { epoch: "bench".to_owned(), created: 1, transitions: 1 },
            author: Author::Operator,
            steps,
        };
        Work::Task { task: Box::new(task), secrets: Secrets::default() }
    }

    fn note(&mut self, ended: Vec<(HostId, Outcome)>) {
        for (host, outcome) in ended {
            if let Outcome::Ended { result, .. } = outcome {
                self.journals.insert(host.host, result.journal);
            }
        }
    }

    /// The bytes are there and the release is unpacked.
    async fn put(&mut self, n: usize, version: &str) -> Result<()> {
        let wanted = self.versions.get(version).ok_or("load it first")?;
        let stage = Step::Stage {
            release: wanted.name.clone(),
            digest: wanted.digest.clone(),
            manifest: wanted.manifest.sha256.clone(),
            bundle: Some(Bundle {
                sha256: wanted.bundle.sha256.clone(),
                size: wanted.bundle.size,
                base: wanted.base.clone(),
            }),
        };
        let put = |object: &Object| Work::Put { folder: folder(), object: object.clone() };
        let ended = self
            .each(n, Priority::Stage, |host| {
                Ok(vec![put(&wanted.manifest), put(&wanted.bundle), self.task(host, vec![stage.clone()])])
            })
            .await?;
        self.note(ended);
        Ok(())
    }

    async fn roll(&mut self, n: usize, by: usize, version: &str) -> Result<()> {
        self.put(n, version).await?;
        for batch in self.first(n)?.chunks(by.max(1)) {
            let wanted = self.versions.get(version).ok_or("load it first")?;
            let start = Start {
                release: wanted.name.clone(),
                digest: wanted.digest.clone(),
                config: configuration()?,
                revision: 1,
                redeploys: 0,
                attempt: 1,
            };
            let steps = vec![
                Step::Stop,
                Step::Switch { release: wanted.name.clone() },
                Step::Start(Box::new(start)),
                Step::WaitReady { timeout_seconds: 60 },
            ];
            let ended = self.on(batch, Priority::Update, |host| Ok(vec![self.task(host, steps.clone())])).await?;
            self.note(ended);
        }
        Ok(())
    }

    async fn remove(&mut self, n: usize) -> Result<()> {
        self.each(n, Priority::Stop, |host| Ok(vec![self.task(host, vec![Step::Remove])])).await?;
        self.journals.clear();
        Ok(())
    }

    async fn run(&mut self, words: &[&str]) -> Result<()> {
        match *words {
            ["connect", n] => self.connect(n.parse()?).await,
            ["drop"] => {
                self.fleet.forget(NAMESPACE, GROUP);
                Ok(())
            }
            ["look", n] => self.each(n.parse()?, Priority::Look, |_| Ok(vec![Work::Look])).await.map(drop),
            ["load", version, tar] => self.load(version, Path::new(tar), None),
            ["load", version, tar, base] => self.load(version, Path::new(tar), Some(base)),
            ["put", n, version] => self.put(n.parse()?, version).await,
            ["roll", n, by, version] => self.roll(n.parse()?, by.parse()?, version).await,
            ["remove", n] => self.remove(n.parse()?).await,
            _ => Err("no such command".into()),
        }
    }
}

fn folder() -> FolderName {
    FolderName::new(NAMESPACE, "app")
}

fn configuration() -> Result<Configuration> {
    let request =
        HttpGet { port: 8080, path: "/version".to_owned(), scheme: HttpScheme::Http, host: None, headers: vec![] };
    Ok(Configuration {
        hash: ConfigHash::parse("1:0123456789abcdef").ok_or("a hash")?,
        runtime: Runtime::Process(ProcessRuntime {
            command: vec!["./app".to_owned()],
            restart_policy: RestartPolicy::Always,
            stop: Stop { grace_seconds: 5, ..Stop::default() },
        }),
        env: vec![],
        files: vec![],
        run_as: None,
        readiness: Some(Probe {
            action: ProbeAction::HttpGet(request),
            initial_delay_seconds: 0,
            period_seconds: 1,
            timeout_seconds: 5,
            failure_threshold: 3,
            success_threshold: 1,
        }),
        liveness: None,
        log: LogLimits::default(),
        keep_secrets_on_host: false,
    })
}

/// A landfall-host that was built by hand, of this machine.
fn images(program: &Path) -> Result<Images> {
    let bytes = std::fs::read(program)?;
    let image = Image { digest: digest(&bytes)?.as_str().to_owned(), bytes: bytes.into() };
    Ok(Images::of([(std::env::consts::ARCH.to_owned(), image)]))
}

/// CPU seconds of this process, from `/proc/self/stat`.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}

#[tokio::main]
async fn main() -> Result<()> {
    let state = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: fleet STATE [PROGRAM]")?;
    let images = match std::env::args_os().nth(2) {
        Some(program) => images(Path::new(&program))?,
        None => Images::embedded(),
    };
    let mut bench = Bench::new(&state, images)?;
    let mut lines = tokio::io::BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (began, used) = (clock::monotonic(), cpu());
        let done = bench.run(&words).await;
        let (wall, used) = (began.elapsed().as_secs_f64(), cpu() - used);
        match done {
            Ok(()) => println!("ok {wall:.5} {used:.5}"),
            Err(error) => println!("error {}", error.to_string().replace('\n', " ")),
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}
