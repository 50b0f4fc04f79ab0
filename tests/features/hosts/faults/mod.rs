//! What goes wrong on and around a host, made to go wrong on real ones: each fault ends in the error that names it, within its
//! time, and leaves the host in a state from which the next call goes on. Acts run under dash, busybox ash and bash.

mod disk;
mod processes;
mod reach;

use std::time::Duration;

use landfall::{
    effects::{
        gate::Gate,
        payload::Payload,
        shell::{ActCall, Host, HostError, Listener, MarkSpec, StageSpec, StartSpec, StopSpec},
        ssh::{Credentials, SshError, SshTarget},
    },
    model::{
        facts::{FolderFacts, ProcessFacts},
        ids::{ActId, FenceToken, FolderName, Owner, ReleaseName},
    },
};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::support::{
    hosts::{Host as TestHost, Hosts},
    wait::{PATIENCE, find, until},
};

const ROOT: &str = "/srv/landfall";
/// Of a connection to whom nobody is expected to answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How much later than that is still in time on a machine with much else to do.
const LATE: Duration = Duration::from_secs(30);
/// Of whoever is there to answer.
const LONG: Duration = Duration::from_secs(60);
const SHELLS: [&str; 4] = ["--shell-of", "web-02=busybox", "--shell-of", "web-03=bash"];

/// A release on this machine: a web service of one file, and a program that does as it is told.
struct Release {
    _folder: tempfile::TempDir,
    spec: StageSpec,
}

impl Release {
    fn new(version: &str) -> Self {
        Self::with(version, &[("index.html", version.as_bytes()), ("run.json", b"{}")])
    }

    fn with(version: &str, files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        let bytes = builder.into_inner().unwrap();
        let tar = folder.path().join("release.tar");
        std::fs::write(&tar, &bytes).unwrap();
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let spec = StageSpec {
            release: ReleaseName::new(version, &digest),
            digest,
            size: bytes.len() as u64,
            tar: Payload::file(tar),
            absent_with_free: None,
        };
        Self { _folder: folder, spec }
    }
}

/// One test host as the operator sees it.
struct Rig<'a> {
    test: &'a TestHost,
    target: SshTarget,
    credentials: Credentials,
    gate: Gate,
    host: Host,
    /// The journal's number as it was answered last.
    n: u64,
}

fn token() -> FenceToken {
    FenceToken { epoch: "plane-1".into(), created: 1_700_000_000, transitions: 1 }
}

fn folder() -> FolderName {
    FolderName::new("shop", "petclinic")
}

fn target(host: &TestHost) -> SshTarget {
    SshTarget { address: host.address.clone(), port: host.port, user: "root".into(), connect_timeout: LONG }
}

fn briefly(host: &TestHost) -> SshTarget {
    SshTarget { connect_timeout: TIMEOUT, ..target(host) }
}

fn credentials(hosts: &Hosts) -> Credentials {
    Credentials::new(&hosts.identity(), &hosts.known_hosts()).unwrap()
}

async fn connect(target: &SshTarget, credentials: &Credentials) -> Result<Host, HostError> {
    Host::connect(&Gate::open_for(token()), "web-01", target, credentials, ROOT).await
}

impl<'a> Rig<'a> {
    async fn new(hosts: &Hosts, test: &'a TestHost) -> Rig<'a> {
        let (target, credentials, gate) = (target(test), credentials(hosts), Gate::open_for(token()));
        let host = Host::connect(&gate, &test.name, &target, &credentials, ROOT).await.unwrap();
        Rig { test, target, credentials, gate, host, n: 0 }
    }

    async fn reconnect(&mut self) {
        let Self { gate, test, target, credentials, .. } = self;
        self.host = Host::connect(gate, &test.name, target, credentials, ROOT).await.unwrap();
    }

    fn call(&self, rollout: &str) -> ActCall {
        let owner = Owner {
            control_plane_id: "plane-1".into(),
            namespace: "shop".into(),
            deployment: "petclinic".into(),
            uid: "0a1b2c3d-0000-4000-8000-000000000001".into(),
            host: self.test.name.clone(),
        };
        let act = ActId { uid: owner.uid.clone(), rollout: rollout.into(), attempt: 1, n: self.n };
        ActCall { folder: folder(), owner, replaces: None, fence: token(), act }
    }

    async fn stage(&mut self, release: &Release) -> Result<(), HostError> {
        self.n = self.host.stage(&self.gate, &self.call("1.0"), &release.spec).await?.journal;
        Ok(())
    }

    async fn switch(&mut self, release: &Release) -> Result<(), HostError> {
        self.n = self.host.switch(&self.gate, &self.call("1.0"), &release.spec.release).await?.journal;
        Ok(())
    }

    async fn start(&mut self, release: &Release, command: &[&str]) -> Result<(), HostError> {
        let spec = StartSpec {
            release: release.spec.release.clone(),
            digest: release.spec.digest.clone(),
            revision: 1,
            rollout: "1.0".into(),
            heal: false,
            command: command.iter().map(|&word| word.to_owned()).collect(),
            env: vec![],
        };
        self.n = self.host.start(&self.gate, &self.call("1.0"), &spec).await?.journal;
        Ok(())
    }

    async fn stop(&mut self, grace: Duration) -> Result<(), HostError> {
        let spec = StopSpec { signal: "TERM".into(), grace };
        self.n = self.host.stop(&self.gate, &self.call("1.0"), &spec).await?.journal;
        Ok(())
    }

    async fn mark(&mut self) -> Result<(), HostError> {
        let spec = MarkSpec { rollout: "1.0".into(), port: None, keep: vec![], at_most: 0 };
        self.n = self.host.mark(&self.gate, &self.call("1.0"), &spec).await?.journal;
        Ok(())
    }

    /// Stage, switch and start, all well.
    async fn bring_up(&mut self, release: &Release, command: &[&str]) -> ProcessFacts {
        self.stage(release).await.unwrap();
        self.switch(release).await.unwrap();
        self.start(release, command).await.unwrap();
        self.process().await.unwrap()
    }

    /// What the host says of our folder; also takes over its journal's number.
    async fn look(&mut self) -> FolderFacts {
        let facts = self.host.facts().await.unwrap().folders.remove(&folder()).unwrap_or_default();
        self.n = facts.journal;
        facts
    }

    async fn process(&mut self) -> Option<ProcessFacts> {
        self.look().await.process
    }

    async fn until_http_ready(&self, port: u16) {
        let look = || async {
            match self.host.http_ready(port, "/", TIMEOUT).await.unwrap() {
                Ok(200) => Ok(()),
                other => Err(other),
            }
        };
        find("ready", look, |seen| format!("{seen:?}")).await;
    }
}

fn web(port: u16) -> [String; 6] {
    ["busybox", "httpd", "-f", "-p", &format!("127.0.0.1:{port}"), "-v"].map(str::to_owned)
}

macro_rules! words {
    ($words:expr) => {
        &$words.iter().map(String::as_str).collect::<Vec<_>>()[..]
    };
}
use words;

/// Runs a closure's future and says how long it took.
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    (work.await, started.elapsed())
}

fn ssh_error<T>(result: Result<T, HostError>) -> SshError {
    match result {
        Err(HostError::Ssh(error)) => error,
        Err(other) => panic!("no SSH error: {other:?}"),
        Ok(_) => panic!("it worked"),
    }
}

// ---- reaching the host -----------------------------------------------------------------------------------------------------

// ---- the disk --------------------------------------------------------------------------------------------------------------

// ---- the process -----------------------------------------------------------------------------------------------------------
