//! What tests of builds stand on: a repository, a namespace with a project `shop`, an operator for it, and what is asked of them.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use landfall::{
    api::{
        Build, Project,
        build::{BuildStatus, Outcome},
    },
    model::version::VersionRecord,
};
use serde_json::{Value, json};

use super::{
    names,
    plane::{Operator, TestNamespace, namespace},
    repository::git,
    wait::{find, until},
};

/// A script that says that it is there, and goes on when it is told so ([`Bench::go`]).
pub const WAITS: &str = "echo begun; while ! [ -e go ]; do sleep 0.1; done";

pub struct Bench {
    pub dir: tempfile::TempDir,
    pub namespace: TestNamespace,
    pub operator: Operator,
}

impl Bench {
    /// A repository with one commit, a namespace and an operator for it.
    pub async fn new(name: &str) -> Self {
        let namespace = namespace(name).await;
        let operator = Operator::start(&[&namespace.name]).await;
        Self::of(namespace, operator)
    }

    pub fn of(namespace: TestNamespace, operator: Operator) -> Self {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "-q", "--bare", "-b", "main", "origin.git"]);
        git(dir.path(), &["init", "-q", "-b", "main", "work"]);
        let bench = Self { dir, namespace, operator };
        git(&bench.work(), &["remote", "add", "origin", "../origin.git"]);
        bench.commit("main.c", "#include <stdio.h>\nint main(void) { puts(VERSION); return 0; }\n");
        bench
    }

    /// The same with a project of this script, which has to make `app`.
    pub async fn with(name: &str, script: &str) -> Self {
        let bench = Self::new(name).await;
        bench.project(json!({ "script": script, "artifacts": [{ "path": "app" }] })).await;
        bench
    }

    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub fn origin(&self) -> PathBuf {
        self.dir.path().join("origin.git")
    }

    /// Commits a file on the current branch and pushes it; the commit's id.
    pub fn commit(&self, path: &str, text: &str) -> String {
        std::fs::write(self.work().join(path), text).unwrap();
        git(&self.work(), &["add", "-A"]);
        git(&self.work(), &["commit", "-q", "-m", &format!("change {path}")]);
        git(&self.work(), &["push", "-q", "-f", "origin", "HEAD"]);
        git(&self.work(), &["rev-parse", "HEAD"])
    }

    pub fn tags(&self) -> Vec<String> {
        git(&self.origin(), &["tag", "--list"]).lines().map(str::to_owned).collect()
    }

    pub fn builds(&self) -> Api<Build> {
        self.namespace.api()
    }

    pub fn projects(&self) -> Api<Project> {
        self.namespace.api()
    }

    pub async fn project(&self, build: Value) {
        let project: Project = serde_json::from_value(json!({
            "metadata": { "name": "shop" },
            "spec": {
                "source": { "url": format!("file://{}", self.origin().display()), "interval": "1h" },
                "build": build,
                "run": { "process": { "command": ["./app"] } },
            },
        }))
        .unwrap();
        self.projects().create(&PostParams::default(), &project).await.unwrap();
    }

    pub async fn build(&self, name: &str, more: Value) -> Build {
        self.try_build(name, more).await.unwrap()
    }

    pub async fn try_build(&self, name: &str, more: Value) -> kube::Result<Build> {
        let mut spec = json!({ "projectRef": { "name": "shop" }, "revision": "main" });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let build = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap();
        self.builds().create(&PostParams::default(), &build).await
    }

    pub async fn patch(&self, name: &str, patch: Value) {
        self.builds().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub async fn retry(&self, name: &str, stamp: &str) {
        self.patch(name, json!({ "metadata": { "annotations": { "landfall.dev/retry": stamp } } })).await;
    }

    /// Waits until a Build is as wished.
    pub async fn until(&self, name: &str, what: &str, wished: impl Fn(&Build) -> bool) -> Build {
        self.operator.until(&self.builds(), name, what, wished).await
    }

    /// Lets a script go on that waits, in an attempt that has not ended.
    pub async fn go(&self, name: &str) {
        let uid = self.builds().get(name).await.unwrap().uid().unwrap();
        let attempts = self.operator.data.join("executor").join(uid);
        let waits = |attempt: &PathBuf| {
            let begun = std::fs::read_to_string(attempt.join("log")).is_ok_and(|log| log.contains("begun"));
            begun && !attempt.join("exit").exists()
        };
        let look = || async { names(&attempts).iter().map(|n| attempts.join(n)).find(waits).ok_or(()) };
        let attempt = find(&format!("begun: {name}"), look, |()| self.operator.tail()).await;
        std::fs::write(attempt.join("src/go"), "").unwrap();
    }

    pub async fn until_reason(&self, name: &str, wished: &str) -> Build {
        self.until(name, wished, |build| reason(build) == wished).await
    }

    pub async fn until_ready(&self, name: &str) -> Build {
        self.until(name, "ready", |build| condition(build, "Ready") == "True").await
    }

    pub async fn until_stalled(&self, name: &str, wished: &str) -> Build {
        let build = self
            .until(name, "stalled or ready", |b| condition(b, "Stalled") == "True" || condition(b, "Ready") == "True")
            .await;
        assert_eq!(reason(&build), wished, "{}", message(&build));
        self.until(name, "free to go", |build| build.finalizers().is_empty()).await
    }

    pub async fn until_project(&self, what: &str, wished: impl Fn(&Project) -> bool) -> Project {
        self.operator.until(&self.projects(), "shop", what, wished).await
    }

    pub fn store(&self, key: &str) -> PathBuf {
        self.operator.data.join("store").join(key)
    }

    pub fn record(&self, version: &str) -> VersionRecord {
        let path = self.store(&format!("versions/{}/shop/{version}", self.namespace.name));
        VersionRecord::from_bytes(&std::fs::read(path).unwrap()).unwrap()
    }

    /// The files of a version's release: name → bytes.
    pub fn release(&self, version: &str) -> BTreeMap<String, Vec<u8>> {
        let tar = std::fs::File::open(self.store(&format!("releases/sha256/{}", self.record(version).digest))).unwrap();
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(tar).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), bytes);
        }
        files
    }

    /// Names of the pins in the mirror.
    pub fn pins(&self) -> Vec<String> {
        let mirrors = std::fs::read_dir(self.operator.data.join("git")).unwrap().flatten();
        let mirrors = mirrors.map(|entry| entry.path()).filter(|path| path.is_dir());
        // A mirror may go while it is looked at.
        let list = |path| {
            let mut command = Command::new("git");
            command.arg("-C").arg(path).args(["for-each-ref", "--format=%(refname)", "refs/landfall/"]);
            String::from_utf8(command.output().unwrap().stdout).unwrap()
        };
        mirrors.flat_map(|path| list(path).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }
}

