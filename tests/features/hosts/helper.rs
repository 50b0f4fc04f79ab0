//! The helper script by itself, in every shell that a host may have: a whole life of a release, and a death before each of its commands.

use std::{
    io::Write,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::support::wait::until_now;
use landfall::model::text::shell_quote as quote;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const PARTS: [&str; 3] = [
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/effects/host/become.sh")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/effects/host/look.sh")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/effects/host/helper.sh")),
];
/// One script, as it lies on a host.
const HELPER: &str = concat!(
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/effects/host/become.sh")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/effects/host/look.sh")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/effects/host/helper.sh"))
);
const SHELLS: [&str; 4] = ["dash", "busybox sh", "bash --posix", "mksh"];

/// A root with the script in it, called by one shell.
struct Root {
    shell: &'static str,
    folder: tempfile::TempDir,
    n: u64,
    /// The transitions of our fence token.
    token: u32,
    /// In the command line of every process that is started here.
    marker: String,
}

/// One release as a tar.
struct Release {
    name: String,
    digest: String,
    tar: Vec<u8>,
}

fn release(marker: &str) -> Release {
    let script = "#!/bin/sh\nprintf '%s|' \"$@\" \"$GREETING\"\necho\nexec sleep 1000\n";
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in [("app", script), ("deep/er/file", marker)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    tar.append_link(&mut link, "link", "app").unwrap();
    let tar = tar.into_inner().unwrap();
    let digest: String = Sha256::digest(&tar).iter().map(|byte| format!("{byte:02x}")).collect();
    Release { name: format!("v1.0-{}", &digest[..12]), digest, tar }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("\\0{byte:03o}")).collect()
}

impl Root {
    fn new(shell: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join(".landfall/bin")).unwrap();
        std::fs::write(folder.path().join(".landfall/bin/x"), HELPER).unwrap();
        let marker = folder.path().file_name().unwrap().to_str().unwrap().to_owned();
        Self { shell, folder, n: 0, token: 1, marker }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join("shop.web").join(below)
    }

    /// The same script, which dies with its process group before command number `at`.
    fn mortal(&self, at: u32) {
        let count = self.folder.path().join("count");
        let _ = std::fs::remove_file(&count);
        let mut traps = format!(
            "tick() {{ printf x >>{0}; [ \"$(wc -c <{0})\" -ne {at} ] || command kill -9 0; }}\n",
            count.display()
        );
        for tool in ["sync", "mv", "flock", "tar", "mkdir", "rm", "ln", "setsid", "chmod", "tail", "kill"] {
            traps.push_str(&format!("{tool}() {{ tick; command {tool} \"$@\"; }}\n"));
        }
        let script = HELPER.replacen("export PATH LC_ALL\n", &format!("export PATH LC_ALL\n{traps}"), 1);
        assert_ne!(script, HELPER);
        std::fs::write(self.folder.path().join(".landfall/bin/x"), script).unwrap();
    }

    /// The same script with some of it replaced.
    fn altered(&self, from: &str, to: &str) {
        let script = HELPER.replacen(from, to, 1);
        assert_ne!(script, HELPER);
        std::fs::write(self.folder.path().join(".landfall/bin/x"), script).unwrap();
    }

    fn immortal(&self) {
        std::fs::write(self.folder.path().join(".landfall/bin/x"), HELPER).unwrap();
    }

    fn raw(&self, text: &str, payload: &[u8]) -> String {
        self.raw_of(&self.folder.path().join(".landfall/bin/x"), text, payload)
    }

    fn raw_of(&self, script: &Path, text: &str, payload: &[u8]) -> String {
        let mut words = self.shell.split(' ');
        let mut child = Command::new(words.next().unwrap())
            .args(words)
            .arg(script)
            .arg("NONCE")
            .env("LANDFALL_SH", self.shell)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let _ = stdin.write_all(text.as_bytes());
        let _ = stdin.write_all(payload);
        drop(stdin);
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    }

    fn request(&self, verb: &str, more: &str) -> String {
        let Self { n, token, .. } = self;
        format!(
            "verb={verb}\nfolder=shop.web\nowner=plane shop web uid-of-web h1\nreplaces=\nfence=plane 100 {token}\n\
             act=uid-of-web 1.0 1 {n}\nstepdir=uid-of-w-1.0-1-{n}\n{more}\n"
        )
    }

    fn act(&mut self, verb: &str, more: &str, payload: &[u8]) -> String {
        let answer = self.raw(&self.request(verb, more), payload);
        if let Some(journal) = value(&answer, "journal") {
            self.n = journal.parse().unwrap();
        }
        answer
    }

    fn done(&mut self, verb: &str, more: &str, payload: &[u8]) {
        let (before, answer) = (self.n, self.act(verb, more, payload));
        assert!(
            value(&answer, "error").is_none() && answer.contains("\nNONCE end 0\n"),
            "{}: {verb}: {answer}",
            self.shell
        );
        assert!(self.n == before + 2 || verb == "remove", "{}: {verb}: {answer}", self.shell);
    }

    fn facts(&mut self) -> String {
        let facts = self.raw("verb=facts\n\n", b"");
        assert!(facts.contains("\nNONCE end 0\n"), "{}: {facts}", self.shell);
        self.n = value(&facts, "journal").map_or(0, |n| n.parse().unwrap());
        facts
    }

    /// Facts once no detached step is under way.
    fn settled(&mut self) -> String {
        let mut facts = String::new();
        until_now(&format!("over: a step under {}", self.shell), || {
            facts = self.facts();
            !value(&facts, "open").is_some_and(|open| open.ends_with(" 1"))
        });
        facts
    }

    /// Processes that were started here and live.
    fn running(&self) -> usize {
        std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path().join("cwd")).ok())
            .filter(|cwd| cwd.to_string_lossy().contains(&format!("{}/shop.web/releases/", self.marker)))
            .count()
    }

    /// One process runs. On its way to the application it may have a child for a moment.
    fn runs_once(&self) {
        until_now("running once", || self.running() == 1);
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if self.marker.is_empty() {
            return; // stands for a call on another root
        }
        self.immortal();
        self.settled();
        self.act("remove", "grace=1\n", b"");
    }
}

