//! Calls on real hosts: what a rollout does there, who may do it, and what faults do to it.

use std::{path::Path, time::Duration};

use crate::support::{
    hosts::Hosts,
    wait::{PATIENCE, until},
};
use landfall::{
    effects::{
        gate::Gate,
        host::{ActCall, Acted, Host, HostError, Listener, MarkSpec, StageSpec, StartSpec, StopSpec, UpdateSpec},
        payload::Payload,
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

/// Where nobody is expected to answer.
async fn connect_briefly(rack: &Hosts, gate: &Gate) -> Result<Host, HostError> {
    connect_to(&SshTarget { connect_timeout: Duration::from_secs(3), ..target(rack) }, rack, gate).await
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

#[tokio::test]
async fn a_release_goes_through_its_whole_life_on_a_host() {
    let mut bench = Bench::new().await;
    let facts = bench.host.facts().await.unwrap();
    assert_eq!(facts.missing_tools, Vec::<String>::new());
    assert!(facts.forwards && !facts.session_scoped && facts.free_bytes > 0, "{facts:?}");
    assert!(facts.server.contains("OpenSSH"), "{}", facts.server);
    assert!(facts.folders.is_empty());

    let v1 = bench.release("v1", &[("app", WEB), ("deep/file", "1")]);
    bench.stage(&v1).await;
    bench.stop(5).await;
    bench.switch(&v1).await;
    assert!(bench.host.port_refuses(8080).await.unwrap());
    bench.start(&v1, &["./app"]).await;
    let host = bench.host.clone();
    until("ready", || async { host.http_ready(8080, "/index.html", None, ANSWER).await.unwrap() == Ok(200) }).await;
    assert_eq!(bench.host.http_ready(8080, "/nothing", None, ANSWER).await.unwrap(), Ok(404));
    assert!(bench.host.tcp_ready(8080, ANSWER).await.unwrap());
    assert!(!bench.host.port_refuses(8080).await.unwrap());
    assert_eq!(bench.host.answering(&bench.call.folder, Some(8080)).await.unwrap().listener, Some(Listener::Ours));
    assert_eq!(bench.host.answering(&bench.call.folder, Some(8081)).await.unwrap().listener, Some(Listener::Nobody));
    assert_eq!(
        bench.host.tail(&bench.call.folder, 10).await.unwrap(),
        ["it's \"quoted\"", "$HOME `id` \\0041 ü"],
        "the environment arrives as it was given"
    );
    bench.mark().await;

    let folder = bench.folder().await;
    let process = folder.process.clone().unwrap();
    assert!(process.alive);
    assert_eq!((process.digest.as_str(), process.revision, process.rollout.as_str()), (v1.digest.as_str(), 1, "1.0"));
    assert_eq!(process.release.as_ref(), Some(&v1.release));
    assert_eq!(folder.owner.as_ref(), Some(&bench.call.owner));
    assert_eq!(folder.fence.as_ref(), Some(&bench.call.fence));
    assert_eq!(folder.journal, bench.call.act.n);
    assert_eq!(folder.open, None);
    assert_eq!(folder.current.as_ref(), Some(&v1.release));
    let ready = folder.ready.unwrap();
    assert_eq!((ready.pid, ready.start, ready.rollout.as_str()), (process.pid, process.start, "1.0"));

    let v2 = bench.release("v2", &[("app", WEB), ("new", "2")]);
    bench.call.act.rollout = "2.0".to_owned();
    bench.stage(&v2).await;
    assert_eq!(bench.folder().await.releases, [v1.release.clone(), v2.release.clone()]);
    bench.stop(5).await;
    assert_eq!(bench.folder().await.process, None);
    assert!(bench.host.port_refuses(8080).await.unwrap());
    bench.switch(&v2).await;
    bench.start(&v2, &["./app"]).await;
    bench.call.act.n = bench.host.prune(&bench.gate, &bench.call, &[], 0).await.unwrap().journal;
    assert_eq!(bench.folder().await.releases, std::slice::from_ref(&v2.release), "what runs is never pruned");
    bench.call.act.n = bench.host.release(&bench.gate, &bench.call).await.unwrap().journal;
    assert_eq!(bench.folder().await.owner, None);

    let spec = StopSpec { signal: "TERM".to_owned(), grace: Duration::from_secs(5) };
    assert_eq!(bench.host.remove(&bench.gate, &bench.call, &spec).await.unwrap(), Acted { journal: 0, folder: None });
    assert!(bench.host.facts().await.unwrap().folders.is_empty());
    assert!(bench.host.port_refuses(8080).await.unwrap());
    assert_eq!(bench.rack.host(0).sh("ls -A /srv/landfall").await.trim(), ".landfall");
}

#[tokio::test]
async fn an_act_on_an_old_view_is_refused_and_a_staged_release_is_kept() {
    let mut bench = Bench::new().await;
    let v1 = bench.release("v1", &[("app", SLEEPER)]);
    bench.stage(&v1).await;
    let old = ActCall { act: ActId { n: 0, ..bench.call.act.clone() }, ..bench.call.clone() };
    let refused = bench.host.switch(&bench.gate, &old, &v1.release).await;
    assert_eq!(refused, Err(HostError::JournalMoved { now: 2 }));
    assert_eq!(refused.unwrap_err().class(), Class::Waiting);
    assert_eq!(bench.folder().await.current, None);

    // Staged again without the bytes: there is nothing to send.
    std::fs::remove_file(v1.tar.name()).unwrap();
    bench.stage(&v1).await;
    assert_eq!(bench.call.act.n, 4);
}

#[tokio::test]
async fn a_release_that_somebody_changed_is_replaced() {
    let mut bench = Bench::new().await;
    let v1 = bench.release("v1", &[("app", SLEEPER)]);
    bench.stage(&v1).await;
    let app = format!("{ROOT}/shop.web/releases/{}/app", v1.release);
    bench.rack.host(0).sh(&format!("echo tampered >{app}")).await;
    bench.stage(&v1).await;
    assert_eq!(bench.rack.host(0).sh(&format!("cat {app}")).await, SLEEPER);
}

#[tokio::test]
async fn bytes_that_are_not_the_release_never_appear_on_the_host() {
    let bench = Bench::new().await;
    let mut v1 = bench.release("v1", &[("app", SLEEPER)]);
    pack(v1.tar.name().as_ref(), &[("app", "#!/bin/sh\nexec sleep 1001\n")]);
    let refused = bench.host.stage(&bench.gate, &bench.call, &v1).await;
    assert!(
        matches!(&refused, Err(HostError::DigestMismatch { expected, .. }) if *expected == v1.digest),
        "{refused:?}"
    );
    assert_eq!(bench.folder().await.releases, []);
    v1 = bench.release("v1", &[("app", SLEEPER)]);
    bench.host.stage(&bench.gate, &bench.call, &v1).await.unwrap();
}

#[tokio::test]
async fn a_lower_token_is_refused_and_another_control_plane_must_adopt() {
    let mut bench = Bench::new().await;
    let v1 = bench.release("v1", &[("app", SLEEPER)]);
    bench.stage(&v1).await;

    let slept = ActCall { fence: token("plane-1", 4), ..bench.call.clone() };
    assert_eq!(bench.host.switch(&bench.gate, &slept, &v1.release).await, Err(HostError::Fenced));

    let foreign = Owner { control_plane_id: "plane-2".to_owned(), ..bench.call.owner.clone() };
    let mut other = ActCall { fence: token("plane-2", 0), owner: foreign, ..bench.call.clone() };
    assert_eq!(
        bench.host.switch(&bench.gate, &other, &v1.release).await,
        Err(HostError::FencedByOtherControlPlane { epoch: "plane-1".to_owned() })
    );
    assert_eq!(bench.folder().await.fence, Some(token("plane-1", 5)));

    other.replaces = Some(bench.call.owner.clone());
    other.act.n = bench.host.adopt(&bench.gate, &other).await.unwrap().journal;
    bench.host.switch(&bench.gate, &other, &v1.release).await.unwrap();
    assert_eq!(
        bench.host.switch(&bench.gate, &bench.call, &v1.release).await,
        Err(HostError::FencedByOtherControlPlane { epoch: "plane-2".to_owned() })
    );
}

#[tokio::test]
async fn a_host_belongs_to_one_deployment_until_that_is_gone() {
    let mut bench = Bench::new().await;
    let v1 = bench.release("v1", &[("app", SLEEPER)]);
    bench.stage(&v1).await;
    for second in [owner("web-second", "web-01"), owner("web-production", "web-01-again")] {
        let call = ActCall { owner: second, ..bench.call.clone() };
        let refused = bench.host.switch(&bench.gate, &call, &v1.release).await;
        assert_eq!(refused, Err(HostError::HostClaimed { by: Box::new(bench.call.owner.clone()) }));
    }
    let heir = owner("web-second", "web-01");
    let call = ActCall { owner: heir.clone(), replaces: Some(bench.call.owner.clone()), ..bench.call.clone() };
    bench.host.switch(&bench.gate, &call, &v1.release).await.unwrap();
    assert_eq!(bench.folder().await.owner, Some(heir));
}

#[tokio::test]
async fn a_connection_lost_during_a_stop_neither_loses_nor_doubles_it() {
    let mut bench = Bench::new().await;
    bench.running("#!/bin/sh\ntrap 'echo TERM seen' TERM\nwhile ! [ -e /srv/enough ]; do sleep 0.1; done\n").await;
    let (host, gate, call) = (bench.host.clone(), bench.gate.clone(), bench.call.clone());
    let stop =
        tokio::spawn(
            async move { host.stop(&gate, &call, &StopSpec { signal: "TERM".to_owned(), grace: PATIENCE }).await },
        );
    let log = format!("cat {ROOT}/{}/shared/log/output.log", bench.call.folder);
    until("signalled", || async { bench.rack.host(0).sh(&log).await.contains("TERM seen") }).await;
    bench.rack.host(0).hangup().await;
    let lost = stop.await.unwrap();
    assert!(matches!(&lost, Err(HostError::Ssh(error)) if error.is_unreachable()), "{lost:?}");

    bench.again().await;
    let open = bench.folder().await.open.expect("the stop goes on");
    assert!(open.running && open.step == "stop", "{open:?}");
    let busy = bench
        .host
        .prune(
            &bench.gate,
            &ActCall { act: ActId { n: open.n + 1, ..bench.call.act.clone() }, ..bench.call.clone() },
            &[],
            1,
        )
        .await;
    assert!(matches!(&busy, Err(HostError::Busy { step, .. }) if step == "stop"), "{busy:?}");
    bench.rack.host(0).sh("touch /srv/enough").await;
    let attached = bench.host.attach(&bench.call.folder, &open, PATIENCE).await.unwrap();
    assert_eq!(attached.journal, open.n + 2);
    let folder = bench.folder().await;
    assert_eq!((folder.process, folder.open, folder.journal), (None, None, open.n + 2));
    let said = bench.host.tail(&bench.call.folder, 10).await.unwrap();
    assert_eq!(said.iter().filter(|line| *line == "TERM seen").count(), 1, "signalled once: {said:?}");
}

#[tokio::test]
async fn a_turn_is_one_act_and_goes_on_when_the_connection_is_lost() {
    let mut bench = Bench::new().await;
    // It ends when it may.
    let slow = "#!/bin/sh\ntrap 'echo TERM seen' TERM\nwhile ! [ -e /srv/enough ]; do sleep 0.1; done\n";
    let v1 = bench.release("v1", &[("app", slow)]);
    let v2 = bench.release("v2", &[("app", WEB)]);
    bench.stage(&v1).await;
    assert!(!bench.turn(&v1, Some(8080)).await);
    bench.mark().await;
    bench.stage(&v2).await;
    bench.call.act.rollout = "2.0".to_owned();
    let (host, gate, call) = (bench.host.clone(), bench.gate.clone(), bench.call.clone());
    let spec = turning(&bench.call, &v2, Some(8080));
    let turn = tokio::spawn(async move { host.update(&gate, &call, &spec).await });
    let seen = "grep -c 'TERM seen' /srv/landfall/*/shared/log/output.log || true";
    until("the signal is there", || async { bench.rack.host(0).sh(seen).await.trim() == "1" }).await;
    // For a moment the call itself waits for the process; then a step does, which outlives the call.
    let step = "ls -d /srv/landfall/*/.landfall/steps/*/turn/pid 2>/dev/null || true";
    until("the step is there", || async { !bench.rack.host(0).sh(step).await.is_empty() }).await;
    bench.rack.host(0).hangup().await;
    let lost = turn.await.unwrap();
    assert!(matches!(&lost, Err(HostError::Ssh(error)) if error.is_unreachable()), "{lost:?}");

    bench.again().await;
    let open = bench.folder().await.open.expect("the turn goes on");
    assert_eq!(open.step, "turn");
    bench.rack.host(0).sh("touch /srv/enough").await;
    bench.host.attach(&bench.call.folder, &open, PATIENCE).await.unwrap();
    let folder = bench.folder().await;
    assert_eq!((folder.journal, folder.open), (bench.call.act.n + 2, None));
    let process = folder.process.unwrap();
    assert!(process.alive && process.rollout == "2.0", "{process:?}");
    assert_eq!(folder.current.as_ref(), Some(&v2.release));
    assert_eq!(bench.rack.host(0).sh(seen).await.trim(), "1", "signalled once");
}

#[tokio::test]
async fn a_turn_starts_nothing_where_somebody_else_has_the_port() {
    let mut bench = Bench::new().await;
    let v1 = bench.release("v1", &[("app", WEB)]);
    bench.stage(&v1).await;
    assert!(!bench.turn(&v1, Some(8080)).await);
    bench.call.act.rollout = "1.1".to_owned();
    assert!(!bench.turn(&v1, Some(8080)).await, "our own socket is gone with its process");
    bench.call.act.rollout = "1.2".to_owned();
    bench.rack.host(0).sh("mkdir -p /srv/other && setsid busybox httpd -p 8081 -h /srv/other").await;
    assert!(bench.turn(&v1, Some(8081)).await);
    let folder = bench.folder().await;
    assert_eq!((folder.process, folder.current.as_ref()), (None, Some(&v1.release)));
    assert!(bench.host.port_refuses(8080).await.unwrap());
}

#[tokio::test]
async fn a_turn_to_a_release_that_is_not_there_is_an_old_view_and_stops_nothing() {
    let mut bench = Bench::new().await;
    let v1 = bench.running(SLEEPER).await;
    let v2 = bench.release("v2", &[("app", SLEEPER)]);
    let refused = bench.host.update(&bench.gate, &bench.call, &turning(&bench.call, &v2, None)).await;
    assert_eq!(refused, Err(HostError::JournalMoved { now: bench.call.act.n }));
    let folder = bench.folder().await;
    assert!(folder.process.unwrap().alive);
    assert_eq!((folder.current, folder.journal), (Some(v1.release), bench.call.act.n));
}

#[tokio::test]
async fn a_mark_looks_whose_socket_answers_and_prunes() {
    let mut bench = Bench::new().await;
    let v1 = bench.running(WEB).await;
    let v2 = bench.release("v2", &[("app", WEB)]);
    bench.stage(&v2).await;
    bench.rack.host(0).sh("mkdir -p /srv/other && setsid busybox httpd -p 8081 -h /srv/other").await;
    let refused = bench.host.mark(&bench.gate, &bench.call, &marking("1.0", Some(8081))).await;
    assert_eq!(refused, Err(HostError::PortInUse { port: 8081 }));
    let folder = bench.folder().await;
    assert_eq!((folder.ready, folder.releases.len()), (None, 2));
    bench.call.act.n = folder.journal;
    let spec = MarkSpec { keep: vec![v1.release.clone()], at_most: 1, ..marking("1.0", Some(8080)) };
    let marked = bench.host.mark(&bench.gate, &bench.call, &spec).await.unwrap();
    let folder = bench.folder().await;
    assert!(folder.ready.is_some());
    assert_eq!(folder.releases, [v1.release]);
    assert_eq!(marked.folder.unwrap(), folder);
}

#[tokio::test]
async fn a_stranger_under_the_recorded_pid_is_never_signalled() {
    let mut bench = Bench::new().await;
    bench.running(SLEEPER).await;
    let pid = bench.folder().await.process.unwrap().pid;
    let host = bench.rack.host(0).clone();
    host.sh(&format!("kill -9 {pid}")).await;
    until("gone", || async { !host.try_exec(&["test", "-d", &format!("/proc/{pid}")]).await.status.success() }).await;
    host.spawn_as_pid(u32::try_from(pid).unwrap(), &["sleep", "500"]).await;
    let process = bench.folder().await.process.unwrap();
    assert!(!process.alive && process.pid == pid);
    bench.stop(1).await;
    assert!(host.sh(&format!("cat /proc/{pid}/cmdline")).await.contains("sleep"), "the stranger lives");
}

#[tokio::test]
async fn a_process_that_ignores_the_signal_is_killed_with_its_children() {
    let mut bench = Bench::new().await;
    bench.running("#!/bin/sh\ntrap '' TERM\nsleep 777 &\nwhile :; do sleep 0.1; done\n").await;
    let count = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'sleep [7]77' || :";
    until("up with its child", || async { bench.rack.host(0).sh(count).await.trim() != "0" }).await;
    bench.stop(1).await;
    assert_eq!(bench.rack.host(0).sh(count).await.trim(), "0");
}

#[tokio::test]
async fn after_a_reboot_nothing_is_said_to_run() {
    let mut bench = Bench::new().await;
    let v1 = bench.running(SLEEPER).await;
    bench.rack.host(0).reboot().await;
    bench.again().await;
    assert!(!bench.folder().await.process.unwrap().alive);
    bench.start(&v1, &["./app"]).await;
    assert!(bench.folder().await.process.unwrap().alive);
}

#[tokio::test]
async fn a_changed_host_key_stops_before_authentication_and_shows_both() {
    let rack = Hosts::up(1).await;
    let gate = Gate::open_for(token("plane-1", 5));
    rack.host(0).rekey().await;
    let refused = connect(&rack, &gate).await.err().unwrap();
    let HostError::Ssh(SshError::HostKeyMismatch { expected, got, .. }) = &refused else { panic!("{refused:?}") };
    assert!(expected.contains("SHA256:") && got.contains("SHA256:") && expected != got, "{expected} {got}");
    assert_eq!(refused.class(), Class::Terminal);
}

#[tokio::test]
async fn who_is_not_known_is_not_talked_to_and_who_does_not_know_us_says_so() {
    let rack = Hosts::up(1).await;
    let gate = Gate::open_for(token("plane-1", 5));
    let unknown = Credentials::new(&rack.identity(), "# nothing\n").unwrap();
    let refused = Host::connect(&gate, "web-01", &target(&rack), &unknown, ROOT).await.err().unwrap();
    assert!(matches!(refused, HostError::Ssh(SshError::HostKeyUnknown { .. })), "{refused:?}");

    let stranger = Credentials::new(&rack.stranger_identity(), &rack.known_hosts()).unwrap();
    let refused = Host::connect(&gate, "web-01", &target(&rack), &stranger, ROOT).await.err().unwrap();
    assert!(matches!(refused, HostError::Ssh(SshError::AuthenticationFailed { .. })), "{refused:?}");

    for kind in ["ed25519", "ecdsa"] {
        let lines: String =
            rack.known_hosts().lines().filter(|line| line.contains(kind)).map(|line| format!("{line}\n")).collect();
        let credentials = Credentials::new(&rack.identity(), &lines).unwrap();
        Host::connect(&gate, "web-01", &target(&rack), &credentials, ROOT).await.unwrap();
    }
    assert!(matches!(Credentials::new("nonsense", ""), Err(SshError::BadIdentity { .. })));
}

#[tokio::test]
async fn a_hashed_line_of_known_hosts_counts_and_rsa_keys_are_explained() {
    let rack = Hosts::up(1).await;
    let dir = tempfile::tempdir().unwrap();
    let (known, key) = (dir.path().join("known_hosts"), dir.path().join("id"));
    std::fs::write(&known, rack.known_hosts()).unwrap();
    let keygen = |arguments: &[&str]| {
        let done = std::process::Command::new("ssh-keygen").args(arguments).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    keygen(&["-H", "-f", known.to_str().unwrap()]);
    let hashed = std::fs::read_to_string(&known).unwrap();
    assert!(hashed.starts_with("|1|"), "{hashed}");
    let gate = Gate::open_for(token("plane-1", 5));
    let credentials = Credentials::new(&rack.identity(), &hashed).unwrap();
    Host::connect(&gate, "web-01", &target(&rack), &credentials, ROOT).await.unwrap();

    keygen(&["-q", "-t", "rsa", "-N", "", "-f", key.to_str().unwrap()]);
    let rsa = Credentials::new(&std::fs::read_to_string(&key).unwrap(), &hashed);
    assert!(matches!(&rsa, Err(SshError::UnsupportedKeyType { .. })), "{rsa:?}");
}

#[tokio::test]
async fn silent_refusing_and_absent_hosts_are_told_apart_in_time() {
    let rack = Hosts::up(1).await;
    let gate = Gate::open_for(token("plane-1", 5));
    let began = landfall::effects::clock::monotonic();
    rack.host(0).mute().await;
    let silent = connect_briefly(&rack, &gate).await.err().unwrap();
    assert!(matches!(silent, HostError::Ssh(SshError::Silent { .. })), "{silent:?}");
    rack.host(0).mend().await;
    rack.host(0).refuse().await;
    let mut refusing = connect(&rack, &gate).await.err().unwrap();
    if matches!(refusing, HostError::Ssh(SshError::Lost { .. })) {
        // It came into the queue of the sshd that was just ending.
        refusing = connect(&rack, &gate).await.err().unwrap();
    }
    assert!(
        matches!(&refusing, HostError::Ssh(SshError::Unreachable { why, .. }) if why.contains("refused")),
        "{refusing:?}"
    );
    rack.host(0).mend().await;
    rack.host(0).cut().await;
    let absent = connect_briefly(&rack, &gate).await.err().unwrap();
    assert!(
        matches!(&absent, HostError::Ssh(SshError::Unreachable { why, .. }) if why.contains("no answer")),
        "{absent:?}"
    );
    rack.host(0).mend().await;
    assert!(began.elapsed() < Duration::from_secs(60));
    connect(&rack, &gate).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_named_and_nothing_half_done_is_left() {
    let mut bench = Bench::new().await;
    let v1 = bench.release("v1", &[("app", SLEEPER), ("big", &"x".repeat(400_000))]);
    bench.host.facts().await.unwrap();
    bench.rack.host(0).fill_but(500).await;
    let full = bench.host.stage(&bench.gate, &bench.call, &v1).await;
    assert!(matches!(full, Err(HostError::DiskFull { .. })), "{full:?}");
    bench.rack.host(0).fill().await;
    let full = bench.host.stage(&bench.gate, &bench.call, &v1).await;
    assert!(matches!(full, Err(HostError::DiskFull { .. })), "{full:?}");
    bench.host.facts().await.unwrap();
    bench.rack.host(0).drain().await;
    bench.call.act.n = bench.folder().await.journal;
    bench.stage(&v1).await;
    assert_eq!(bench.folder().await.releases, [v1.release]);
}

#[tokio::test]
async fn nothing_is_put_into_a_folder_that_somebody_else_can_exchange() {
    let bench = Bench::new().await;
    let refused = |root: &'static str| {
        let (rack, gate) = (&bench.rack, &bench.gate);
        let credentials = Credentials::new(&rack.identity(), &rack.known_hosts()).unwrap();
        async move { Host::connect(gate, "web-01", &target(rack), &credentials, root).await.err().map(|e| e.to_string()) }
    };
    let host = bench.rack.host(0);
    host.sh("mkdir -m 777 /srv/open; mkdir -p /srv/theirs/deep; chown 2000 /srv/theirs; mkdir -m 1777 /srv/sticky")
        .await;
    let open = refused("/srv/open/landfall").await.unwrap();
    assert!(open.contains("everybody may write to /srv/open"), "{open}");
    let theirs = refused("/srv/theirs/deep").await.unwrap();
    assert!(theirs.contains("/srv/theirs belongs to the user 2000"), "{theirs}");
    assert_eq!(host.sh("find /srv/open /srv/theirs -name .landfall").await, "", "nothing was made there");
    assert_eq!(refused("/srv/sticky/landfall").await, None, "as /tmp is: who made it keeps it");
    host.sh("chown 2000 /srv/sticky/landfall/.landfall").await;
    assert!(refused("/srv/sticky/landfall").await.unwrap().contains("belongs to the user 2000"));
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_in_the_output_and_its_process_is_dead() {
    let mut bench = Bench::new().await;
    let v1 = bench.release("v1", &[("app", SLEEPER)]);
    bench.stage(&v1).await;
    bench.switch(&v1).await;
    bench.start(&v1, &["no-such-program", "--port", "8080"]).await;
    let host = bench.host.clone();
    until("dead", || async {
        !host.facts().await.unwrap().folders[&bench.call.folder].process.as_ref().unwrap().alive
    })
    .await;
    let said = bench.host.tail(&bench.call.folder, 5).await.unwrap();
    assert!(said.last().unwrap().contains("no-such-program"), "{said:?}");
    let rollout = bench.call.act.rollout.clone();
    let marked = bench.host.mark(&bench.gate, &bench.call, &marking(&rollout, None)).await;
    assert!(matches!(marked, Err(HostError::StepFailed { .. })), "{marked:?}");
}

#[tokio::test]
async fn a_strangers_socket_is_not_taken_for_ours() {
    let mut bench = Bench::new().await;
    bench.running(SLEEPER).await;
    bench.rack.host(0).sh("mkdir -p /srv/other && setsid busybox httpd -p 8080 -h /srv/other").await;
    let host = bench.host.clone();
    until("the stranger listens", || async { !host.port_refuses(8080).await.unwrap() }).await;
    assert_eq!(bench.host.answering(&bench.call.folder, Some(8080)).await.unwrap().listener, Some(Listener::Foreign));
}

#[tokio::test]
async fn every_shell_an_ordinary_user_and_a_talkative_login_shell_do() {
    let rack = Hosts::up_with(
        4,
        &["--user", "deploy", "--shell-of", "web-02=busybox", "--shell-of", "web-03=bash", "--shell-of", "web-04=mksh"],
    )
    .await;
    let credentials = Credentials::new(&rack.identity(), &rack.known_hosts()).unwrap();
    let gate = Gate::open_for(token("plane-1", 5));
    for at in rack.all() {
        at.sh("mkdir -p /srv/landfall && chown deploy /srv/landfall").await;
        // The user's shell is bash, and Debian's reads that wherever sshd starts it, also for a command.
        at.sh("echo 'echo Welcome, have a nice day' >/home/deploy/.bashrc; grep -q ^deploy:.*bash$ /etc/passwd").await;
        let banner = at.sh("SSH_CLIENT='1 2 3' SHLVL=0 HOME=/home/deploy bash -c :").await;
        assert_eq!(banner, "Welcome, have a nice day\n", "{}", at.name);
        let target = SshTarget { address: at.address.clone(), ..target(&rack) };
        let host = Host::connect(&gate, &at.name, &target, &credentials, ROOT).await.unwrap();
        assert_eq!(host.facts().await.unwrap().missing_tools, Vec::<String>::new(), "{}", at.name);
        let local = tempfile::tempdir().unwrap();
        let tar = local.path().join("v1.tar");
        let digest = pack(&tar, &[("app", WEB)]);
        let size = std::fs::metadata(&tar).unwrap().len();
        let spec = StageSpec {
            release: ReleaseName::new("v1", &digest),
            digest,
            size,
            tar: Payload::file(tar),
            absent_with_free: None,
        };
        let mut call = ActCall {
            folder: FolderName::new("shop", "web"),
            owner: owner("web-production", &at.name),
            replaces: None,
            fence: token("plane-1", 5),
            act: ActId { uid: "uid-of-web-production".to_owned(), rollout: "1.0".to_owned(), attempt: 1, n: 0 },
        };
        call.act.n = host.stage(&gate, &call, &spec).await.unwrap().journal;
        call.act.n = host.switch(&gate, &call, &spec.release).await.unwrap().journal;
        call.act.n = host.start(&gate, &call, &start(&call, &spec, &["./app"])).await.unwrap().journal;
        until("ready", || async { host.http_ready(8080, "/", None, ANSWER).await.unwrap() == Ok(200) }).await;
        assert_eq!(
            host.answering(&call.folder, Some(8080)).await.unwrap().listener,
            Some(Listener::Ours),
            "{}",
            at.name
        );
        let stop = StopSpec { signal: "TERM".to_owned(), grace: Duration::from_secs(3) };
        assert_eq!(host.remove(&gate, &call, &stop).await.unwrap().journal, 0, "{}", at.name);
    }
}

#[tokio::test]
async fn a_host_that_forwards_nothing_says_so_before_a_rollout() {
    let rack = Hosts::up_with(1, &["--sshd", "AllowTcpForwarding no"]).await;
    let gate = Gate::open_for(token("plane-1", 5));
    let host = connect(&rack, &gate).await.unwrap();
    assert!(!host.facts().await.unwrap().forwards);
    let refused = host.port_refuses(8080).await;
    assert!(matches!(refused, Err(HostError::Ssh(SshError::NoForwarding { .. }))), "{refused:?}");
}