/// A number of seconds to sleep that nobody else uses, so that a survivor can be found by it.
pub fn mark() -> String {
    format!("{}{:04}", 9_000_000 + std::process::id(), rand::random_range(0..10_000))
}

/// How many processes of this machine sleep for that long.
pub fn processes(mark: &str) -> usize {
    let lines = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| std::fs::read(entry.path().join("cmdline")));
    lines.filter(|line| line.as_ref().is_ok_and(|line| line == format!("sleep\0{mark}\0").as_bytes())).count()
}

/// Waits until none does.
pub async fn gone(mark: &str) {
    until("ended with its test: a script", || async { processes(mark) == 0 }).await;
}

/// Waits for something that no object tells of.
pub async fn eventually(what: &str, wished: impl Fn() -> bool) {
    until(what, || async { wished() }).await;
}

pub fn condition<'a>(build: &'a Build, kind: &str) -> &'a str {
    let conditions = build.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().find(|condition| condition.type_ == kind).map_or("absent", |condition| &condition.status)
}

pub fn ready(build: &Build) -> (&str, &str) {
    let conditions = build.status.iter().flat_map(|status| &status.conditions);
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    ready.map_or(("", ""), |ready| (&ready.reason, &ready.message))
}

pub fn reason(build: &Build) -> &str {
    ready(build).0
}

pub fn message(build: &Build) -> &str {
    ready(build).1
}

pub fn status(build: &Build) -> &BuildStatus {
    build.status.as_ref().unwrap()
}

pub fn outcomes(build: &Build) -> Vec<Option<Outcome>> {
    status(build).attempts.iter().map(|attempt| attempt.outcome).collect()
}