fn value<'a>(answer: &'a str, key: &str) -> Option<&'a str> {
    answer.lines().rev().find_map(|line| line.strip_prefix('@')?.strip_prefix(key)?.strip_prefix('='))
}

fn staging(release: &Release) -> String {
    format!("release={}\ndigest={}\nsize={}\n", release.name, release.digest, release.tar.len())
}

fn starting(release: &Release, words: &[&str]) -> String {
    let words: String = words.iter().map(|word| format!("arg={}\n", encoded(word))).collect();
    let greeting = encoded("it's $HOME \"`id`\" \\0041 *\n  ü");
    format!(
        "release={}\ndigest={}\nrevision=1\nrollout=1.0\n{words}env=GREETING={greeting}\nenv=line=a\n",
        release.name, release.digest
    )
}

/// A turn to another start of the release.
fn turning(release: &Release, rollout: &str, grace: u32, words: &[&str]) -> String {
    starting(release, words).replace("rollout=1.0", &format!("rollout={rollout}\nsignal=TERM\ngrace={grace}"))
}

/// The rollout and the number of the process that lives.
fn living(root: &mut Root) -> (String, String) {
    let facts = root.facts();
    let words: Vec<&str> = value(&facts, "process").unwrap().split(' ').collect();
    assert_eq!(words[0], "1", "{facts}");
    (words[7].to_owned(), words[1].to_owned())
}

fn send(root: &mut Root, release: &Release) {
    let answer = root.act("stage", &staging(release), b"");
    if value(&answer, "need").is_some() {
        root.done("stage", &format!("{}payload=yes\n", staging(release)), &release.tar);
    } else {
        assert!(value(&answer, "error").is_none(), "{answer}");
    }
}

/// The mask of signals that a process ignores; bit 0 is signal 1.
fn ignored_signals(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
    u64::from_str_radix(ignored, 16).unwrap()
}

