//! Real SSH hosts for a test: each an `sshd` with a network, files, processes, hostname and boot id of its own.
//!
//! The work is done by `hosts.sh`, which lives as long as the pipe that a [`Hosts`] holds: dropped, or with the test
//! program killed by SIGKILL, everything goes without a trace. Many test programs may do this at the same time.
//! This module must not know anything of landfall but the shape of a HostGroup and its Secrets.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

static STARTED: AtomicUsize = AtomicUsize::new(0);

/// The script behind all of this; for tests that start it themselves.
pub fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/hosts.sh")
}

/// A state folder that nobody uses yet.
pub fn fresh_state() -> PathBuf {
    let nth = STARTED.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("landfall-hosts-{}-{nth}", std::process::id()))
}

/// Running hosts; dropping it ends them.
pub struct Hosts {
    starter: Child,
    state: PathBuf,
    user: String,
    hosts: Vec<Host>,
}

/// One host. Cheap to clone; useless once its [`Hosts`] is dropped.
#[derive(Clone, Debug)]
pub struct Host {
    /// `web-01`, and so on.
    pub name: String,
    /// An address of 198.18.0.0/15, reachable from this machine only.
    pub address: String,
    /// Where its sshd listens: 22, unless asked otherwise.
    pub port: u16,
    state: PathBuf,
}

impl Hosts {
    /// Starts `n` hosts with dash as their shell, logged in to as root.
    pub async fn up(n: usize) -> Self {
        Self::up_with(n, &[]).await
    }

    /// Starts `n` hosts with options of `hosts.sh`, such as `["--shell-of", "web-02=busybox", "--user", "deploy"]`.
    ///
    /// # Panics
    /// When the machine lacks something; the message says what to install.
    pub async fn up_with(n: usize, options: &[&str]) -> Self {
        let options: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
        tokio::task::spawn_blocking(move || Self::start(n, &options)).await.unwrap()
    }

    fn start(n: usize, options: &[String]) -> Self {
        let state = fresh_state();
        // A session of its own: what kills the test's process group must not kill those who clean up after it.
        let mut starter = Command::new("setsid")
            .arg(script())
            .args(["serve", &n.to_string(), "--state"])
            .arg(&state)
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("setsid of util-linux is needed: run scripts/install-test-tools.sh as root");
        let mut line = String::new();
        BufReader::new(starter.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            let mut why = String::new();
            starter.stderr.take().unwrap().read_to_string(&mut why).unwrap();
            panic!("{n} test hosts did not come up: {}", why.trim());
        }
        let user = read(&state.join("user")).trim().to_owned();
        let hosts = read(&state.join("list")).lines().map(|line| Host::parse(line, &state)).collect();
        Self { starter, state, user, hosts }
    }

    /// The `i`-th host, counted from 0.
    pub fn host(&self, i: usize) -> &Host {
        &self.hosts[i]
    }

    /// All hosts, in the order of their names.
    pub fn all(&self) -> &[Host] {
        &self.hosts
    }

    /// The folder of keys and lists; its existence is the hosts'.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The user of the HostGroup: `root`, or `deploy` with `--user deploy`. Both may log in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// A private key (OpenSSH format) that every host accepts.
    pub fn identity_path(&self) -> PathBuf {
        self.state.join("identity")
    }

    /// The text of [`Self::identity_path`].
    pub fn identity(&self) -> String {
        read(&self.identity_path())
    }

    /// A new private key; the hosts accept it, and the old one no more. Sessions live on.
    pub async fn new_identity(&self) -> String {
        let path = self.state.join("rotated");
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status();
        assert!(made.unwrap().success());
        let public = read(&path.with_extension("pub"));
        for host in &self.hosts {
            std::fs::write(self.state.join("hosts").join(&host.name).join("etc/authorized_keys"), &public).unwrap();
        }
        read(&path)
    }

    /// A private key that no host accepts.
    pub fn stranger_identity(&self) -> String {
        read(&self.state.join("stranger"))
    }

