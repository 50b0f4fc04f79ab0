//! Calls on real hosts: what a rollout does there, who may do it, and what faults do to it.

mod connections;
mod owners;
mod processes;
mod releases;
mod updates;

use std::{path::Path, time::Duration};

use crate::support::{
    hosts::Hosts,
    wait::{PATIENCE, until},
};
use landfall::{
    effects::{
        gate::Gate,
        payload::Payload,
        shell::{ActCall, Acted, Host, HostError, Listener, MarkSpec, StageSpec, StartSpec, StopSpec, UpdateSpec},
        ssh::{Credentials, SshError, SshTarget},
    },
    model::{
        Class,
        facts::FolderFacts,
        ids::{ActId, FenceToken, FolderName, Owner, ReleaseName},
    },
};
use sha2::{Digest, Sha256};

const ROOT: &str = "/srv/landfall";

/// One host with a connection, and the Deployment that acts on it.
struct Bench {
    rack: Hosts,
    host: Host,
    gate: Gate,
    call: ActCall,
    local: tempfile::TempDir,
}

fn token(epoch: &str, transitions: i64) -> FenceToken {
    FenceToken { epoch: epoch.to_owned(), created: 1_700_000_000, transitions }
}

fn owner(deployment: &str, host: &str) -> Owner {
    Owner {
        control_plane_id: "plane-1".to_owned(),
        namespace: "shop".to_owned(),
        deployment: deployment.to_owned(),
        uid: format!("uid-of-{deployment}"),
        host: host.to_owned(),
    }
}

impl Bench {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(options: &[&str]) -> Self {
        let rack = Hosts::up_with(1, options).await;
        let gate = Gate::open_for(token("plane-1", 5));
        let host = connect(&rack, &gate).await.unwrap();
        let call = ActCall {
            folder: FolderName::new("shop", "web"),
            owner: owner("web-production", "web-01"),
            replaces: None,
            fence: token("plane-1", 5),
            act: ActId { uid: "uid-of-web-production".to_owned(), rollout: "1.0".to_owned(), attempt: 1, n: 0 },
        };
        Self { rack, host, gate, call, local: tempfile::tempdir().unwrap() }
    }

    async fn again(&mut self) {
        self.host = connect(&self.rack, &self.gate).await.unwrap();
    }

    async fn folder(&self) -> FolderFacts {
        self.host.facts().await.unwrap().folders.remove(&self.call.folder).unwrap_or_default()
    }

    fn release(&self, version: &str, files: &[(&str, &str)]) -> StageSpec {
        let tar = self.local.path().join(format!("{version}.tar"));
        let digest = pack(&tar, files);
        let size = std::fs::metadata(&tar).unwrap().len();
        StageSpec {
            release: ReleaseName::new(version, &digest),
            digest,
            size,
            tar: Payload::file(tar),
            absent_with_free: None,
        }
    }

    async fn stage(&mut self, spec: &StageSpec) {
        self.call.act.n = self.host.stage(&self.gate, &self.call, spec).await.unwrap().journal;
    }

    async fn stop(&mut self, grace: u64) {
        let spec = StopSpec { signal: "TERM".to_owned(), grace: Duration::from_secs(grace) };
        self.call.act.n = self.host.stop(&self.gate, &self.call, &spec).await.unwrap().journal;
    }

    async fn switch(&mut self, spec: &StageSpec) {
        self.call.act.n = self.host.switch(&self.gate, &self.call, &spec.release).await.unwrap().journal;
    }

    async fn start(&mut self, spec: &StageSpec, command: &[&str]) {
        self.call.act.n =
            self.host.start(&self.gate, &self.call, &start(&self.call, spec, command)).await.unwrap().journal;
    }

    /// Stop, switch and start in one call.
    async fn turn(&mut self, spec: &StageSpec, port: Option<u16>) -> bool {
        let turned = self.host.update(&self.gate, &self.call, &turning(&self.call, spec, port)).await.unwrap();
        assert_eq!(turned.acted.folder, Some(self.folder().await));
        assert_eq!(turned.acted.journal, self.call.act.n + 2, "one begin, one end");
        self.call.act.n = turned.acted.journal;
        turned.port_taken
    }

    async fn mark(&mut self) {
        let rollout = self.call.act.rollout.clone();
        let acted = self.host.mark(&self.gate, &self.call, &marking(&rollout, None)).await.unwrap();
        // What an act tells of its folder is what the facts say.
        assert_eq!(acted.folder, Some(self.folder().await));
        self.call.act.n = acted.journal;
    }

    /// A release with a shell script, running.
    async fn running(&mut self, script: &str) -> StageSpec {
        let spec = self.release("v1", &[("app", script)]);
        self.stage(&spec).await;
        self.switch(&spec).await;
        self.start(&spec, &["./app"]).await;
        spec
    }
}

fn start(call: &ActCall, spec: &StageSpec, command: &[&str]) -> StartSpec {
    StartSpec {
        release: spec.release.clone(),
        digest: spec.digest.clone(),
        revision: 1,
        rollout: call.act.rollout.clone(),
        heal: false,
        command: command.iter().map(|&word| word.to_owned()).collect(),
        env: vec![("GREETING".to_owned(), "it's \"quoted\"\n$HOME `id` \\0041 ü".to_owned())],
    }
}

fn turning(call: &ActCall, spec: &StageSpec, port: Option<u16>) -> UpdateSpec {
    let stop = StopSpec { signal: "TERM".to_owned(), grace: PATIENCE };
    UpdateSpec { stop, start: start(call, spec, &["./app"]), run_as: None, port }
}

fn marking(rollout: &str, port: Option<u16>) -> MarkSpec {
    MarkSpec { rollout: rollout.to_owned(), port, keep: vec![], at_most: 0 }
}

fn target(rack: &Hosts) -> SshTarget {
    SshTarget {
        address: rack.host(0).address.clone(),
        port: rack.host(0).port,
        user: rack.user().to_owned(),
        connect_timeout: Duration::from_secs(60),
    }
}

async fn connect(rack: &Hosts, gate: &Gate) -> Result<Host, HostError> {
    connect_to(&target(rack), rack, gate).await
}

async fn connect_to(target: &SshTarget, rack: &Hosts, gate: &Gate) -> Result<Host, HostError> {
    let credentials = Credentials::new(&rack.identity(), &rack.known_hosts())?;
    Host::connect(gate, "web-01", target, &credentials, ROOT).await
}

fn pack(tar: &Path, files: &[(&str, &str)]) -> String {
    let mut builder = tar::Builder::new(std::fs::File::create(tar).unwrap());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap();
    Sha256::digest(std::fs::read(tar).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Of one question to a program that is there to answer.
const ANSWER: Duration = Duration::from_secs(30);

const WEB: &str = "#!/bin/sh\nprintf '%s\\n' \"$GREETING\"\nmkdir -p www && echo hello >www/index.html\nexec busybox httpd -f -p 8080 -h www\n";
const SLEEPER: &str = "#!/bin/sh\nexec sleep 1000\n";
