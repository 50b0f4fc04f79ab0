//! Git against real repositories, made and pushed to by the real git.

mod revisions;
mod tags;
mod trees;

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use jiff::Timestamp;
use landfall::{
    effects::{
        gate::Gate,
        git::{CheckoutRequest, Git, GitConfig, GitError, Source, TagOutcome, TagRequest},
    },
    model::ids::FenceToken,
};
use sha1::{Digest, Sha1};

struct Bench {
    dir: tempfile::TempDir,
    git: Git,
    gate: Gate,
}

impl Bench {
    /// A bare repository `origin.git` and a clone `work` with one commit on main.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::new(GitConfig { allow_file: true, ..GitConfig::new(dir.path().join("mirrors")) });
        let gate = Gate::open_for(FenceToken { epoch: "e".into(), created: 0, transitions: 0 });
        let bench = Self { dir, git, gate };
        run(bench.dir.path(), &["init", "-q", "--bare", "-b", "main", "origin.git"]);
        run(bench.dir.path(), &["init", "-q", "-b", "main", "work"]);
        run(&bench.work(), &["remote", "add", "origin", "../origin.git"]);
        bench.commit("README", "one", "first");
        bench
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    fn origin(&self) -> PathBuf {
        self.dir.path().join("origin.git")
    }

    fn source(&self) -> Source {
        Source::open("shop", format!("file://{}", self.origin().display()))
    }

    /// Commits a file on the current branch and pushes it; the commit's id.
    fn commit(&self, path: &str, text: &str, message: &str) -> String {
        let file = self.work().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        run(&self.work(), &["add", "-A"]);
        run(&self.work(), &["commit", "-q", "--allow-empty", "-m", message]);
        run(&self.work(), &["push", "-q", "--force", "origin", "HEAD"]);
        self.head()
    }

    fn head(&self) -> String {
        run(&self.work(), &["rev-parse", "HEAD"])
    }

    async fn fetch(&self) {
        self.git.fetch(&self.gate, &self.source()).await.unwrap();
    }

    async fn resolve(&self, revision: &str, patterns: &[&str]) -> Result<(String, String), GitError> {
        let patterns: Vec<_> = patterns.iter().map(|p| (*p).to_owned()).collect();
        self.git.resolve(&self.source(), revision, &patterns).await.map(|found| (found.commit.sha, found.branch))
    }

    async fn push_tag(&self, name: &str, sha: &str) -> Result<TagOutcome, GitError> {
        self.git.push_tag(&self.gate, &self.source(), tag(name, sha)).await
    }

    /// With submodules and LFS pointers as they are.
    async fn checkout_incomplete(&self, sha: &str) -> Result<PathBuf, GitError> {
        let dest = self.dir.path().join("out/src");
        let request = CheckoutRequest { ignore_submodules: true, ignore_lfs: true, ..CheckoutRequest::new(sha, ".") };
        self.git.checkout(&self.source(), &request, &dest).await.map(|()| dest)
    }

    async fn checkout(&self, sha: &str) -> Result<PathBuf, GitError> {
        let dest = self.dir.path().join("out/src");
        self.git.checkout(&self.source(), &CheckoutRequest::new(sha, "."), &dest).await.map(|()| dest)
    }

    /// Writes a tree by hand, as a hostile client can; its id. Mode, name, and the content, or the id of a tree or commit.
    fn crafted(&self, entries: &[(&str, &str, &[u8])]) -> String {
        let entries: Vec<_> = entries.iter().map(|(mode, name, what)| (*mode, name.as_bytes(), *what)).collect();
        self.crafted_bytes(&entries)
    }

    fn crafted_bytes(&self, entries: &[(&str, &[u8], &[u8])]) -> String {
        let mut tree = Vec::new();
        for (mode, name, content) in entries {
            let id = if matches!(*mode, "40000" | "160000") {
                String::from_utf8(content.to_vec()).unwrap()
            } else {
                input(&self.work(), &["hash-object", "-w", "--stdin"], content)
            };
            tree.extend(format!("{mode} ").into_bytes());
            tree.extend(*name);
            tree.push(0);
            tree.extend((0..40).step_by(2).map(|i| u8::from_str_radix(&id[i..i + 2], 16).unwrap()));
        }
        input(&self.work(), &["hash-object", "-w", "-t", "tree", "--literally", "--stdin"], &tree)
    }

    fn push_tree(&self, tree: &str) -> String {
        let commit = run(&self.work(), &["commit-tree", "-m", "crafted", tree]);
        run(&self.work(), &["push", "-q", "--force", "origin", &format!("{commit}:refs/heads/main")]);
        commit
    }
}

fn tag(name: &str, sha: &str) -> TagRequest {
    TagRequest {
        name: name.into(),
        sha: sha.into(),
        message: "Built by landfall\n\nbuild: uid-1\n".into(),
        tagged_at: Timestamp::from_second(1_790_000_000).unwrap(),
    }
}

fn git_command(at: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(at).args(args).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Alice \u{1b}[31m").env(format!("GIT_{who}_EMAIL"), "alice@example.com");
    }
    command
}

fn run(at: &Path, args: &[&str]) -> String {
    input(at, args, b"")
}

fn input(at: &Path, args: &[&str], bytes: &[u8]) -> String {
    let mut command = git_command(at, args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// As `git lfs` commits it.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n\
    oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
