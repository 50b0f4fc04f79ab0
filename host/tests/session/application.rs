//! A real application, deployed through a session as the operator does it.

use std::process::Command;

use landfall_host_bundle::{Release, encode, write};
use landfall_host_protocol::{
    Answer, Bundle, ConfigHash, Configuration, Digest, EnvValue, EnvVar, Kind, Outcome, ProcessFacts, ProcessRuntime,
    ReleaseName, Request, Runtime, Secrets, Start, Step, Stop,
};

use crate::{
    client::{Client, Root, digest, name, program},
    tasks::{end, task},
};

/// Prints its version and its messages, and waits.
const SCRIPT: &str = "#!/bin/sh\necho \"version VERSION, key $KEY\"\nexec sleep 1000\n";

pub struct Version {
    pub name: ReleaseName,
    pub digest: Digest,
    release: Release,
}

impl Version {
    pub fn release(&self) -> &Release {
        &self.release
    }
}

pub fn version(version: &str) -> Version {
    let mut tar = tar::Builder::new(Vec::new());
    let script = SCRIPT.replace("VERSION", version);
    let mut header = tar::Header::new_gnu();
    header.set_size(script.len() as u64);
    header.set_mode(0o755);
    tar.append_data(&mut header, "run", script.as_bytes()).unwrap();
    let tar = tar.into_inner().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &tar).unwrap();
    let digest = digest(&tar);
    let release = Release::read(file, &digest).unwrap();
    Version { name: ReleaseName::new(version, digest.as_str()), digest, release }
}

pub fn configuration(secret: bool) -> Configuration {
    let env = EnvVar { name: "KEY".to_owned(), value: EnvValue::Secret("KEY".to_owned()) };
    Configuration {
        hash: ConfigHash::parse(if secret { "1:00000000aaaaaaaa" } else { "1:00000000bbbbbbbb" }).unwrap(),
        runtime: Runtime::Process(ProcessRuntime {
            command: vec!["./run".to_owned()],
            restart_policy: Default::default(),
            stop: Stop { grace_seconds: 5, ..Stop::default() },
        }),
        env: if secret { vec![env] } else { Vec::new() },
        files: Vec::new(),
        run_as: None,
        readiness: None,
        liveness: None,
        log: Default::default(),
        keep_secrets_on_host: false,
    }
}

/// Brings bytes as they are announced.
fn bring(client: &mut Client, bytes: &[u8]) -> Digest {
    let id = client.send(&crate::client::put("web", bytes, Some(0)));
    client.send_bytes(id, Kind::LastBytes, bytes);
    assert_eq!(client.answer(id), Answer::Stored);
    digest(bytes)
}

/// Stages a version and starts it where `starts`; answers the journal's number.
pub fn deploy(client: &mut Client, version: &Version, config: Configuration, n: u64, starts: bool) -> u64 {
    let mut bundle = Vec::new();
    write(&version.release, None, &mut bundle).unwrap();
    let manifest = bring(client, &encode(version.release.manifest()));
    let sha256 = bring(client, &bundle);
    let stage = Step::Stage {
        release: version.name.clone(),
        digest: version.digest.clone(),
        manifest,
        bundle: Some(Bundle { sha256, size: bundle.len() as u64, base: None }),
    };
    let start = Start {
        release: version.name.clone(),
        digest: version.digest.clone(),
        config,
        revision: 1,
        redeploys: 0,
        attempt: 1,
    };
    let mut steps = vec![stage];
    if starts {
        let switch = Step::Switch { release: version.name.clone() };
        steps.extend([Step::Stop, switch, Step::Start(Box::new(start)), Step::WaitReady { timeout_seconds: 60 }]);
    }
    let secrets = Secrets([("KEY".to_owned(), "hunter2".into())].into());
    let id = client.send(&Request::Begin { task: Box::new(task(n, steps)), secrets });
    let (_, result, _) = end(client, id);
    assert_eq!(result.outcome, Outcome::Succeeded);
    result.journal
}

/// The application as a look tells it.
pub fn process(client: &mut Client) -> ProcessFacts {
    facts(client).process.unwrap()
}

pub fn facts(client: &mut Client) -> landfall_host_protocol::FolderFacts {
    let Answer::Facts { facts, .. } = client.ask(&Request::Look { seen: 0 }) else { panic!() };
    facts.folders[&name("web")].clone()
}

/// Ends what was started, however the test ends.
pub struct Deployed<'a> {
    pub root: &'a Root,
}

impl Drop for Deployed<'_> {
    fn drop(&mut self) {
        // In order, or a session that is still there would put another keeper beside what is left.
        let _ = Command::new(program()).arg("--root").arg(self.root.path()).arg("stop").output();
    }
}

pub fn kill(pid: i32) {
    signal(pid, rustix::process::Signal::KILL);
}

pub fn signal(pid: i32, signal: rustix::process::Signal) {
    let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal);
}
