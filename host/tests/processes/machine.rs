//! A host with systemd as pid 1 of namespaces of its own (`systemd-host.sh`). A test boots one and runs itself again in there, as root or as
//! another user; the host goes with its test.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use crate::support::{PATIENCE, is_inner, now, run_again, until_some};

/// Which part of a test runs inside.
pub const PART: &str = "LANDFALL_TEST_PART";

/// A host with systemd.
pub struct Machine {
    server: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    folder: tempfile::TempDir,
    /// pid 1 of it, as this machine counts.
    init: String,
    lingers: &'static str,
}

impl Machine {
    /// Comes back when it is up. `lingers`: a user whose manager runs from boot on, or `nobody`.
    pub fn boot(lingers: &'static str) -> Self {
        collect_groups();
        let folder = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/systemd-host.sh");
        let mut server = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(script)
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv (util-linux)");
        let orders = server.stdin.take();
        let answers = BufReader::new(server.stdout.take().unwrap());
        let mut machine = Self { server, orders, answers, folder, init: String::new(), lingers };
        machine.reboot();
        machine
    }

    /// As by a power cut: what runs is killed, and the next boot has another boot id.
    pub fn reboot(&mut self) {
        writeln!(self.orders.as_mut().unwrap(), "{}", self.lingers).unwrap();
        let mut parent = String::new();
        self.answers.read_line(&mut parent).unwrap();
        let parent = parent.trim().to_owned();
        assert!(
            !parent.is_empty(),
            "no systemd host: root, systemd and dbus are needed (scripts/install-test-tools.sh)"
        );
        self.init = until_some("the host has a pid 1", || {
            let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
            children.split_whitespace().next().map(str::to_owned)
        });
        // The longest of all waits, and that of a machine which does much else.
        let is_up = || {
            let said = self.command(&["systemctl", "is-system-running"]).output().unwrap();
            let is_up = ["running", "degraded"].contains(&String::from_utf8_lossy(&said.stdout).trim());
            // logind starts the manager of a user when it has started itself.
            let of_user = "systemctl is-active user@$(id -u \"$1\")";
            let user = || self.command(&["sh", "-c", of_user, "sh", self.lingers]).output().unwrap().status.success();
            is_up && (self.lingers == "nobody" || user())
        };
        let end = now() + 4 * PATIENCE;
        while !is_up() {
            assert!(
                now() < end,
                "not up: {}",
                fs::read_to_string(self.folder.path().join("console")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The words that lead into it.
    fn way(&self) -> Vec<String> {
        ["nsenter", "-t", &self.init, "-m", "-p", "-u", "-i", "-C", "-r", "-w", "--"].map(str::to_owned).to_vec()
    }

    fn command(&self, words: &[&str]) -> Command {
        let way = self.way();
        let mut command = Command::new(&way[0]);
        command.args(&way[1..]).args(words).stdin(Stdio::null());
        command
    }

    /// What a script of root's says there.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        let output = self.command(&["sh", "-c", script]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{script}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// Runs a test again inside, as root.
    #[track_caller]
    pub fn run(&self, test: &str, part: &str) {
        let way = self.way();
        let way: Vec<&str> = way.iter().map(String::as_str).collect();
        run_again(test, &way, &[(PART, part)]);
    }

    /// Runs a test again inside, as it is when this user signs in over SSH.
    #[track_caller]
    pub fn run_as(&self, user: &str, id: &str, test: &str, part: &str) {
        let mut way = self.way();
        let (home, name, logname) = (format!("HOME=/home/{user}"), format!("USER={user}"), format!("LOGNAME={user}"));
        let words = ["setpriv", "--reuid", id, "--regid", id, "--init-groups", "env", &home, &name, &logname];
        way.extend(words.map(str::to_owned));
        let way: Vec<&str> = way.iter().map(String::as_str).collect();
        run_again(test, &way, &[(PART, part)]);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.orders.take());
        let pid = self.server.id();
        let _ = self.server.wait();
        for hierarchy in HIERARCHIES {
            let group = format!("/sys/fs/cgroup/{hierarchy}/{GROUP}{pid}");
            // Its processes take a moment to go.
            for _ in 0..100 {
                if remove_group(&group) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// Where `systemd-host.sh` makes cgroups.
const HIERARCHIES: [&str; 6] = ["systemd", "unified", "pids", "memory", "devices", "freezer"];
const GROUP: &str = "lfh-units-";

/// True: it is not there any more.
fn remove_group(group: &str) -> bool {
    let mut find = Command::new("find");
    find.args([group, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]).stderr(Stdio::null());
    !Path::new(group).exists() || find.status().is_ok_and(|status| status.success())
}

/// Removes what tests left that were killed: their hosts are gone, and of those the cgroups are empty.
fn collect_groups() {
    for hierarchy in HIERARCHIES {
        for entry in fs::read_dir(format!("/sys/fs/cgroup/{hierarchy}")).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.strip_prefix(GROUP)).and_then(|pid| pid.parse::<u32>().ok());
            if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                remove_group(&entry.path().to_string_lossy());
            }
        }
    }
}

pub fn part() -> Option<String> {
    is_inner().then(|| std::env::var(PART).unwrap())
}
