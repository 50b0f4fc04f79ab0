//! Applications that run as another user: by sudo and by su, in every shell, on real hosts; and what is said where that is not allowed.

use std::{path::Path, time::Duration};

use crate::support::{
    hosts::{Host as TestHost, Hosts},
    rollout::{self, Bench, is},
    wait::{find, until},
};
use landfall::{
    api::{
        Deployment, HostGroup,
        hostgroup::{Become, BecomeMethod},
    },
    effects::{
        gate::Gate,
        payload::Payload,
        shell::{ActCall, Host, HostError, Listener, RunAs, StageSpec, StartSpec, StopSpec},
        ssh::{Credentials, SshTarget},
    },
    model::ids::{ActId, FenceToken, FolderName, Owner, ReleaseName},
};
use serde_json::json;
use sha2::{Digest, Sha256};

const ROOT: &str = "/srv/landfall";
/// Says who it is, writes what is its own to write, and serves it.
const APP: &str = "#!/bin/sh\nprintf 'I am %s, %s [%s]\\n' \"$(id -un)\" \"$GREETING\" \"$*\"\nmkdir -p ../../shared/data/www && echo hello >../../shared/data/www/index.html\n\
                   exec busybox httpd -f -p 8080 -h ../../shared/data/www\n";
const GREETING: &str = "it's \"quoted\"\n$HOME `id` \\0041 ü";

fn gate() -> Gate {
    Gate::open_for(FenceToken { epoch: "plane-1".to_owned(), created: 1_700_000_000, transitions: 5 })
}

fn app(method: BecomeMethod) -> RunAs {
    RunAs { method, user: "app".to_owned() }
}

/// A host with a connection and a staged release.
struct Stage {
    host: Host,
    gate: Gate,
    call: ActCall,
    spec: StageSpec,
    _local: tempfile::TempDir,
}

impl Stage {
    async fn on(hosts: &Hosts, at: &TestHost) -> Self {
        let credentials = Credentials::new(&hosts.identity(), &hosts.known_hosts()).unwrap();
        let target = SshTarget {
            address: at.address.clone(),
            port: at.port,
            user: hosts.user().to_owned(),
            connect_timeout: Duration::from_secs(60),
        };
        let (gate, local) = (gate(), tempfile::tempdir().unwrap());
        let host = Host::connect(&gate, &at.name, &target, &credentials, ROOT).await.unwrap();
        let tar = local.path().join("v1.tar");
        let digest = pack(&tar, APP);
        let size = std::fs::metadata(&tar).unwrap().len();
        let spec = StageSpec {
            release: ReleaseName::new("v1", &digest),
            digest,
            size,
            tar: Payload::file(tar),
            absent_with_free: None,
        };
        let uid = "uid-of-web".to_owned();
        let owner = Owner {
            control_plane_id: "plane-1".to_owned(),
            namespace: "shop".to_owned(),
            deployment: "web".to_owned(),
            uid: uid.clone(),
            host: at.name.clone(),
        };
        let fence = FenceToken { epoch: "plane-1".to_owned(), created: 1_700_000_000, transitions: 5 };
        let act = ActId { uid, rollout: "1.0".to_owned(), attempt: 1, n: 0 };
        let mut call = ActCall { folder: FolderName::new("shop", "web"), owner, replaces: None, fence, act };
        call.act.n = host.stage(&gate, &call, &spec).await.unwrap().journal;
        call.act.n = host.switch(&gate, &call, &spec.release).await.unwrap().journal;
        Self { host, gate, call, spec, _local: local }
    }

    fn start_spec(&self) -> StartSpec {
        StartSpec {
            release: self.spec.release.clone(),
            digest: self.spec.digest.clone(),
            revision: 1,
            rollout: "1.0".to_owned(),
            heal: false,
            command: ["./app", "a b", "$(id)"].map(str::to_owned).to_vec(),
            env: vec![("GREETING".to_owned(), GREETING.to_owned())],
        }
    }