fn whole_life(shell: &'static str) {
    let mut root = Root::new(shell);
    let release = release(&root.marker);
    assert!(!root.facts().contains("@missing="), "{}", root.facts());
    send(&mut root, &release);
    root.done("stop", "grace=1\n", b"");
    root.done("switch", &format!("release={}\n", release.name), b"");
    root.done("start", &starting(&release, &["./app", "", "a b", "'", "-n", "\n", "*"]), b"");
    root.done("mark", "rollout=1.0\n", b"");
    let facts = root.facts();
    assert!(value(&facts, "process").unwrap().starts_with("1 "), "{facts}");
    assert_eq!(value(&facts, "current").unwrap(), format!("releases/{}", release.name));
    assert_eq!(value(&facts, "ready").unwrap().split(' ').next(), Some("uid-of-web"));
    root.runs_once();
    let mut log = String::new();
    until_now("done talking", || {
        log = std::fs::read_to_string(root.path("shared/log/output.log")).unwrap();
        log.ends_with("ü|\n")
    });
    let said = log.split_once('\n').unwrap().1;
    assert_eq!(said, "|a b|'|-n|\n|*|it's $HOME \"`id`\" \\0041 *\n  ü|\n", "{shell}");

    let pid = value(&facts, "process").unwrap().split(' ').nth(1).unwrap();
    // A shell can't undo what whoever started these tests ignores (as for `make test &`); it must not add to it.
    let added = ignored_signals(pid) & !ignored_signals("self");
    assert_eq!(added & 0b110, 0, "{shell}: INT and QUIT reach the application");
    let descriptors =
        std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    assert!(descriptors.into_iter().all(|file| !file.ends_with("lock")), "{shell}: the application holds no lock");

    root.done("stop", "grace=3\n", b"");
    assert_eq!(root.running(), 0);
    root.done("prune", "keep=\natmost=0\n", b"");
    assert!(root.facts().contains(&format!("@release={}", release.name)), "current is never pruned");
    root.done("remove", "grace=1\n", b"");
    assert!(!root.path("").exists());
}

#[test]
fn dash_carries_a_release_through_its_life() {
    whole_life("dash");
}

#[test]
fn busybox_ash_carries_a_release_through_its_life() {
    whole_life("busybox sh");
}

#[test]
fn posix_bash_carries_a_release_through_its_life() {
    whole_life("bash --posix");
}

#[test]
fn mksh_carries_a_release_through_its_life() {
    whole_life("mksh");
}

/// Kills the act before its first command, its second, and so on, until it gets through; `again` is what the controller does next.
fn dies_everywhere(
    prepare: impl Fn(&mut Root, &Release),
    act: impl Fn(&mut Root, &Release),
    again: impl Fn(&mut Root, &Release),
) {
    for at in 1.. {
        let mut root = Root::new("dash");
        let release = release(&root.marker);
        prepare(&mut root, &release);
        root.mortal(at);
        act(&mut root, &release);
        let ticks = std::fs::metadata(root.folder.path().join("count")).map_or(0, |count| count.len());
        root.immortal();
        root.settled();
        until_now(&format!("left with one process or none at {at}"), || root.running() <= 1);
        again(&mut root, &release);
        assert!(root.path("current").exists() || !root.path("current").is_symlink(), "at {at}");
        if ticks < u64::from(at) {
            assert!(at > 5, "the script was not watched");
            return;
        }
        assert!(at < 100, "it never gets through");
    }
}

#[test]
fn a_stage_that_dies_anywhere_is_continued() {
    // A small release is unpacked by the call itself, a big one by a step of its own.
    for size in [1_000, 5_000_000] {
        dies_everywhere(
            |_, _| {},
            |root, release| {
                let staging = staging(release).replace(&release.tar.len().to_string(), &size.to_string());
                root.act("stage", &format!("{staging}payload=yes\n"), &release.tar);
            },
            |root, release| {
                send(root, release);
                assert_eq!(
                    std::fs::read(root.path(&format!("releases/{}/deep/er/file", release.name))).unwrap(),
                    root.marker.as_bytes()
                );
                assert!(root.facts().contains(&format!("@release={}", release.name)));
                let left: Vec<_> = std::fs::read_dir(root.path(".landfall/tmp")).unwrap().collect();
                assert!(left.is_empty(), "{left:?}");
            },
        );
    }
}

/// What one program of a host digests another can check: a release that is there stays when openssl comes or goes.
#[test]
fn a_release_is_known_again_whoever_digests() {
    let mut root = Root::new("dash");
    let release = release(&root.marker);
    send(&mut root, &release);
    // So many digits of bytes are openssl's.
    let big = staging(&release).replace(&format!("size={}", release.tar.len()), "size=10000000");
    let answer = root.act("stage", &big, b"");
    assert!(value(&answer, "error").is_none() && value(&answer, "need").is_none(), "{answer}");
}

#[test]
fn a_switch_that_dies_anywhere_is_continued() {
    dies_everywhere(
        send,
        |root, release| {
            root.act("switch", &format!("release={}\n", release.name), b"");
        },
        |root, release| {
            root.done("switch", &format!("release={}\n", release.name), b"");
            assert_eq!(
                std::fs::read_link(root.path("current")).unwrap(),
                Path::new(&format!("releases/{}", release.name))
            );
        },
    );
}

