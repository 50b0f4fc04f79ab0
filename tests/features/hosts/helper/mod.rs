//! The helper script by itself, in every shell that a host may have: a whole life of a release, and a death before each of its commands.

mod deaths;
mod life;
mod locks;
mod words;

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
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/effects/shell/become.sh")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/effects/shell/look.sh")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/effects/shell/helper.sh")),
];
/// One script, as it lies on a host.
const HELPER: &str = concat!(
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/effects/shell/become.sh")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/effects/shell/look.sh")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/effects/shell/helper.sh"))
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