    /// The hosts' keys as they were at the start (Ed25519 and ECDSA), by address; [`Host::rekey`] leaves it as it was.
    pub fn known_hosts(&self) -> String {
        read(&self.state.join("known_hosts"))
    }

    /// The Secrets `<group>-identity` and `<group>-known-hosts`, and the HostGroup `group` with every host, zones a, b
    /// and c in turn: ready to be created in this order.
    pub fn group(&self, namespace: &str, group: &str) -> Vec<Value> {
        let (identity, known_hosts) = (format!("{group}-identity"), format!("{group}-known-hosts"));
        let secret = |name: &str, key: &str, value: String| {
            json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": { "name": name, "namespace": namespace, "labels": { "use.landfall.dev/ssh": group } },
                "stringData": { key: value },
            })
        };
        let hosts: Vec<Value> = (self.hosts.iter().zip(["a", "b", "c"].iter().cycle()))
            .map(|(host, zone)| json!({ "name": host.name, "address": host.address, "labels": { "zone": zone } }))
            .collect();
        vec![
            secret(&identity, "identity", self.identity()),
            secret(&known_hosts, "known_hosts", self.known_hosts()),
            json!({
                "apiVersion": "landfall.dev/v1alpha1",
                "kind": "HostGroup",
                "metadata": { "name": group, "namespace": namespace },
                "spec": {
                    "ssh": {
                        "user": self.user,
                        "port": self.hosts[0].port,
                        "credentialsRef": { "name": identity },
                        "hostKeys": { "policy": "Strict", "knownHostsRef": { "name": known_hosts } },
                    },
                    "root": "/srv/landfall",
                    "hosts": hosts,
                },
            }),
        ]
    }

    /// The same as YAML for `kubectl apply -f -`, as `make hosts` prints it.
    pub fn group_yaml(&self, namespace: &str, group: &str) -> String {
        let output =
            Command::new(script()).args(["yaml", namespace, group, "--state"]).arg(&self.state).output().unwrap();
        text(output, "yaml")
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        drop(self.starter.stdin.take());
        let _ = self.starter.wait();
    }
}

impl Host {
    fn parse(line: &str, state: &Path) -> Self {
        let mut fields = line.split('\t');
        let mut next = || fields.next().unwrap().to_owned();
        Self { name: next(), address: next(), port: next().parse().unwrap(), state: state.to_owned() }
    }

    /// `address:port` of its sshd.
    pub fn endpoint(&self) -> String {
        format!("{}:{}", self.address, self.port)
    }

