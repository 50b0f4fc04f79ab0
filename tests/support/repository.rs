//! A bare repository `origin.git` and a clone of it, made and pushed to by the real git.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use jiff::Timestamp;
use landfall::{
    effects::{gate::Gate, git::TagRequest},
    model::ids::FenceToken,
};

pub struct Repository {
    dir: tempfile::TempDir,
}

impl Repository {
    /// With one commit on main.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "-q", "--bare", "-b", "main", "origin.git"]);
        git(dir.path(), &["init", "-q", "-b", "main", "work"]);
        let repository = Self { dir };
        git(&repository.work(), &["remote", "add", "origin", "../origin.git"]);
        repository.commit("README", "one", "first");
        repository
    }

    /// Where `origin.git` lies.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub fn origin(&self) -> PathBuf {
        self.dir.path().join("origin.git")
    }

    pub fn head(&self) -> String {
        git(&self.work(), &["rev-parse", "HEAD"])
    }

    /// Commits a file on the current branch and pushes it; the commit's id.
    pub fn commit(&self, path: &str, text: &str, message: &str) -> String {
        let file = self.work().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        self.push(message)
    }

    /// Commits all there is.
    pub fn push(&self, message: &str) -> String {
        git(&self.work(), &["add", "-A"]);
        git(&self.work(), &["commit", "-q", "--allow-empty", "-m", message]);
        git(&self.work(), &["push", "-q", "--force", "origin", "HEAD"]);
        self.head()
    }

    /// A commit with so many files of so many bytes that no packing makes smaller.
    pub fn bulk(&self, files: usize, bytes: usize) -> String {
        for n in 0..files {
            let noise: Vec<u8> = (0..bytes).map(|_| rand::random()).collect();
            fs::write(self.work().join(format!("noise-{n}")), noise).unwrap();
        }
        self.push("noise")
    }

    /// A hook of `origin.git`, a shell script.
    pub fn hook(&self, name: &str, script: &str) {
        let path = self.origin().join("hooks").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Tags of `origin.git`.
    pub fn tags(&self) -> Vec<String> {
        git(&self.origin(), &["tag", "--list"]).lines().map(str::to_owned).collect()
    }
}

pub fn git(at: &Path, args: &[&str]) -> String {
    git_with(at, args, b"")
}

/// With bytes on its stdin.
pub fn git_with(at: &Path, args: &[&str], bytes: &[u8]) -> String {
    let mut command = Command::new("git");
    command.current_dir(at).args(args).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Ann").env(format!("GIT_{who}_EMAIL"), "ann@example.com");
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn tag(name: &str, sha: &str) -> TagRequest {
    TagRequest {
        name: name.into(),
        sha: sha.into(),
        message: "Built by landfall\n\nBuild-Uid: uid-1\n".into(),
        tagged_at: Timestamp::from_second(1_790_000_000).unwrap(),
    }
}

/// A gate that is open.
pub fn gate() -> Gate {
    Gate::open_for(FenceToken { epoch: "e".into(), created: 0, transitions: 0 })
}
