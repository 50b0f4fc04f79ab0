//! What goes wrong on and around a host, made to go wrong on real ones: each fault ends in the error that names it, within its
//! time, and leaves the host in a state from which the next call goes on. Acts run under dash, busybox ash and bash.

use std::time::Duration;

use landfall::{
    effects::{
        gate::Gate,
        host::{ActCall, Host, HostError, Listener, MarkSpec, StageSpec, StartSpec, StopSpec},
        payload::Payload,
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
            match self.host.http_ready(port, "/", None, TIMEOUT).await.unwrap() {
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

#[tokio::test]
async fn a_host_that_drops_every_packet_is_unreachable_after_its_connect_timeout() {
    let hosts = Hosts::up(1).await;
    hosts.host(0).cut().await;
    let (result, took) = timed(connect(&briefly(hosts.host(0)), &credentials(&hosts))).await;
    let error = ssh_error(result);
    assert!(matches!(error, SshError::Unreachable { .. }), "{error:?}");
    assert!(took >= TIMEOUT && took < TIMEOUT + LATE, "{took:?}");
}

#[tokio::test]
async fn a_host_without_a_listening_sshd_is_unreachable_at_once() {
    let hosts = Hosts::up(1).await;
    hosts.host(0).refuse().await;
    let (result, took) = timed(connect(&target(hosts.host(0)), &credentials(&hosts))).await;
    let error = ssh_error(result);
    assert!(matches!(&error, SshError::Unreachable { why, .. } if why.contains("refused")), "{error:?}");
    assert!(took < LONG, "{took:?}");
    hosts.host(0).mend().await;
    connect(&target(hosts.host(0)), &credentials(&hosts)).await.unwrap();
}

#[tokio::test]
async fn something_that_accepts_and_says_nothing_is_called_silent_after_the_connect_timeout() {
    let hosts = Hosts::up(1).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let known = format!("[127.0.0.1]:{port} {}", hosts.known_hosts().split_once(' ').unwrap().1);
    let silent = SshTarget { address: "127.0.0.1".into(), port, ..briefly(hosts.host(0)) };
    let accepting = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    let credentials_of_silent = Credentials::new(&hosts.identity(), &known).unwrap();
    let (result, took) = timed(connect(&silent, &credentials_of_silent)).await;
    let error = ssh_error(result);
    assert!(matches!(error, SshError::Silent { .. }), "{error:?}");
    assert!(took >= TIMEOUT && took < TIMEOUT + LATE, "{took:?}");
    accepting.abort();

    // The same of a machine that hangs: its kernel accepts, its sshd does not.
    hosts.host(0).freeze().await;
    let (result, took) = timed(connect(&briefly(hosts.host(0)), &credentials(&hosts))).await;
    let error = ssh_error(result);
    assert!(matches!(error, SshError::Silent { .. }) && took < TIMEOUT + LATE, "{error:?} {took:?}");
    hosts.host(0).thaw().await;
    connect(&target(hosts.host(0)), &credentials(&hosts)).await.unwrap();
}

#[tokio::test]
async fn a_key_that_the_host_does_not_know_is_named_with_the_user_it_was_for() {
    let hosts = Hosts::up(1).await;
    let wrong = Credentials::new(&hosts.stranger_identity(), &hosts.known_hosts()).unwrap();
    let target = SshTarget { user: "deploy".into(), ..target(hosts.host(0)) };
    let error = ssh_error(connect(&target, &wrong).await);
    assert!(matches!(&error, SshError::AuthenticationFailed { user, .. } if user == "deploy"), "{error:?}");
}

#[tokio::test]
async fn a_changed_host_key_stops_before_authentication_and_shows_both_fingerprints() {
    let hosts = Hosts::up(1).await;
    let host = hosts.host(0);
    host.rekey().await;
    let error = ssh_error(connect(&target(host), &credentials(&hosts)).await);
    let SshError::HostKeyMismatch { expected, got, .. } = &error else { panic!("{error:?}") };
    assert!(expected.contains("SHA256:") && got.contains("SHA256:") && expected != got, "{error}");
    let log = host.sh("cat /run/sshd.log").await;
    assert!(!log.contains("publickey"), "a key was offered to a stranger: {log}");
    // With the new lines in the Secret all is well again.
    let renewed = Credentials::new(&hosts.identity(), &host.host_key_lines().await).unwrap();
    connect(&target(host), &renewed).await.unwrap();
}

#[tokio::test]
async fn a_host_is_known_by_either_of_its_keys_alone() {
    let hosts = Hosts::up(1).await;
    for kind in ["ssh-ed25519", "ecdsa-sha2-nistp256"] {
        let lines: String =
            hosts.known_hosts().lines().filter(|line| line.contains(kind)).map(|line| format!("{line}\n")).collect();
        let known = Credentials::new(&hosts.identity(), &lines).unwrap();
        connect(&target(hosts.host(0)), &known).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
    let unknown = Credentials::new(
        &hosts.identity(),
        "10.0.0.1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE2ru+yZXZZCzRwPw1pzpaPGN+gxmnXhrqiQPl3BbzZ/\n",
    );
    let error = ssh_error(connect(&target(hosts.host(0)), &unknown.unwrap()).await);
    assert!(matches!(error, SshError::HostKeyUnknown { .. }), "{error:?}");
}

#[tokio::test]
async fn an_sshd_that_does_not_forward_is_seen_in_the_facts_and_named_by_a_probe() {
    let hosts = Hosts::up_with(2, &["--sshd-of", "web-02=AllowTcpForwarding no"]).await;
    let forwards = Rig::new(&hosts, hosts.host(0)).await;
    assert!(forwards.host.facts().await.unwrap().forwards);
    let refuses = Rig::new(&hosts, hosts.host(1)).await;
    assert!(!refuses.host.facts().await.unwrap().forwards);
    let error = ssh_error(refuses.host.tcp_ready(8080, LONG).await);
    assert!(matches!(error, SshError::NoForwarding { .. }), "{error:?}");
}

#[tokio::test]
async fn a_host_that_freezes_under_a_connection_is_given_up_and_found_again_when_it_thaws() {
    let hosts = Hosts::up(1).await;
    let mut rig = Rig::new(&hosts, hosts.host(0)).await;
    hosts.host(0).freeze().await;
    let (result, took) = timed(rig.host.facts()).await;
    let error = ssh_error(result);
    assert!(error.is_unreachable(), "{error:?}");
    assert!(took < Duration::from_secs(90), "{took:?}");
    hosts.host(0).thaw().await;
    rig.reconnect().await;
    assert!(rig.host.facts().await.unwrap().missing_tools.is_empty());
}

// ---- the disk --------------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_full_disk_is_named_before_anything_stops_and_the_release_arrives_once_there_is_room() {
    let hosts = Hosts::up_with(3, &SHELLS).await;
    let mut noise = vec![0u8; 4 << 20];
    rand::fill(&mut noise[..]);
    let big = Release::with("v2", &[("noise.bin", &noise), ("run.json", b"{}")]);
    for test in hosts.all() {
        let mut rig = Rig::new(&hosts, test).await;
        let before = rig.bring_up(&Release::new("v1"), words!(web(8080))).await;
        test.fill_but(1024).await;
        let error = rig.stage(&big).await.unwrap_err();
        assert!(matches!(error, HostError::DiskFull { .. }), "{}: {error:?}", test.name);
        let seen = rig.look().await;
        assert!(seen.process.is_some_and(|now| now.alive && now.pid == before.pid), "{}: v1 was touched", test.name);
        assert!(!seen.releases.contains(&big.spec.release), "{}: half a release counts as whole", test.name);
        test.drain().await;
        rig.stage(&big).await.unwrap_or_else(|error| panic!("{}: {error}", test.name));
        assert!(rig.look().await.releases.contains(&big.spec.release));
        assert_eq!(test.sh("ls /srv/landfall/shop.petclinic/.landfall/tmp").await, "", "left behind on {}", test.name);
    }
}

#[tokio::test]
async fn a_disk_without_a_free_byte_starts_nothing_and_starts_once_there_is_room() {
    let hosts = Hosts::up_with(3, &SHELLS).await;
    for test in hosts.all() {
        let mut rig = Rig::new(&hosts, test).await;
        let release = Release::new("v1");
        rig.stage(&release).await.unwrap();
        rig.switch(&release).await.unwrap();
        test.fill().await;
        let error = rig.start(&release, words!(web(8080))).await.unwrap_err();
        assert!(matches!(error, HostError::DiskFull { .. }), "{}: {error:?}", test.name);
        assert_eq!(test.sh("pgrep -c -x busybox || true").await, "0\n", "{}: it runs without an identity", test.name);
        test.drain().await;
        rig.look().await;
        rig.start(&release, words!(web(8080))).await.unwrap_or_else(|error| panic!("{}: {error}", test.name));
        rig.until_http_ready(8080).await;
    }
}

#[tokio::test]
async fn a_disk_without_inodes_is_a_full_disk() {
    let hosts = Hosts::up(1).await;
    let mut rig = Rig::new(&hosts, hosts.host(0)).await;
    rig.stage(&Release::new("v1")).await.unwrap();
    hosts.host(0).fill_inodes().await;
    assert_eq!(rig.host.facts().await.unwrap().free_inodes, Some(0));
    let error = rig.stage(&Release::new("v2")).await.unwrap_err();
    assert!(matches!(error, HostError::DiskFull { .. }), "{error:?}");
    hosts.host(0).drain().await;
    rig.look().await;
    rig.stage(&Release::new("v2")).await.unwrap();
}

// ---- the process -----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_stranger_on_our_port_is_seen_before_the_start_and_never_taken_for_ours() {
    let hosts = Hosts::up_with(3, &SHELLS).await;
    for test in hosts.all() {
        let mut rig = Rig::new(&hosts, test).await;
        assert!(rig.host.port_refuses(8080).await.unwrap());
        test.sh("busybox httpd -p 127.0.0.1:8080 -h /run").await;
        assert!(!rig.host.port_refuses(8080).await.unwrap(), "{}", test.name);
        // A start all the same: ours lives without the port, the stranger answers on it.
        rig.bring_up(&Release::new("v1"), &["sleep", "1000"]).await;
        assert!(rig.host.tcp_ready(8080, LONG).await.unwrap());
        assert_eq!(
            rig.host.answering(&folder(), Some(8080)).await.unwrap().listener,
            Some(Listener::Foreign),
            "{}",
            test.name
        );
        assert_eq!(
            rig.host.answering(&folder(), Some(8081)).await.unwrap().listener,
            Some(Listener::Nobody),
            "{}",
            test.name
        );
        rig.stop(TIMEOUT).await.unwrap();
        assert!(rig.host.tcp_ready(8080, LONG).await.unwrap(), "{}: the stranger was stopped", test.name);
        rig.start(&Release::new("v1"), words!(web(8082))).await.unwrap();
        rig.until_http_ready(8082).await;
        assert_eq!(
            rig.host.answering(&folder(), Some(8082)).await.unwrap().listener,
            Some(Listener::Ours),
            "{}",
            test.name
        );
    }
}

#[tokio::test]
async fn a_process_that_ignores_term_is_killed_after_its_grace_with_all_of_its_session() {
    let hosts = Hosts::up_with(3, &SHELLS).await;
    let stubborn = "trap '' TERM; (trap '' TERM; while :; do sleep 7777; done) & while :; do sleep 7777; done";
    for test in hosts.all() {
        let mut rig = Rig::new(&hosts, test).await;
        rig.bring_up(&Release::new("v1"), &["sh", "-c", stubborn]).await;
        let neighbour = test.sh("setsid sleep 8888 >/dev/null 2>&1 & echo $!").await;
        let (result, took) = timed(rig.stop(Duration::from_secs(1))).await;
        result.unwrap_or_else(|error| panic!("{}: {error}", test.name));
        assert!(took >= Duration::from_secs(1) && took < LONG, "{}: {took:?}", test.name);
        assert!(rig.process().await.is_none_or(|process| !process.alive));
        assert_eq!(test.sh("pgrep -c -f '[s]leep 7777' || true").await, "0\n", "{}: children live on", test.name);
        test.sh(&format!("kill -0 {}", neighbour.trim())).await;
    }
}

#[tokio::test]
async fn a_stranger_with_the_pid_of_our_dead_process_is_neither_ours_nor_touched() {
    let hosts = Hosts::up_with(3, &SHELLS).await;
    for test in hosts.all() {
        let mut rig = Rig::new(&hosts, test).await;
        let ours = rig.bring_up(&Release::new("v1"), &["sleep", "1000"]).await;
        assert!(ours.alive);
        test.sh(&format!("kill -KILL {0}; while [ -e /proc/{0} ]; do :; done", ours.pid)).await;
        assert!(rig.process().await.is_some_and(|process| !process.alive), "{}", test.name);
        test.spawn_as_pid(u32::try_from(ours.pid).unwrap(), &["sleep", "9999"]).await;
        let named = format!("tr '\\0' ' ' </proc/{}/cmdline", ours.pid);
        until("taken: the pid", || async { test.sh(&named).await == "sleep 9999 " }).await;
        assert!(rig.process().await.is_some_and(|process| process.pid == ours.pid && !process.alive), "{}", test.name);
        rig.stop(Duration::from_secs(1)).await.unwrap();
        assert_eq!(test.sh(&named).await, "sleep 9999 ", "{}: a stranger was signalled", test.name);
    }
}

#[tokio::test]
async fn a_process_that_dies_right_after_it_was_ready_is_not_marked_ready() {
    let hosts = Hosts::up_with(3, &SHELLS).await;
    for test in hosts.all() {
        let mut rig = Rig::new(&hosts, test).await;
        let process = rig.bring_up(&Release::new("v1"), words!(web(8080))).await;
        rig.until_http_ready(8080).await;
        test.sh(&format!("kill -KILL {0}; while [ -e /proc/{0} ]; do :; done", process.pid)).await;
        let error = rig.mark().await.unwrap_err();
        assert!(matches!(&error, HostError::StepFailed { step, .. } if step == "mark"), "{}: {error:?}", test.name);
        let seen = rig.look().await;
        assert!(seen.ready.is_none() && seen.process.is_some_and(|process| !process.alive), "{}", test.name);
        assert!(rig.host.port_refuses(8080).await.unwrap());
        rig.start(&Release::new("v1"), words!(web(8080))).await.unwrap();
        rig.until_http_ready(8080).await;
        rig.mark().await.unwrap();
        assert!(rig.look().await.ready.is_some());
    }
}

#[tokio::test]
async fn a_reboot_ends_the_process_and_keeps_releases_current_and_journal() {
    let hosts = Hosts::up_with(3, &SHELLS).await;
    for test in hosts.all() {
        let mut rig = Rig::new(&hosts, test).await;
        let release = Release::new("v1");
        let before = rig.bring_up(&release, words!(web(8080))).await;
        let journal = rig.n;
        test.reboot().await;
        rig.reconnect().await;
        let after = rig.look().await;
        assert_eq!((after.journal, after.current.as_ref()), (journal, Some(&release.spec.release)), "{}", test.name);
        let process = after.process.unwrap();
        assert!(!process.alive && process.boot_id == before.boot_id, "{}: {process:?}", test.name);
        // The new boot gives the old number to a stranger at once: still nobody of ours.
        test.spawn_as_pid(u32::try_from(before.pid).unwrap(), &["sleep", "9999"]).await;
        rig.start(&release, words!(web(8080))).await.unwrap();
        rig.until_http_ready(8080).await;
        assert_eq!(test.sh("pgrep -c -f '[s]leep 9999'").await, "1\n", "{}: a stranger was signalled", test.name);
    }
}

#[tokio::test]
async fn a_stop_under_way_goes_on_when_the_link_is_cut_and_is_not_done_twice() {
    let hosts = Hosts::up_with(3, &SHELLS).await;
    for test in hosts.all() {
        let mut rig = Rig::new(&hosts, test).await;
        let stubborn = "trap '' TERM; while ! [ -e /srv/enough ]; do sleep 0.2; done";
        rig.bring_up(&Release::new("v1"), &["sh", "-c", stubborn]).await;
        let (gate, host, call) = (rig.gate.clone(), rig.host.clone(), rig.call("1.0"));
        let spec = StopSpec { signal: "TERM".into(), grace: PATIENCE };
        let stopping = tokio::spawn(async move { host.stop(&gate, &call, &spec).await });
        let begun = "ls /srv/landfall/shop.petclinic/.landfall/steps/*/stop/pid 2>/dev/null || true";
        until("begun: the stop", || async { !test.sh(begun).await.is_empty() }).await;
        test.hangup().await;
        let error = ssh_error(stopping.await.unwrap());
        assert!(error.is_unreachable(), "{}: {error:?}", test.name);
        rig.reconnect().await;
        let open = rig.look().await.open.unwrap_or_else(|| panic!("{}: no open act", test.name));
        assert!(open.running && open.step == "stop", "{}: {open:?}", test.name);
        let busy = rig.stop(Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(busy, HostError::Busy { .. } | HostError::JournalMoved { .. }), "{}: {busy:?}", test.name);
        test.sh("touch /srv/enough").await;
        let n = rig.host.attach(&folder(), &open, PATIENCE).await.unwrap().journal;
        let seen = rig.look().await;
        assert_eq!((seen.journal, seen.open), (n, None), "{}", test.name);
        assert!(seen.process.is_none_or(|process| !process.alive), "{}", test.name);
        let stops = test.sh("grep -c ' begin stop ' /srv/landfall/shop.petclinic/.landfall/journal").await;
        assert_eq!(stops, "1\n", "{}", test.name);
    }
}

#[tokio::test]
async fn a_look_that_hangs_is_given_up_long_before_the_keepalives_would() {
    let hosts = Hosts::up(1).await;
    let rig = Rig::new(&hosts, hosts.host(0)).await;
    let log = format!("{ROOT}/{}/shared/log", folder());
    hosts.host(0).sh(&format!("mkdir -p {log} && mkfifo {log}/output.log")).await;
    let asked = Instant::now();
    let error = rig.host.tail(&folder(), 5).await.unwrap_err();
    assert!(matches!(error, HostError::Ssh(SshError::Deadline { .. })), "{error}");
    // The connection itself is well: they would never.
    assert!(asked.elapsed() < Duration::from_secs(90), "{:?}", asked.elapsed());
}