    /// The lines of known_hosts for the keys that it has now.
    pub async fn host_key_lines(&self) -> String {
        let all = text(run(&self.state, &["known-hosts"]).await, "known-hosts");
        let plain = format!("{} ", self.address);
        let with_port = format!("[{}]:{} ", self.address, self.port);
        all.lines()
            .filter(|line| line.starts_with(&plain) || line.starts_with(&with_port))
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// Kills all that runs, changes the boot id, keeps `/srv`, `/root` and `/home`, and is up again on return.
    pub async fn reboot(&self) {
        self.act(&["reboot"]).await;
    }

    /// Stops every process: connections are accepted by the kernel and nothing answers. Until [`Self::thaw`].
    pub async fn freeze(&self) {
        self.act(&["freeze"]).await;
    }

    /// Undoes [`Self::freeze`].
    pub async fn thaw(&self) {
        self.act(&["thaw"]).await;
    }

    /// Drops every packet in both directions without a word. Until [`Self::mend`].
    pub async fn cut(&self) {
        self.act(&["cut"]).await;
    }

    /// Ends the listening sshd: new connections are refused, sessions live on. Until [`Self::mend`].
    pub async fn refuse(&self) {
        self.act(&["refuse"]).await;
    }

    /// Stops the listening sshd: new connections are accepted and silent, sessions live on. Until [`Self::mend`].
    pub async fn mute(&self) {
        self.act(&["mute"]).await;
    }

    /// Ends every SSH session; new ones are welcome.
    pub async fn hangup(&self) {
        self.act(&["hangup"]).await;
    }

    /// What is sent to it arrives so fast and no faster (`8kbit`). Until [`Self::mend`].
    pub async fn slow(&self, rate: &str) {
        self.act(&["slow", rate]).await;
    }

    /// Undoes [`Self::cut`], [`Self::refuse`], [`Self::mute`] and [`Self::slow`].
    pub async fn mend(&self) {
        self.act(&["mend"]).await;
    }

    /// Leaves no byte free under `/srv`, `/root` and `/home` (to within a page of 4 KiB). Until [`Self::drain`].
    pub async fn fill(&self) {
        self.act(&["fill"]).await;
    }

    /// Leaves that many KiB free. Until [`Self::drain`].
    pub async fn fill_but(&self, kib: u32) {
        self.act(&["fill", &kib.to_string()]).await;
    }

    /// Leaves no inode free: files can grow but none can be made. Until [`Self::drain`].
    pub async fn fill_inodes(&self) {
        self.act(&["fill-inodes"]).await;
    }

    /// Undoes [`Self::fill`], [`Self::fill_but`] and [`Self::fill_inodes`].
    pub async fn drain(&self) {
        self.act(&["drain"]).await;
    }

    /// Gives it new host keys, as if another machine answered at its address.
    pub async fn rekey(&self) {
        self.act(&["rekey"]).await;
    }

    /// Puts lines before its sshd_config (the first value of an option wins) and starts sshd anew; sessions live on.
    pub async fn reconfigure(&self, lines: &str) {
        let config = "/run/host/sshd_config";
        self.sh(&format!("{{ cat <<'EOT'\n{lines}\nEOT\ncat {config}; }} >{config}.new && mv {config}.new {config}"))
            .await;
        self.refuse().await;
        self.mend().await;
    }

    /// What its sshd logged so far.
    pub async fn sshd_log(&self) -> String {
        self.sh("cat /run/sshd.log").await
    }

    /// Its IPv6 address: the other one, within fd6c:66::/96.
    pub fn address6(&self) -> String {
        let four: std::net::Ipv4Addr = self.address.parse().unwrap();
        let mut six = [0; 16];
        six[..4].copy_from_slice(&[0xfd, 0x6c, 0, 0x66]);
        six[12..].copy_from_slice(&four.octets());
        std::net::Ipv6Addr::from(six).to_string()
    }

    /// Runs a command detached on the host, as process number `pid`, which must be free.
    pub async fn spawn_as_pid(&self, pid: u32, command: &[&str]) {
        let pid = pid.to_string();
        let mut arguments = vec!["pid-next", &pid];
        arguments.extend(command);
        self.act(&arguments).await;
    }

    /// Runs a script by the host's `sh` as root, not over SSH, and returns what it printed.
    ///
    /// # Panics
    /// When it fails, with what it wrote to standard error.
    pub async fn sh(&self, script: &str) -> String {
        self.exec(&["sh", "-c", script]).await
    }

    /// Runs one command as root, not over SSH, and returns what it printed.
    ///
    /// # Panics
    /// When it fails, with what it wrote to standard error.
    pub async fn exec(&self, command: &[&str]) -> String {
        text(self.try_exec(command).await, command.join(" "))
    }

    /// As [`Self::exec`], and the failure is the caller's.
    pub async fn try_exec(&self, command: &[&str]) -> Output {
        let mut arguments = vec!["exec", &self.name];
        arguments.extend(command);
        run(&self.state, &arguments).await
    }

    async fn act(&self, arguments: &[&str]) {
        let mut all = vec![arguments[0], &self.name];
        all.extend(&arguments[1..]);
        text(run(&self.state, &all).await, all.join(" "));
    }
}

async fn run(state: &Path, arguments: &[&str]) -> Output {
    tokio::process::Command::new(script())
        .args(arguments)
        .env("LANDFALL_HOSTS_STATE", state)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap()
}

fn text(output: Output, what: impl std::fmt::Display) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {} {}", output.status, said.trim());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