#[test]
fn a_start_that_dies_anywhere_leaves_one_process_or_none_and_never_one_unrecorded() {
    dies_everywhere(
        send,
        |root, release| {
            root.act("start", &starting(release, &["./app"]), b"");
        },
        |root, release| {
            // The launched process may just be on its way: it holds the lock, and the next act waits for it.
            root.done("start", &starting(release, &["./app"]), b"");
            let facts = root.facts();
            assert!(value(&facts, "process").unwrap().starts_with("1 "), "{facts}");
            root.runs_once();
        },
    );
}

#[test]
fn a_stop_that_dies_anywhere_is_continued() {
    dies_everywhere(
        |root, release| {
            send(root, release);
            root.done("start", &starting(release, &["./app"]), b"");
        },
        |root, _| {
            root.act("stop", "grace=2\n", b"");
        },
        |root, _| {
            root.done("stop", "grace=2\n", b"");
            assert_eq!(root.running(), 0);
            assert!(!root.path(".landfall/process").exists());
        },
    );
}

#[test]
fn a_turn_is_one_act_whether_the_process_ends_at_once_or_has_to_be_killed_in_every_shell() {
    let turned = SHELLS.map(|shell| {
        std::thread::spawn(move || {
            let mut root = Root::new(shell);
            let release = release(&root.marker);
            send(&mut root, &release);
            root.done("turn", &turning(&release, "1.0", 5, &["./app"]), b"");
            let first = living(&mut root);
            assert_eq!(first.0, "1.0", "{shell}");
            let stays = ["sh", "-c", "trap '' TERM; exec sleep 1000"];
            root.done("turn", &turning(&release, "1.1", 5, &stays), b"");
            let second = living(&mut root);
            assert!(second.0 == "1.1" && second.1 != first.1, "{shell}: {first:?} {second:?}");
            let line = format!("/proc/{}/cmdline", second.1);
            until_now("deaf to TERM", || std::fs::read(&line).is_ok_and(|line| line == b"sleep\x001000\0"));
            // It is waited for by a step, which has to kill it, and starts the next one.
            root.done("turn", &turning(&release, "1.2", 1, &["./app", "ü '"]), b"");
            assert!(root.path(".landfall/steps/uid-of-w-1.0-1-6/turn/exit").exists(), "{shell}: that was a step");
            assert_eq!(living(&mut root).0, "1.2", "{shell}");
            root.runs_once();
            // Nothing is stopped where the turn is over already.
            let third = living(&mut root);
            root.done("turn", &turning(&release, "1.2", 1, &["./app"]), b"");
            assert_eq!(living(&mut root), third, "{shell}");
            let acts = std::fs::read_to_string(root.path(".landfall/journal")).unwrap();
            assert_eq!(acts.lines().filter(|line| line.contains(" end turn ")).count(), 4, "{shell}: {acts}");
            until_now(&format!("all said under {shell}"), || {
                let log = std::fs::read_to_string(root.path("shared/log/output.log")).unwrap();
                log.ends_with("ü '|it's $HOME \"`id`\" \\0041 *\n  ü|\n")
            });
        })
    });
    for one in turned {
        one.join().unwrap();
    }
}

#[test]
fn a_turn_that_dies_anywhere_is_continued() {
    dies_everywhere(
        |root, release| {
            send(root, release);
            root.done("turn", &turning(release, "1.0", 5, &["./app"]), b"");
        },
        |root, release| {
            root.act("turn", &turning(release, "1.1", 5, &["./app"]), b"");
        },
        |root, release| {
            root.done("turn", &turning(release, "1.1", 5, &["./app"]), b"");
            assert_eq!(living(root).0, "1.1");
            root.runs_once();
        },
    );
}