    async fn start(&mut self, run_as: &RunAs) -> Result<(), HostError> {
        let started = self.host.start_as(&self.gate, &self.call, &self.start_spec(), Some(run_as)).await;
        self.call.act.n = self.journal().await;
        started.map(|_| ())
    }

    async fn journal(&self) -> u64 {
        self.host.facts().await.unwrap().folders[&self.call.folder].journal
    }

    fn stop_spec(signal: &str) -> StopSpec {
        StopSpec { signal: signal.to_owned(), grace: Duration::from_secs(3) }
    }

    async fn until_ready(&self) {
        let look = || async {
            match self.host.http_ready(8080, "/", Duration::from_secs(10)).await.unwrap() {
                Ok(200) => Ok(()),
                _ => Err(self.host.tail(&self.call.folder, 20).await),
            }
        };
        find("ready", look, |said| format!("{said:?}")).await;
    }
}

fn pack(tar: &Path, script: &str) -> String {
    let mut builder = tar::Builder::new(std::fs::File::create(tar).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(script.len() as u64);
    header.set_mode(0o755);
    builder.append_data(&mut header, "app", script.as_bytes()).unwrap();
    builder.into_inner().unwrap();
    Sha256::digest(std::fs::read(tar).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn life(hosts: &Hosts, at: &TestHost, method: BecomeMethod) {
    let name = format!("{} by {method:?}", at.name);
    let mut stage = Stage::on(hosts, at).await;
    stage.start(&app(method)).await.unwrap();
    stage.until_ready().await;
    let seen = stage.host.facts().await.unwrap();
    let process = seen.folders[&stage.call.folder].process.clone().unwrap();
    assert!(process.alive, "{name}");
    let pid = process.pid;
    let who = at.sh(&format!("ps -o user= -o sess= -o ppid= -p {pid}")).await;
    assert_eq!(who.split_whitespace().collect::<Vec<_>>(), ["app", &pid.to_string(), "1"], "{name}");
    assert!(at.sh("pgrep -x sudo || pgrep -x su || :").await.is_empty(), "{name}: nobody waits beside it");
    let open = at.sh(&format!("ls -l /proc/{pid}/fd")).await;
    assert!(!open.contains("/.landfall/"), "{name}: nothing of ours is left open to it: {open}");
    let said = stage.host.tail(&stage.call.folder, 10).await.unwrap().join("\n");
    assert!(said.contains(&format!("I am app, {GREETING} [a b $(id)]")), "{name}: {said}");
    assert_eq!(
        stage.host.answering(&stage.call.folder, Some(8080)).await.unwrap().listener,
        Some(Listener::Ours),
        "{name}"
    );
    // What is ours is not his: he can't read it, nor write what we wrote.
    let try_it = "su -s /bin/sh app -c 'cat /srv/landfall/shop.web/.landfall/owner || rm /srv/landfall/shop.web/current' 2>&1 || :";
    assert!(at.sh(try_it).await.matches("ermission denied").count() == 2, "{name}");

    // Our process of another user is ours to stop, by the signal that was asked for.
    stage.call.act.n = stage.host.stop(&stage.gate, &stage.call, &Stage::stop_spec("INT")).await.unwrap().journal;
    assert!(at.sh(&format!("ps -o pid= -p {pid} || :")).await.trim().is_empty(), "{name}");
    stage.start(&app(method)).await.unwrap();
    stage.until_ready().await;
    assert_eq!(
        stage.host.remove(&stage.gate, &stage.call, &Stage::stop_spec("TERM")).await.unwrap().journal,
        0,
        "{name}"
    );
    assert_eq!(
        at.sh("ls /srv/landfall /srv/landfall/.landfall/trash 2>/dev/null").await.matches("shop").count(),
        0,
        "{name}"
    );
}

#[tokio::test]
async fn an_application_runs_as_another_user_by_sudo_in_every_shell_of_the_host() {
    let options =
        ["--user", "deploy", "--shell-of", "web-02=busybox", "--shell-of", "web-03=bash", "--shell-of", "web-04=mksh"];
    let hosts = Hosts::up_with(4, &options).await;
    for at in hosts.all() {
        life(&hosts, at, BecomeMethod::Sudo).await;
    }
}

#[tokio::test]
async fn an_application_runs_as_another_user_by_su_where_we_are_root() {
    let hosts = Hosts::up_with(2, &["--shell-of", "web-02=busybox"]).await;
    for at in hosts.all() {
        life(&hosts, at, BecomeMethod::Su).await;
    }
}

#[tokio::test]
async fn whom_sudo_does_not_let_us_be_is_said_exactly_and_nobody_else_is_become_instead() {
    let hosts = Hosts::up_with(1, &["--user", "deploy"]).await;
    let at = hosts.host(0);
    let mut stage = Stage::on(&hosts, at).await;
    let run_users = |users: &[&str]| Become {
        method: BecomeMethod::Sudo,
        users: users.iter().map(|&user| user.to_owned()).collect(),
    };
    let facts = stage.host.facts_for(&run_users(&["app", "web", "nobody-such"])).await.unwrap();
    assert_eq!(facts.cannot_become.keys().collect::<Vec<_>>(), ["nobody-such", "web"], "{facts:?}");
    assert!(facts.cannot_become["web"].contains("password is required") && !facts.sudo_too_wide, "{facts:?}");
    assert!(facts.cannot_become["nobody-such"].contains("unknown user"), "{facts:?}");
    assert!(stage.host.facts_for(&run_users(&["app"])).await.unwrap().cannot_become.is_empty());

    let web = RunAs { method: BecomeMethod::Sudo, user: "web".to_owned() };
    let refused = stage.start(&web).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("could not become web: sudo: a password is required"), "{text}");
    assert!(at.sh("pgrep busybox || :").await.is_empty(), "nothing was started, as nobody");

    // A sudo that relays what is said would end the application with itself: known before a rollout.
    for option in ["log_input", "log_output"] {
        at.sh(&format!("cp /run/host/sudoers /run/host/sudoers.good; echo 'Defaults {option}' >>/run/host/sudoers"))
            .await;
        let facts = stage.host.facts_for(&run_users(&["app", "web"])).await.unwrap();
        let said = &facts.cannot_become["app"];
        assert!(said.contains("NOLOG_OUTPUT:"), "{option}: {said}");
        at.sh("cat /run/host/sudoers.good >/run/host/sudoers").await;
    }

    // The rule goes while the application runs: it is not stopped by other means, and that is said.
    stage.start(&app(BecomeMethod::Sudo)).await.unwrap();
    stage.until_ready().await;
    at.sh("cp /run/host/sudoers /run/host/sudoers.old; echo 'root ALL=(ALL) ALL' >/run/host/sudoers").await;
    let mut kept = stage.host.stop(&stage.gate, &stage.call, &Stage::stop_spec("TERM")).await.unwrap_err();
    // It tries KILL for longer than a call waits.
    while matches!(kept, HostError::Busy { .. }) {
        let folder = stage.host.facts().await.unwrap().folders.remove(&stage.call.folder).unwrap();
        kept = stage.host.attach(&stage.call.folder, &folder.open.unwrap(), Duration::from_secs(10)).await.unwrap_err();
    }
    assert!(kept.to_string().contains("survives"), "{kept}");
    // It may have a child that still answers.
    until("alive and alone", || async { at.sh("pgrep busybox").await.lines().count() == 1 }).await;
    stage.call.act.n = stage.journal().await;
    at.sh("echo 'deploy ALL=(ALL) NOPASSWD: ALL' >/run/host/sudoers").await;
    stage.host.stop(&stage.gate, &stage.call, &Stage::stop_spec("TERM")).await.unwrap();
    let facts = stage.host.facts_for(&run_users(&["app", "web"])).await.unwrap();
    assert!(facts.cannot_become.is_empty() && facts.sudo_too_wide, "{facts:?}");
}

#[tokio::test]
async fn a_helper_that_dies_before_its_go_leaves_no_application() {
    let hosts = Hosts::up_with(1, &["--user", "deploy"]).await;
    let at = hosts.host(0);
    let mut stage = Stage::on(&hosts, at).await;
    // From now on the identity can't be written at once: `sync` of that file hangs.
    let sync = "#!/bin/sh\ncase $1 in *process.new) echo >/run/hangs; exec sleep 1000 ;; esac\nexec /bin/sync \"$@\"\n";
    at.sh(&format!("touch /run/hangs && chmod 666 /run/hangs && mount -t tmpfs none /usr/local/sbin && printf '%s' '{sync}' >/usr/local/sbin/sync && chmod 755 /usr/local/sbin/sync")).await;
    let (host, gate, call, spec) = (stage.host.clone(), stage.gate.clone(), stage.call.clone(), stage.start_spec());
    let starting =
        tokio::spawn(async move { host.start_as(&gate, &call, &spec, Some(&app(BecomeMethod::Sudo))).await });
    until("hanging", || async { at.sh("cat /run/hangs").await.contains('\n') }).await;
    until("waiting for its go", || async { at.sh("pgrep -u app sh || :").await.lines().count() == 1 }).await;
    at.sh("pkill -9 -x -u deploy sh; pkill -9 -x sleep; umount /usr/local/sbin").await;
    assert!(starting.await.unwrap().is_err());
    until("ended: nobody says go", || async { at.sh("pgrep -u app || :").await.is_empty() }).await;
    assert!(!at.sh("cat /srv/landfall/shop.web/shared/log/output.log").await.contains("I am"));
    stage.call.act.n = stage.journal().await;
    stage.start(&app(BecomeMethod::Sudo)).await.unwrap();
    stage.until_ready().await;
}

#[tokio::test]
async fn a_version_runs_as_the_user_that_its_project_names_and_its_group_allows() {
    let bench = Bench::with_hosts(2, &["--user", "deploy"]).await;
    bench.publish_with(
        "v1",
        rollout::SERVES,
        json!({ "httpGet": { "port": 8080, "path": "/version" } }),
        json!({ "user": "app" }),
    );
    let deployment = bench.deploy("v1", json!({})).await;
    let name = deployment.metadata.name.unwrap();
    let refused = bench.until("refused", |object: &Deployment| is(object, "Stalled", "UserNotAllowed")).await;
    let text = rollout::message(&refused);
    assert!(text.contains("has no user"), "{name}: {text}");
    let allow = |users: &[&str]| json!({ "spec": { "become": { "method": "Sudo", "users": users } } });
    // A host that is no use for its group is told as such; the Deployment waits for its own reason.
    bench.patch::<HostGroup>("prod", allow(&["web"])).await;
    let group = bench
        .until_group("prod", "refused by both", |group| {
            let exceptions = group.status.iter().flat_map(|status| &status.exceptions);
            exceptions.filter(|one| one.reason == "BecomeRefused").count() == 2
        })
        .await;
    let message = &group.status.unwrap().exceptions[0].message;
    assert!(message.contains("web") && message.contains("NOPASSWD"), "{message}");
    bench.patch::<HostGroup>("prod", allow(&["app"])).await;
    bench.until_deployed("v1").await;
    for i in [0, 1] {
        assert_eq!(bench.version_on(i).await, "v1");
        let who = bench.hosts.host(i).sh("ps -o user= -C busybox").await;
        assert!(who.contains("app") && !who.contains("deploy"), "{who}");
    }
    let su = json!({ "spec": { "become": { "method": "Su", "users": ["app"] } } });
    let api = bench.space.api::<HostGroup>();
    let refused = api.patch("prod", &Default::default(), &kube::api::Patch::Merge(&su)).await.unwrap_err().to_string();
    assert!(refused.contains("needs ssh.user root"), "{refused}");
}