#[test]
fn a_turn_whose_step_dies_anywhere_is_continued() {
    let die = move |at: u32| {
        let mut root = Root::new("dash");
        let release = release(&root.marker);
        send(&mut root, &release);
        // Longer than a call waits by itself, however slow the machine makes that: it ends when a step waits for it.
        let waits = format!(
            "trap 'until ls -d {}/*/turn; do sleep 0.05; done; sleep 0.1; exit' TERM; exec >/dev/null 2>&1; sleep 1000 & while :; do wait; done",
            root.path(".landfall/steps").display()
        );
        let slow = ["sh", "-c", &waits];
        root.done("turn", &turning(&release, "1.0", 60, &slow), b"");
        let children = format!("/proc/{0}/task/{0}/children", living(&mut root).1);
        // It sleeps: the trap is set.
        until_now("asleep", || std::fs::read_to_string(&children).is_ok_and(|pids| !pids.is_empty()));
        until_now("asleep", || root.running() == 2);
        root.mortal(at);
        root.act("turn", &turning(&release, "1.1", 60, &["./app"]), b"");
        let ticks = std::fs::metadata(root.folder.path().join("count")).map_or(0, |count| count.len());
        root.immortal();
        root.settled();
        root.done("turn", &turning(&release, "1.1", 60, &["./app"]), b"");
        assert_eq!(living(&mut root).0, "1.1", "at {at}");
        root.runs_once();
        let through = ticks < u64::from(at);
        let step = || {
            std::fs::read_dir(root.path(".landfall/steps"))
                .unwrap()
                .flatten()
                .any(|one| one.path().join("turn").exists())
        };
        assert!(!through || step(), "no step was needed");
        through
    };
    for first in (1..100).step_by(8) {
        let lanes: Vec<_> = (first..first + 8).map(|at| std::thread::spawn(move || die(at))).collect();
        let through: Vec<bool> = lanes.into_iter().map(|lane| lane.join().unwrap()).collect();
        if through.contains(&true) {
            assert!(first > 8, "the script was not watched");
            return;
        }
    }
    panic!("it never gets through");
}

#[test]
fn a_turn_ends_children_that_outlive_the_one_who_started_them_before_it_starts_the_next_in_every_shell() {
    let turned = SHELLS.map(|shell| {
        std::thread::spawn(move || {
            let mut root = Root::new(shell);
            let release = release(&root.marker);
            send(&mut root, &release);
            // As whoever starts a server and waits for it: the signal ends the one who waits at once.
            let wraps = ["sh", "-c", "(trap '' TERM; exec sleep 1000) & wait"];
            root.done("turn", &turning(&release, "1.0", 1, &wraps), b"");
            let wrapper = living(&mut root).1;
            until_now(&format!("deaf to TERM under {shell}"), || deaf_child_of(&wrapper));
            root.done("turn", &turning(&release, "1.1", 1, &["./app"]), b"");
            assert_eq!(living(&mut root).0, "1.1", "{shell}");
            root.runs_once();
        })
    });
    for one in turned {
        one.join().unwrap();
    }
}

/// Whether a process has a child that is what it is to become.
fn deaf_child_of(pid: &str) -> bool {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children
        .split_whitespace()
        .any(|child| std::fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|line| line == b"sleep\x001000\0"))
}

#[test]
fn an_act_of_a_moment_that_is_waited_for_is_looked_at_again() {
    let mut root = Root::new("dash");
    let release = release(&root.marker);
    send(&mut root, &release);
    root.done("switch", &format!("release={}\n", release.name), b"");
    let answer = root.raw(&root.request("attach", "step=switch\npatience=5\n"), b"");
    assert_eq!(value(&answer, "error"), Some("moved 4"), "{answer}");
}

/// An act that stops (SIGSTOP) under the lock, before it moves its first file into place. Answers its process.
fn stopped_holder(root: &mut Root, release: &Release) -> std::thread::JoinHandle<String> {
    // With both locks, before anything is on record.
    let stops = "flock() { command flock \"$@\" || return 1; [ \"$2\" != 8 ] || kill -s STOP 0; }";
    root.altered("export PATH LC_ALL\n", &format!("export PATH LC_ALL\n{stops}\n"));
    let (path, shell) = (root.folder.path().join(".landfall/bin/x"), root.shell);
    let stuck =
        Root { shell, folder: tempfile::tempdir().unwrap(), n: root.n, token: root.token, marker: String::new() };
    let text = format!("release={}\n", release.name);
    let stuck = std::thread::spawn(move || stuck.raw_of(&path, &stuck.request("switch", &text), b""));
    let lock = root.path(".landfall/lock");
    until_now(&format!("stopped: the holder under {shell}"), || {
        let pid = std::fs::read_to_string(&lock).unwrap_or_default().split(' ').next().unwrap_or_default().to_owned();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains(") T ")
    });
    root.immortal();
    stuck
}

#[test]
fn a_stopped_holder_of_the_lock_is_ended_by_a_higher_token_in_every_shell() {
    let ended = SHELLS.map(|shell| {
        std::thread::spawn(move || {
            let mut root = Root::new(shell);
            let release = release(&root.marker);
            send(&mut root, &release);
            let stuck = stopped_holder(&mut root, &release);
            root.token = 2;
            let began = std::time::Instant::now();
            root.done("switch", &format!("release={}\n", release.name), b"");
            assert!(began.elapsed() < Duration::from_secs(60), "{shell}: {:?}", began.elapsed());
            assert!(!stuck.join().unwrap().contains("end 0"), "{shell}: the stopped call did nothing");
            assert_eq!(value(&root.facts(), "fence"), Some("plane 100 2"), "{shell}");
        })
    });
    for one in ended {
        one.join().unwrap();
    }
}

#[test]
fn a_stopped_holder_of_the_lock_is_busy_to_its_own_token_and_untouched() {
    let mut root = Root::new("dash");
    let release = release(&root.marker);
    send(&mut root, &release);
    let stuck = stopped_holder(&mut root, &release);
    let answer = root.act("switch", &format!("release={}\n", release.name), b"");
    assert!(value(&answer, "error").is_some_and(|error| error.starts_with("busy lock")), "{answer}");
    assert!(!stuck.is_finished());
    root.token = 2;
    root.done("switch", &format!("release={}\n", release.name), b"");
    stuck.join().unwrap();
}

#[test]
fn a_launch_that_stops_before_it_is_the_application_is_ended_by_a_higher_token() {
    let mut root = Root::new("dash");
    let release = release(&root.marker);
    send(&mut root, &release);
    root.altered(" && seat && cd ", " && seat && kill -s STOP $$ && cd ");
    let answer = root.act("start", &starting(&release, &["./app"]), b"");
    assert!(value(&answer, "error").is_some_and(|error| error.starts_with("failed start")), "{answer}");
    root.immortal();
    root.facts();
    root.token = 2;
    root.done("start", &starting(&release, &["./app"]), b"");
    root.runs_once();
}

#[test]
fn a_log_that_is_held_open_is_emptied_and_its_end_kept() {
    for shell in SHELLS {
        let mut root = Root::new(shell);
        let release = release(&root.marker);
        send(&mut root, &release);
        // 30 MiB at once, and a little more when it may.
        let go = root.folder.path().join("go");
        let waits = format!("while ! [ -e {} ]; do sleep 0.1; done", go.display());
        let program =
            format!("head -c 31457280 /dev/zero | tr '\\0' x; echo; echo END; {waits}; echo LATER; exec sleep 1000");
        root.done("start", &starting(&release, &["sh", "-c", &program]), b"");
        let log = root.path("shared/log/output.log");
        until_now("long and at its end", || std::fs::read(&log).unwrap().ends_with(b"x\nEND\n"));
        assert_eq!(value(&root.facts(), "rotated"), Some("1"), "{shell}");
        assert_eq!(std::fs::metadata(&log).unwrap().len(), 0, "{shell}");
        let kept = std::fs::read(root.path("shared/log/output.log.1")).unwrap();
        assert_eq!(kept.len(), 10 << 20, "{shell}");
        assert!(kept.ends_with(b"x\nEND\n"), "{shell}");
        std::fs::write(&go, "").unwrap();
        until_now("said later", || std::fs::metadata(&log).unwrap().len() > 0);
        use std::os::unix::fs::MetadataExt;
        let after = std::fs::metadata(&log).unwrap();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "LATER\n", "{shell}: the process goes on at the beginning");
        assert!(after.blocks() <= 16, "{shell}: no hole is counted, no old block kept: {}", after.blocks());
        assert_eq!(value(&root.facts(), "rotated"), None, "{shell}");
    }
}

#[test]
fn starts_for_healing_are_counted_on_the_host_and_another_start_begins_anew() {
    for shell in SHELLS {
        let mut root = Root::new(shell);
        let release = release(&root.marker);
        send(&mut root, &release);
        let kill = |root: &mut Root| {
            let pid = value(&root.facts(), "process").unwrap().split(' ').nth(1).unwrap().to_owned();
            Command::new("kill").args(["-9", &pid]).status().unwrap();
            // A killed process lives until it has run once more.
            while !value(&root.facts(), "process").unwrap().starts_with("0 ") {
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        root.done("start", &starting(&release, &["./app"]), b"");
        for n in 1..=7 {
            kill(&mut root);
            root.done("start", &format!("heal=1\n{}", starting(&release, &["./app"])), b"");
            let facts = root.facts();
            let heals = facts.lines().filter(|line| line.starts_with("@heal=")).count();
            assert_eq!(heals, n.min(6), "{shell}: {facts}");
        }
        assert!(value(&root.facts(), "uptime").unwrap().parse::<u64>().is_ok());
        kill(&mut root);
        root.done("start", &starting(&release, &["./app"]), b"");
        assert!(value(&root.facts(), "heal").is_none(), "{shell}");
    }
}

#[test]
fn input_that_breaks_off_does_nothing() {
    let mut root = Root::new("dash");
    let release = release(&root.marker);
    send(&mut root, &release);
    let half = format!(
        "verb=switch\nfolder=shop.web\nowner=plane shop web uid-of-web h1\nfence=plane 100 1\nact=uid-of-web 1.0 1 2\nrelease={}\n",
        release.name
    );
    let answer = root.raw(&half, b"");
    assert_eq!(value(&answer, "error"), Some("input end"), "{answer}");
    let cut = &release.tar[..release.tar.len() / 2];
    let answer = root.act(
        "stage",
        &format!("release=v9-{}\ndigest={}\nsize=9\npayload=yes\n", &release.digest[..12], release.digest),
        cut,
    );
    assert!(value(&answer, "error").unwrap().starts_with("digest "), "{answer}");
    assert_eq!(value(&root.facts(), "journal"), Some("2"));
}

#[test]
fn names_that_leave_the_root_are_refused() {
    let root = Root::new("dash");
    for folder in ["..", ".", "", "a", "a.b.c", ".a", "a.", "a/../b.c", "$(id).x", "a b.c", "-a/.b"] {
        let answer = root.raw(&format!("verb=stop\nfolder={folder}\nact=u 1.0 1 0\n\n"), b"");
        assert!(value(&answer, "error").is_some_and(|error| error.starts_with("input")), "{folder}: {answer}");
    }
    for release in ["..", ".x", "-rf", "a/b", "a b"] {
        let answer = root.raw(&format!("verb=switch\nfolder=a.b\nrelease={release}\nact=u 1.0 1 0\n\n"), b"");
        assert!(value(&answer, "error").is_some_and(|error| error.starts_with("input")), "{release}: {answer}");
    }
}

#[test]
fn a_process_with_a_bracket_in_its_name_is_known_by_its_start_time() {
    let mut root = Root::new("dash");
    let release = release(&root.marker);
    send(&mut root, &release);
    let odd = root.folder.path().join("a) S 1 (b");
    std::fs::copy("/bin/sleep", &odd).unwrap();
    std::fs::set_permissions(&odd, std::fs::Permissions::from_mode(0o755)).unwrap();
    root.done("start", &starting(&release, &[odd.to_str().unwrap(), "1000"]), b"");
    let pid = value(&root.facts(), "process").unwrap().split(' ').nth(1).unwrap().to_owned();
    let named = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains("(a) S 1 (b)"));
    until_now("the application by its name", named);
    let facts = root.facts();
    assert!(value(&facts, "process").unwrap().starts_with("1 "), "{facts}");
    root.done("stop", "grace=2\n", b"");
    assert_eq!(root.running(), 0);
}

#[test]
fn shellcheck_has_nothing_to_say() {
    let said = Command::new("shellcheck")
        .args(["-s", "sh", "src/effects/host/helper.sh", "src/effects/host/look.sh", "src/effects/host/become.sh"])
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
}

#[test]
fn the_script_stays_under_400_lines() {
    // What acts as another user is a part of its own.
    for part in PARTS {
        assert!(part.lines().count() < 400, "{}", part.lines().count());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_shell_reads_a_quoted_word_back(words in prop::collection::vec("[^\\x00]{0,12}|['\"\\\\$`!*~\n -]{0,8}", 1..40)) {
        let quoted: Vec<String> = words.iter().map(|word| quote(word).unwrap()).collect();
        let expected: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
        for shell in SHELLS {
            let mut shell = shell.split(' ');
            let read = Command::new(shell.next().unwrap())
                .args(shell)
                .arg("-c")
                .arg(format!("printf '%s\\0' {}", quoted.join(" ")))
                .output()
                .unwrap();
            prop_assert_eq!(&read.stdout, &expected);
        }
    }
}
