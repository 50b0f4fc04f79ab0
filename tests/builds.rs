//! Builds end to end: a real API server, a real operator process, real git, real scripts in a real sandbox.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::{core::v1::Secret, events::v1::Event};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use landfall::{
    api::{
        Build, Project,
        build::{BuildStatus, Outcome},
    },
    plan::version::VersionRecord,
};
use serde_json::{Value, json};
use support::{
    names,
    plane::{Operator, TestNamespace, namespace},
    wait::{find, until},
};

/// A script that says that it is there, and goes on when it is told so ([`Bench::go`]).
const WAITS: &str = "echo begun; while ! [ -e go ]; do sleep 0.1; done";

struct Bench {
    dir: tempfile::TempDir,
    namespace: TestNamespace,
    operator: Operator,
}

impl Bench {
    /// A repository with one commit, a namespace and an operator for it.
    async fn new(name: &str) -> Self {
        let namespace = namespace(name).await;
        let operator = Operator::start(&[&namespace.name]).await;
        Self::of(namespace, operator)
    }

    fn of(namespace: TestNamespace, operator: Operator) -> Self {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "-q", "--bare", "-b", "main", "origin.git"]);
        git(dir.path(), &["init", "-q", "-b", "main", "work"]);
        let bench = Self { dir, namespace, operator };
        git(&bench.work(), &["remote", "add", "origin", "../origin.git"]);
        bench.commit("main.c", "#include <stdio.h>\nint main(void) { puts(VERSION); return 0; }\n");
        bench
    }

    /// The same with a project of this script, which has to make `app`.
    async fn with(name: &str, script: &str) -> Self {
        let bench = Self::new(name).await;
        bench.project(json!({ "script": script, "artifacts": [{ "path": "app" }] })).await;
        bench
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    fn origin(&self) -> PathBuf {
        self.dir.path().join("origin.git")
    }

    /// Commits a file on the current branch and pushes it; the commit's id.
    fn commit(&self, path: &str, text: &str) -> String {
        std::fs::write(self.work().join(path), text).unwrap();
        git(&self.work(), &["add", "-A"]);
        git(&self.work(), &["commit", "-q", "-m", &format!("change {path}")]);
        git(&self.work(), &["push", "-q", "-f", "origin", "HEAD"]);
        git(&self.work(), &["rev-parse", "HEAD"])
    }

    fn tags(&self) -> Vec<String> {
        git(&self.origin(), &["tag", "--list"]).lines().map(str::to_owned).collect()
    }

    fn builds(&self) -> Api<Build> {
        self.namespace.api()
    }

    fn projects(&self) -> Api<Project> {
        self.namespace.api()
    }

    async fn project(&self, build: Value) {
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

    async fn build(&self, name: &str, more: Value) -> Build {
        self.try_build(name, more).await.unwrap()
    }

    async fn try_build(&self, name: &str, more: Value) -> kube::Result<Build> {
        let mut spec = json!({ "projectRef": { "name": "shop" }, "revision": "main" });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let build = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap();
        self.builds().create(&PostParams::default(), &build).await
    }

    async fn patch(&self, name: &str, patch: Value) {
        self.builds().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    async fn retry(&self, name: &str, stamp: &str) {
        self.patch(name, json!({ "metadata": { "annotations": { "landfall.dev/retry": stamp } } })).await;
    }

    /// Waits until a Build is as wished.
    async fn until(&self, name: &str, what: &str, wished: impl Fn(&Build) -> bool) -> Build {
        self.operator.until(&self.builds(), name, what, wished).await
    }

    /// Lets a script go on that waits, in an attempt that has not ended.
    async fn go(&self, name: &str) {
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

    async fn until_reason(&self, name: &str, wished: &str) -> Build {
        self.until(name, wished, |build| reason(build) == wished).await
    }

    async fn until_ready(&self, name: &str) -> Build {
        self.until(name, "ready", |build| condition(build, "Ready") == "True").await
    }

    async fn until_stalled(&self, name: &str, wished: &str) -> Build {
        let build = self
            .until(name, "stalled or ready", |b| condition(b, "Stalled") == "True" || condition(b, "Ready") == "True")
            .await;
        assert_eq!(reason(&build), wished, "{}", message(&build));
        self.until(name, "free to go", |build| build.finalizers().is_empty()).await
    }

    async fn until_project(&self, what: &str, wished: impl Fn(&Project) -> bool) -> Project {
        self.operator.until(&self.projects(), "shop", what, wished).await
    }

    fn store(&self, key: &str) -> PathBuf {
        self.operator.data.join("store").join(key)
    }

    fn record(&self, version: &str) -> VersionRecord {
        let path = self.store(&format!("versions/{}/shop/{version}", self.namespace.name));
        VersionRecord::from_bytes(&std::fs::read(path).unwrap()).unwrap()
    }

    /// The files of a version's release: name → bytes.
    fn release(&self, version: &str) -> BTreeMap<String, Vec<u8>> {
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
    fn pins(&self) -> Vec<String> {
        let mirrors = std::fs::read_dir(self.operator.data.join("git")).unwrap().flatten();
        let mirrors = mirrors.map(|entry| entry.path()).filter(|path| path.is_dir());
        // A mirror may go while it is looked at.
        let list = |path: &Path| git_output(path, &["for-each-ref", "--format=%(refname)", "refs/landfall/"]).stdout;
        mirrors
            .flat_map(|path| String::from_utf8(list(&path)).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }
}

/// A number of seconds to sleep that nobody else uses, so that a survivor can be found by it.
fn mark() -> String {
    format!("{}{:04}", 9_000_000 + std::process::id(), rand::random_range(0..10_000))
}

/// How many processes of this machine sleep for that long.
fn processes(mark: &str) -> usize {
    let lines = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| std::fs::read(entry.path().join("cmdline")));
    lines.filter(|line| line.as_ref().is_ok_and(|line| line == format!("sleep\0{mark}\0").as_bytes())).count()
}

/// Waits until none does.
async fn gone(mark: &str) {
    until("ended with its test: a script", || async { processes(mark) == 0 }).await;
}

/// Waits for something that no object tells of.
async fn eventually(what: &str, wished: impl Fn() -> bool) {
    until(what, || async { wished() }).await;
}

fn git_output(dir: &Path, arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new("git");
    command.current_dir(dir);
    command.args(["-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-c", "advice.detachedHead=false"]);
    command.args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap()
}

fn git(dir: &Path, arguments: &[&str]) -> String {
    let output = git_output(dir, arguments);
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn condition<'a>(build: &'a Build, kind: &str) -> &'a str {
    let conditions = build.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().find(|condition| condition.type_ == kind).map_or("absent", |condition| &condition.status)
}

fn ready(build: &Build) -> (&str, &str) {
    let conditions = build.status.iter().flat_map(|status| &status.conditions);
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    ready.map_or(("", ""), |ready| (&ready.reason, &ready.message))
}

fn reason(build: &Build) -> &str {
    ready(build).0
}

fn message(build: &Build) -> &str {
    ready(build).1
}

fn status(build: &Build) -> &BuildStatus {
    build.status.as_ref().unwrap()
}

fn outcomes(build: &Build) -> Vec<Option<Outcome>> {
    status(build).attempts.iter().map(|attempt| attempt.outcome).collect()
}

#[tokio::test]
async fn a_commit_is_compiled_tagged_and_published() {
    let bench = Bench::new("happy").await;
    let head = git(&bench.work(), &["rev-parse", "HEAD"]);
    bench
        .project(json!({
            "script": "cc -DVERSION=\"\\\"$LANDFALL_VERSION\\\"\" -o app main.c\nmkdir etc && echo \"$GREETING $PROFILE $LANDFALL_BRANCH $CI\" > etc/motd",
            "env": [{ "name": "GREETING", "value": "hello" }],
            "parameters": [{ "name": "PROFILE", "default": "prod" }],
            "artifacts": [{ "path": "app", "as": "bin/app" }, { "path": "etc" }],
            "tag": { "template": "v1.{number}" },
        }))
        .await;
    bench.build("shop-1", json!({})).await;
    let build = bench.until_ready("shop-1").await;
    let (now, record) = (status(&build), bench.record("v1.1"));
    assert_eq!((now.version.as_deref(), now.number), (Some("v1.1"), Some(1)));
    assert_eq!(
        (now.commit.as_ref().unwrap().sha.as_str(), now.commit.as_ref().unwrap().branch.as_str()),
        (&*head, "main")
    );
    assert_eq!(outcomes(&build), [Some(Outcome::Succeeded)]);
    assert_eq!((condition(&build, "Succeeded"), condition(&build, "Tagged")), ("True", "True"));
    assert_eq!(now.digest, Some(format!("sha256:{}", record.digest)));
    assert_eq!((record.commit, record.build_uid), (head.clone(), build.uid().unwrap()));
    let release = bench.release("v1.1");
    assert_eq!(release["etc/motd"], b"hello prod main true\n");
    let app = bench.dir.path().join("app");
    std::fs::write(&app, &release["bin/app"]).unwrap();
    Command::new("chmod").args(["+x", app.to_str().unwrap()]).status().unwrap();
    assert_eq!(Command::new(&app).output().unwrap().stdout, b"v1.1\n", "the program itself says its version");
    assert_eq!(git(&bench.origin(), &["cat-file", "-t", "v1.1"]), "tag", "an annotated one");
    assert_eq!(git(&bench.origin(), &["rev-parse", "v1.1^{commit}"]), head);
    let project = bench.until_project("showing the version", |project| {
        project.status.as_ref().is_some_and(|status| status.versions.len() == 1 && status.active_build.is_none())
    });
    let project = project.await.status.unwrap();
    assert_eq!((project.last_number, project.queued_builds), (1, 0));
    assert_eq!(project.branches[0].commits[0].version.as_deref(), Some("v1.1"), "the commit bears its version");
    bench.until("shop-1", "free to go", |build| build.finalizers().is_empty()).await;
}

#[tokio::test]
async fn two_builds_of_one_project_never_run_at_once_and_the_others_know_their_place() {
    let bench = Bench::new("queue").await;
    let script = format!("if [ \"$LANDFALL_BUILD_NUMBER\" = 1 ]; then {WAITS}; fi; echo x > app");
    bench
        .project(json!({ "script": script, "artifacts": [{ "path": "app" }], "tag": { "template": "v{number}" } }))
        .await;
    bench.build("shop-a", json!({})).await;
    bench.until_reason("shop-a", "Building").await;
    bench.build("shop-b", json!({})).await;
    bench.until_reason("shop-b", "Queued").await;
    tokio::time::sleep(Duration::from_millis(1100)).await; // creation times have seconds
    bench.build("shop-c", json!({})).await;
    let place = |position: i32| {
        move |build: &Build| {
            let queue = build.status.as_ref().and_then(|status| status.queue.as_ref());
            queue.is_some_and(|queue| queue.position == position && queue.waiting_for.is_some())
        }
    };
    bench.until("shop-c", "second in line", place(2)).await;
    bench.until("shop-b", "first in line", place(1)).await;
    bench.go("shop-a").await;
    let mut numbers = Vec::new();
    for name in ["shop-a", "shop-b", "shop-c"] {
        let build = bench.until_ready(name).await;
        let attempt = &status(&build).attempts[0];
        numbers.push(status(&build).number.unwrap());
        assert!(status(&build).queue.is_none());
        if name != "shop-c" {
            continue;
        }
        let before = bench.builds().get("shop-b").await.unwrap();
        let end = status(&before).attempts[0].completed_at.clone().unwrap();
        assert!(end.0 <= attempt.started_at.0, "b had ended before c began");
    }
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(bench.tags(), ["v1", "v2", "v3"]);
}

#[tokio::test]
async fn a_script_that_fails_says_its_last_lines_and_a_retry_keeps_number_and_version() {
    let bench = Bench::with("retry", "echo first; echo \"no rule to make target\" >&2; exit 3").await;
    bench.build("shop-1", json!({})).await;
    let build = bench.until_stalled("shop-1", "ScriptFailed").await;
    assert!(
        message(&build).contains("exit code 3") && message(&build).contains("no rule to make target"),
        "{}",
        message(&build)
    );
    let first = &status(&build).attempts[0];
    assert_eq!((first.exit_code, first.outcome), (Some(3), Some(Outcome::Failed)));
    assert_eq!(first.last_lines, ["first", "no rule to make target"]);
    assert_eq!(condition(&build, "Succeeded"), "False");
    assert!(bench.tags().is_empty());
    let version = status(&build).version.clone();
    bench.retry("shop-1", "1").await;
    let build = bench.until("shop-1", "tried twice", |build| outcomes(build) == [Some(Outcome::Failed); 2]).await;
    assert_eq!((status(&build).number, &status(&build).version), (Some(1), &version));
    assert_eq!(status(&build).last_handled["landfall.dev/retry"], "1");
}

#[tokio::test]
async fn a_script_that_takes_too_long_is_ended() {
    let bench = Bench::new("timeout").await;
    bench.project(json!({ "script": "while :; do echo x; sleep 0.1; done", "artifacts": [{ "path": "app" }], "timeoutSeconds": 1 })).await;
    bench.build("shop-1", json!({})).await;
    let build = bench.until_stalled("shop-1", "TimedOut").await;
    assert!(message(&build).contains("timeoutSeconds (1)"), "{}", message(&build));
}

#[tokio::test]
async fn a_script_that_says_nothing_for_too_long_is_ended() {
    let bench = Bench::new("idle").await;
    bench
        .project(
            json!({ "script": "echo begin; sleep 3600", "artifacts": [{ "path": "app" }], "idleTimeoutSeconds": 4 }),
        )
        .await;
    bench.build("shop-1", json!({})).await;
    let build = bench.until_stalled("shop-1", "IdleTimedOut").await;
    assert_eq!(status(&build).attempts[0].last_lines[0], "begin");
}

#[tokio::test]
async fn a_build_is_cancelled_while_it_runs_and_while_it_waits_and_a_retry_runs_it_again() {
    let sleep = mark();
    let bench = Bench::with("cancel", "test -e ../../never; echo begin").await;
    bench.build("shop-1", json!({})).await;
    bench.until_stalled("shop-1", "ScriptFailed").await;
    bench
        .projects()
        .patch(
            "shop",
            &PatchParams::default(),
            &Patch::Merge(json!({ "spec": { "build": { "script": format!("sleep {sleep}") } } })),
        )
        .await
        .unwrap();
    bench.build("shop-2", json!({})).await;
    bench.until_reason("shop-2", "Building").await;
    bench.build("shop-3", json!({})).await;
    bench.until_reason("shop-3", "Queued").await;
    for name in ["shop-3", "shop-2"] {
        bench.patch(name, json!({ "spec": { "cancelled": true } })).await;
        bench.until_stalled(name, "Cancelled").await;
    }
    let build = bench.builds().get("shop-2").await.unwrap();
    assert_eq!(outcomes(&build), [Some(Outcome::Cancelled)]);
    assert_eq!(processes(&sleep), 0, "nothing of it lives on");
    bench.retry("shop-2", "1").await;
    let running =
        bench.until("shop-2", "running again", |build| outcomes(build).len() == 2 && reason(build) == "Building");
    running.await;
    eventually("up", || processes(&sleep) == 1).await;
    drop(bench);
    gone(&sleep).await;
}

#[tokio::test]
async fn children_that_leave_their_session_do_not_outlive_the_script() {
    let sleep = mark();
    let bench = Bench::with(
        "children",
        &format!(
            "setsid sh -c 'trap \"\" TERM HUP; touch up; sleep {sleep}' >/dev/null 2>&1 &\nwhile ! [ -e up ]; do sleep 0.1; done; echo x > app"
        ),
    )
    .await;
    bench.build("shop-1", json!({})).await;
    bench.until_ready("shop-1").await;
    assert_eq!(processes(&sleep), 0);
}

#[tokio::test]
async fn a_hundred_megabytes_of_output_do_no_harm() {
    let bench = Bench::with("output", "head -c 100000000 /dev/urandom; echo; echo the end; echo x > app").await;
    bench.build("shop-1", json!({})).await;
    let build = bench.until_ready("shop-1").await;
    assert!(status(&build).attempts[0].log_bytes.unwrap() > 1_000_000);
}

#[tokio::test]
async fn parameters_are_checked_before_anything_is_queued() {
    let bench = Bench::new("parameters").await;
    bench
        .project(json!({
            "script": "printf %s \"$NOTE\" > app",
            "parameters": [
                { "name": "PROFILE", "default": "prod", "enum": ["prod", "test"] },
                { "name": "SKIP", "type": "Boolean", "default": "false" },
                { "name": "NOTE" },
            ],
            "artifacts": [{ "path": "app" }],
        }))
        .await;
    for (name, parameters, reason, says) in [
        ("unknown", json!({ "NOTE": "x", "NOPE": "x" }), "ParameterUnknown", "PROFILE, SKIP, NOTE"),
        ("missing", json!({}), "ParameterMissing", "spec.parameters.NOTE"),
        ("type", json!({ "NOTE": "x", "SKIP": "yes" }), "ParameterInvalid", "\"true\" or \"false\""),
        ("choice", json!({ "NOTE": "x", "PROFILE": "dev" }), "ParameterInvalid", "one of prod, test"),
    ] {
        bench.build(name, json!({ "parameters": parameters })).await;
        let build = bench.until_stalled(name, reason).await;
        assert!(message(&build).contains(says), "{}", message(&build));
        assert!(status(&build).number.is_none(), "it was never granted");
    }
    let hostile = "$(touch /tmp/landfall-pwned) `id`; exit 1 # ' \" \n && | > *";
    bench.build("hostile", json!({ "parameters": { "NOTE": hostile } })).await;
    let build = bench.until_ready("hostile").await;
    let version = status(&build).version.clone().unwrap();
    assert_eq!(bench.release(&version)["app"], hostile.as_bytes(), "shell characters are data like any other");
}

#[tokio::test]
async fn artifacts_that_can_not_be_packed_fail_the_build_and_say_why() {
    let bench = Bench::new("artifacts").await;
    bench
        .project(
            json!({ "script": "case $KIND in two) echo a > a.jar; echo b > b.jar;; out) ln -s /etc/passwd c.jar;; up) ln -s ../../../step.json c.jar;; esac",
        "parameters": [{ "name": "KIND" }], "artifacts": [{ "path": "*.jar", "as": "app.jar" }] }),
        )
        .await;
    for (kind, reason) in
        [("none", "ArtifactMissing"), ("two", "ArtifactClash"), ("out", "ArtifactOutside"), ("up", "ArtifactOutside")]
    {
        bench.build(kind, json!({ "parameters": { "KIND": kind } })).await;
        let build = bench.until_stalled(kind, reason).await;
        assert!(message(&build).contains("jar"), "{}", message(&build));
        assert_eq!(outcomes(&build), [Some(Outcome::Failed)]);
    }
    assert!(bench.tags().is_empty());
    for path in ["../step.json", "/etc/passwd", "a/../../x"] {
        let patch = Patch::Merge(json!({ "spec": { "build": { "artifacts": [{ "path": path }] } } }));
        let refused = bench.projects().patch("shop", &PatchParams::default(), &patch).await.unwrap_err().to_string();
        assert!(refused.contains("relative to the checkout"), "{refused}");
    }
}

#[tokio::test]
async fn a_release_of_50000_files_is_published_and_its_status_stays_small() {
    let bench = Bench::new("manyfiles").await;
    let script = "mkdir -p app/files && cd app/files && seq -f %05.0f 1 50000 | xargs touch";
    bench.project(json!({ "script": script, "artifacts": [{ "path": "app" }] })).await;
    bench.build("shop-1", json!({})).await;
    let build = bench.until_ready("shop-1").await;
    let told = status(&build);
    assert_eq!((told.artifact_count, told.artifacts.len()), (Some(50_000), 100));
    assert_eq!(told.artifacts[99].name, "app/files/00100");
    assert!(serde_json::to_vec(&build).unwrap().len() < 64 * 1024);
    assert_eq!(bench.release(told.version.as_ref().unwrap()).len(), 50_003, "with its folders and run.json");
    // The next one has its turn.
    bench.build("shop-2", json!({})).await;
    bench
        .until("shop-2", "granted", |build| build.status.as_ref().is_some_and(|status| status.number == Some(2)))
        .await;
}

#[tokio::test]
async fn a_tag_on_another_commit_stops_the_build_before_its_script() {
    let bench = Bench::with("tagconflict", "echo x > app").await;
    git(&bench.work(), &["tag", "v1"]);
    git(&bench.work(), &["push", "-q", "origin", "v1"]);
    bench.commit("more", "x");
    bench.build("shop-1", json!({ "tag": "v1" })).await;
    let build = bench.until_stalled("shop-1", "TagConflict").await;
    assert!(status(&build).attempts.is_empty(), "the script did not run");
}

#[tokio::test]
async fn a_version_belongs_to_one_build() {
    let bench = Bench::with("version", "echo x > app").await;
    bench.build("shop-1", json!({ "tag": "v1" })).await;
    bench.until_ready("shop-1").await;
    bench.build("shop-2", json!({ "tag": "v1" })).await;
    bench.until_stalled("shop-2", "VersionExists").await;
}

#[tokio::test]
async fn version_names_that_are_paths_or_options_are_refused_by_the_api_server() {
    let bench = Bench::with("names", "echo x > app").await;
    for (n, tag) in ["..", "-rf", "a/b", "v1.lock", "a b", "v1\n"].into_iter().enumerate() {
        let refused = bench.try_build(&format!("shop-{n}"), json!({ "tag": tag })).await;
        assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 422), "{tag:?}");
    }
}

#[tokio::test]
async fn a_push_that_the_repository_refuses_keeps_the_release_and_a_retry_tags_only() {
    let bench = Bench::with("refused", "echo $$ > app").await;
    // libgit2 runs no hooks of a local repository, but it does not push to one with a work tree.
    git(&bench.origin(), &["config", "core.bare", "false"]);
    bench.build("shop-1", json!({ "tag": "v1" })).await;
    let build = bench.until_stalled("shop-1", "PushRefused").await;
    assert_eq!((condition(&build, "Succeeded"), condition(&build, "Tagged")), ("True", "False"));
    let digest = status(&build).digest.clone();
    git(&bench.origin(), &["config", "core.bare", "true"]);
    bench.retry("shop-1", "1").await;
    let build = bench.until_ready("shop-1").await;
    assert_eq!((status(&build).digest.clone(), status(&build).attempts.len()), (digest, 1), "nothing was built again");
    assert_eq!(bench.tags(), ["v1"]);
}

#[tokio::test]
async fn without_push_the_version_is_published_and_the_condition_says_so() {
    let bench = Bench::new("nopush").await;
    bench.project(json!({ "script": "echo x > app", "artifacts": [{ "path": "app" }], "tag": { "template": "v{number}", "push": false } })).await;
    bench.build("shop-1", json!({})).await;
    let build = bench.until_ready("shop-1").await;
    assert_eq!(condition(&build, "Tagged"), "False");
    assert!(bench.tags().is_empty());
    assert_eq!(bench.record("v1").version, "v1");
}

#[tokio::test]
async fn a_branch_that_is_force_pushed_while_the_build_waits_changes_nothing() {
    let script = format!("if [ \"$LANDFALL_BUILD_NUMBER\" = 1 ]; then {WAITS}; fi; cp main.c app");
    let bench = Bench::with("force", &script).await;
    let first = git(&bench.work(), &["rev-parse", "HEAD"]);
    bench.build("shop-1", json!({})).await;
    bench.until_reason("shop-1", "Building").await;
    bench.build("shop-2", json!({ "tag": "v2" })).await;
    bench.until_reason("shop-2", "Queued").await;
    git(&bench.work(), &["commit", "-q", "--amend", "-m", "rewritten"]);
    let head = bench.commit("main.c", "rewritten\n");
    bench.look("main", &head).await;
    bench.go("shop-1").await;
    let build = bench.until_ready("shop-2").await;
    assert_eq!(status(&build).commit.as_ref().unwrap().sha, first);
    assert!(bench.release("v2")["app"].starts_with(b"#include"));
}

#[tokio::test]
async fn a_build_waits_for_a_project_that_comes_later() {
    let bench = Bench::new("later").await;
    bench.build("shop-1", json!({ "tag": "v1" })).await;
    let build = bench.until_reason("shop-1", "ProjectNotFound").await;
    assert_eq!((condition(&build, "Reconciling"), condition(&build, "Ready")), ("True", "False"));
    bench.project(json!({ "script": "echo x > app", "artifacts": [{ "path": "app" }] })).await;
    bench.until_ready("shop-1").await;
}

#[tokio::test]
async fn a_revision_that_is_not_there_or_not_allowed_ends_the_build() {
    let bench = Bench::new("revision").await;
    git(&bench.work(), &["checkout", "-q", "-b", "wild"]);
    let wild = bench.commit("wild", "x");
    bench.project(json!({ "script": "echo x > app", "artifacts": [{ "path": "app" }] })).await;
    let only_main = json!({ "spec": { "source": { "branches": ["main"] } } });
    bench.projects().patch("shop", &PatchParams::default(), &Patch::Merge(only_main)).await.unwrap();
    bench.build("shop-1", json!({ "revision": "nowhere" })).await;
    bench.build("shop-2", json!({ "revision": wild })).await;
    bench.until_stalled("shop-1", "RevisionNotFound").await;
    bench.until_stalled("shop-2", "CommitNotOnBranch").await;
}

#[tokio::test]
async fn a_build_that_is_deleted_in_the_middle_ends_its_script_and_frees_its_turn() {
    let sleep = mark();
    let script = format!("if [ \"$LANDFALL_BUILD_NUMBER\" = 1 ]; then echo up; sleep {sleep}; fi; echo x > app");
    let bench = Bench::with("deleted", &script).await;
    let uid = bench.build("shop-1", json!({})).await.uid().unwrap();
    bench.until_reason("shop-1", "Building").await;
    bench.build("shop-2", json!({ "tag": "v2" })).await;
    bench.until_reason("shop-2", "Queued").await;
    eventually("up", || processes(&sleep) == 1).await;
    bench.builds().delete("shop-1", &DeleteParams::default()).await.unwrap();
    bench.until_ready("shop-2").await;
    assert_eq!(processes(&sleep), 0);
    until("gone", || async { bench.builds().get_opt("shop-1").await.unwrap().is_none() }).await;
    let folder = bench.operator.data.join("executor").join(&uid);
    eventually("tidied up after", || !folder.exists() && !bench.pins().iter().any(|pin| pin.contains(&uid))).await;
    let left = ["logs", "builds"].map(|kind| bench.store(&format!("{kind}/{uid}")));
    eventually("without what it said and its records", || left.iter().all(|left| !left.exists())).await;
}

#[tokio::test]
async fn what_builds_leave_goes_when_nobody_needs_it_and_not_before() {
    let mut bench = Bench::new("leftovers").await;
    let script = "echo said; test \"$LANDFALL_VERSION\" != v1; echo x > app";
    bench.project(json!({ "script": script, "artifacts": [{ "path": "app" }] })).await;
    let failed = bench.build("failed", json!({ "tag": "v1" })).await.uid().unwrap();
    bench.until_stalled("failed", "ScriptFailed").await;
    let good = bench.build("good", json!({ "tag": "v2" })).await.uid().unwrap();
    bench.until_ready("good").await;
    let attempts = bench.operator.data.join("executor");
    let names = |uid: &str| {
        let entries = std::fs::read_dir(attempts.join(uid).join("1")).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect::<std::collections::BTreeSet<_>>()
    };
    for uid in [&failed, &good] {
        eventually("without its checkout", || !names(uid).contains("src")).await;
        assert_eq!(std::fs::read_to_string(attempts.join(uid).join("1/log")).unwrap(), "said\n", "logs stay readable");
    }
    eventually("unpinned", || bench.pins() == [format!("refs/landfall/{}.{failed}", bench.namespace.name)]).await;
    // While no operator runs a Build goes, and a writer was killed an hour ago.
    bench.operator.kill9().await;
    bench.builds().delete("good", &DeleteParams::default()).await.unwrap();
    let left = bench.store("incoming/.tmpLeft");
    std::fs::write(&left, "half a release").unwrap();
    let fresh = bench.store("incoming/.tmpFresh");
    std::fs::write(&fresh, "a release on its way").unwrap();
    std::fs::File::open(&left).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    bench.operator.restart().await;
    eventually("swept", || !attempts.join(&good).exists() && !left.exists()).await;
    // A Build that goes before the new operator knew of it is the next sweep's.
    bench.build("known", json!({ "tag": "v3", "cancelled": true })).await;
    bench.until_stalled("known", "Cancelled").await;
    assert!(fresh.exists() && attempts.join(&failed).exists() && bench.record("v2").build_uid == good);
    let pin = format!("refs/landfall/{}.{failed}", bench.namespace.name);
    assert!(bench.pins().contains(&pin), "a failed Build can still be tried again");
    for name in ["failed", "known"] {
        bench.builds().delete(name, &DeleteParams::default()).await.unwrap();
    }
    eventually("swept as well", || !attempts.join(&failed).exists() && bench.pins().is_empty()).await;
}

#[tokio::test]
async fn a_mirror_goes_when_no_project_names_it_and_no_build_needs_it_whenever_the_operator_is_killed() {
    let mut bench = Bench::with("mirrors", "test \"$LANDFALL_VERSION\" = v2; echo x > app").await;
    let of_version = |tag: &str| json!({ "tag": tag });
    bench.build("failed", of_version("v1")).await;
    bench.until_stalled("failed", "ScriptFailed").await;
    let folder = bench.operator.data.join("git");
    let mirrors = || {
        let entries = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path());
        entries.filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let [mirror] = mirrors().try_into().unwrap();
    // An hour passes for it while no operator runs.
    let rest = || std::fs::File::open(mirror.join("landfall/namespace")).unwrap().set_modified(std::time::UNIX_EPOCH);
    let stale = bench.store("incoming/.tmpLeft");
    let litter = || {
        std::fs::create_dir_all(stale.parent().unwrap()).unwrap();
        std::fs::write(&stale, "half a release").unwrap();
        std::fs::File::open(&stale).unwrap().set_modified(std::time::UNIX_EPOCH)
    };
    bench.operator.kill9().await;
    bench.projects().delete("shop", &DeleteParams::default()).await.unwrap();
    rest().unwrap();
    litter().unwrap();
    bench.operator.restart().await;
    // That is the last that a sweep does.
    eventually("swept", || !stale.exists()).await;
    assert_eq!(mirrors(), std::slice::from_ref(&mirror), "a failed Build can be tried again");
    bench.builds().delete("failed", &DeleteParams::default()).await.unwrap();
    eventually("unpinned", || bench.pins().is_empty()).await;
    bench.operator.kill9().await;
    let going = folder.join("0.going");
    std::fs::create_dir(&going).unwrap();
    rest().unwrap();
    for (point, left) in [("before git.forget *#2", 1), ("after git.forget *#1", 0)] {
        bench.operator.restart_with(|plan| plan.env("LANDFALL_CRASH_AT", point)).await;
        bench.operator.wait().await;
        assert_eq!(mirrors().len(), left, "{point}");
    }
    bench.operator.unset("LANDFALL_CRASH_AT");
    litter().unwrap();
    bench.operator.restart().await;
    eventually("swept", || !stale.exists()).await;
    assert_eq!(mirrors(), [] as [PathBuf; 0]);
    // Another Project of that repository begins anew.
    bench.project(json!({ "script": "echo x > app", "artifacts": [{ "path": "app" }] })).await;
    bench.build("good", of_version("v2")).await;
    bench.until_ready("good").await;
    assert_eq!(mirrors(), std::slice::from_ref(&mirror));
}

#[tokio::test]
async fn an_operator_that_is_killed_continues_the_same_build() {
    let mut bench = Bench::with("killed", &format!("{WAITS}; date +%s%N > app")).await;
    bench.build("shop-1", json!({ "tag": "v1" })).await;
    bench.until_reason("shop-1", "Building").await;
    bench.operator.restart().await;
    bench.go("shop-1").await;
    let build = bench.until_ready("shop-1").await;
    assert_eq!(outcomes(&build), [Some(Outcome::Succeeded)], "one attempt, run once");
    assert_eq!(bench.tags(), ["v1"]);
}

#[tokio::test]
async fn a_project_shows_its_branches_and_looks_again_when_asked() {
    let bench = Bench::with("listing", "echo x > app").await;
    let shows = |head: String| {
        move |project: &Project| {
            let branches = project.status.iter().flat_map(|status| &status.branches);
            branches
                .into_iter()
                .any(|branch| branch.name == "main" && branch.head == head && branch.commits[0].sha == head)
        }
    };
    bench.until_project("listed", shows(git(&bench.work(), &["rev-parse", "HEAD"]))).await;
    let head = bench.commit("more", "x");
    let refresh = json!({ "metadata": { "annotations": { "landfall.dev/refresh": "now" } } });
    bench.projects().patch("shop", &PatchParams::default(), &Patch::Merge(refresh)).await.unwrap();
    bench.until_project("listed again", shows(head)).await;
}

#[tokio::test]
async fn a_source_that_goes_and_comes_back_heals_by_itself() {
    let bench = Bench::new("source").await;
    let aside = bench.dir.path().join("aside.git");
    std::fs::rename(bench.origin(), &aside).unwrap();
    bench.project(json!({ "script": "echo x > app", "artifacts": [{ "path": "app" }] })).await;
    let is = |wished: &'static str| {
        move |project: &Project| {
            let conditions = project.status.iter().flat_map(|status| &status.conditions);
            conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.reason == wished)
        }
    };
    let project = bench.until_project("unreachable", is("SourceUnreachable")).await;
    assert!(project.status.unwrap().backoff.is_some());
    std::fs::rename(&aside, bench.origin()).unwrap();
    bench.until_project("listed", is("SourceListed")).await;
}

#[tokio::test]
async fn where_it_is_forbidden_a_build_that_comes_while_another_runs_ends_and_a_retry_works_later() {
    let bench = Bench::new("forbid").await;
    let script = format!("if [ \"$LANDFALL_VERSION\" = v1 ]; then {WAITS}; fi; echo x > app");
    bench.project(json!({ "script": script, "artifacts": [{ "path": "app" }], "concurrencyPolicy": "Forbid" })).await;
    bench.build("shop-1", json!({ "tag": "v1" })).await;
    bench.until_reason("shop-1", "Building").await;
    bench.build("shop-2", json!({ "tag": "v2" })).await;
    let build = bench.until_stalled("shop-2", "ConcurrencyForbidden").await;
    assert!(message(&build).contains("build shop-1 is under way"), "{}", message(&build));
    assert_eq!((status(&build).number, status(&build).attempts.len()), (None, 0));
    bench.go("shop-1").await;
    bench.until_ready("shop-1").await;
    bench.retry("shop-2", "1").await;
    bench.until_ready("shop-2").await;
    assert_eq!(bench.tags(), ["v1", "v2"]);
}

#[tokio::test]
async fn the_newest_build_replaces_the_one_that_runs_and_those_that_wait_also_when_the_operator_is_killed() {
    let mut bench = Bench::new("replace").await;
    let sleep = mark();
    let script = format!("case $LANDFALL_VERSION in v1) sleep {sleep};; v3) {WAITS};; esac; echo x > app");
    bench.project(json!({ "script": script, "artifacts": [{ "path": "app" }], "concurrencyPolicy": "Replace" })).await;
    bench.build("shop-1", json!({ "tag": "v1" })).await;
    bench.until_reason("shop-1", "Building").await;
    tokio::time::sleep(Duration::from_millis(1100)).await; // creation times have seconds
    bench.build("shop-2", json!({ "tag": "v2", "parameters": { "NOPE": "x" } })).await;
    bench.until_stalled("shop-2", "ParameterUnknown").await;
    assert_eq!(
        reason(&bench.builds().get("shop-1").await.unwrap()),
        "Building",
        "what can't be built replaces nothing"
    );
    bench.operator.kill9().await;
    bench.build("shop-3", json!({ "tag": "v3" })).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    bench.build("shop-4", json!({ "tag": "v4" })).await;
    bench.operator.restart().await;
    bench.until_ready("shop-4").await;
    let first = bench.until_stalled("shop-1", "Superseded").await;
    // Of those that came while nobody looked one is seen first.
    assert!(["shop-3", "shop-4"].map(Some).contains(&status(&first).superseded_by.as_deref()), "{first:?}");
    assert_eq!(outcomes(&first), [Some(Outcome::Cancelled)]);
    assert_eq!(processes(&sleep), 0);
    let third = bench.until_stalled("shop-3", "Superseded").await;
    assert_eq!(status(&third).superseded_by.as_deref(), Some("shop-4"), "{}", message(&third));
    assert_eq!(bench.tags(), ["v4"]);
    bench.retry("shop-3", "1").await;
    bench.go("shop-3").await;
    let third = bench.until_ready("shop-3").await;
    assert_eq!(status(&third).superseded_by, None);
}

/// What `build.trigger` makes of pushes.
impl Bench {
    async fn triggering(name: &str, on_push: &[&str]) -> Self {
        let bench = Self::new(name).await;
        bench
            .project(json!({
                "script": "echo $LANDFALL_BRANCH > app", "artifacts": [{ "path": "app" }],
                "trigger": { "onPush": on_push }, "tag": { "template": "v{number}" },
            }))
            .await;
        bench.until_watching().await;
        bench
    }

    /// The names of the records in the store.
    async fn pushes(&self) -> Vec<String> {
        let uid = self.projects().get("shop").await.unwrap().uid().unwrap();
        names(&self.store(&format!("triggers/{uid}")))
    }

    async fn watching(&self) -> bool {
        self.pushes().await.iter().any(|name| name.starts_with("baseline-"))
    }

    async fn until_watching(&self) {
        until("watching: no baseline", || self.watching()).await;
    }

    async fn patch_project(&self, patch: Value) {
        self.projects().patch("shop", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Has the operator look at the repository, and waits until it has.
    async fn look(&self, branch: &str, head: &str) {
        let stamp = format!("{branch} {head} {:08x}", rand::random::<u32>());
        self.patch_project(json!({ "metadata": { "annotations": { "landfall.dev/refresh": stamp } } })).await;
        self.until_project("listed again", |project| {
            let branches = project.status.iter().flat_map(|status| &status.branches);
            branches.into_iter().any(|shown| shown.name == branch && shown.head == head)
        })
        .await;
    }

    async fn names(&self) -> Vec<String> {
        self.builds().list(&Default::default()).await.unwrap().items.iter().map(ResourceExt::name_any).collect()
    }
}

fn triggered(sha: &str) -> String {
    format!("shop-{}", &sha[..12])
}

#[tokio::test]
async fn a_push_is_built_once_and_what_was_there_before_is_not() {
    let mut bench = Bench::triggering("push", &["main", "release/*"]).await;
    bench.patch_project(json!({ "metadata": { "labels": { "app": "x" }, "annotations": { "argocd.argoproj.io/tracking-id": "a" } } })).await;
    assert!(bench.names().await.is_empty(), "history is not built");
    let first = bench.commit("main.c", "one");
    bench.look("main", &first).await;
    let build = bench.until_ready(&triggered(&first)).await;
    assert_eq!((build.spec.revision.as_str(), bench.release("v1")["app"].as_slice()), (first.as_str(), &b"main\n"[..]));
    assert_eq!(build.owner_references()[0].uid, bench.projects().get("shop").await.unwrap().uid().unwrap());
    assert_eq!(build.labels().keys().collect::<Vec<_>>(), ["landfall.dev/trigger"], "nothing of the project's own");
    assert_eq!(build.annotations().keys().collect::<Vec<_>>(), ["landfall.dev/branch"]);

    git(&bench.work(), &["checkout", "-q", "-b", "wild"]);
    let wild = bench.commit("main.c", "wild");
    bench.look("wild", &wild).await;
    bench.operator.kill9().await;
    git(&bench.work(), &["checkout", "-q", "-b", "release/1", "main"]);
    let release = bench.commit("main.c", "while nobody looked");
    bench.operator.restart().await;
    let build = bench.until_ready(&triggered(&release)).await;
    assert_eq!(status(&build).commit.as_ref().unwrap().branch, "release/1");
    assert_eq!(bench.names().await.len(), 2, "one each, and none of the branch that is not named");

    bench.builds().delete(&triggered(&first), &DeleteParams::default()).await.unwrap();
    bench.patch_project(json!({ "spec": { "build": { "trigger": null } } })).await;
    until("forgotten: the baseline", || async { !bench.watching().await }).await;
    let unwatched = bench.commit("main.c", "while there is no trigger");
    bench.patch_project(json!({ "spec": { "build": { "trigger": { "onPush": ["**"] } } } })).await;
    bench.look("release/1", &unwatched).await;
    bench.until_watching().await;
    let last = bench.commit("main.c", "last");
    bench.look("release/1", &last).await;
    bench.until_ready(&triggered(&last)).await;
    let mut names = bench.names().await;
    names.sort();
    let mut wished = [triggered(&last), triggered(&release)];
    wished.sort();
    assert_eq!(names, wished, "neither the deleted one, nor what was pushed while there was no trigger");
}

#[tokio::test]
async fn a_build_that_can_not_be_created_is_said_and_comes_when_it_can() {
    let bench = Bench::triggering("notrigger", &["main"]).await;
    let head = bench.commit("main.c", "one");
    bench.build(&triggered(&head), json!({ "revision": "nowhere" })).await;
    bench.look("main", &head).await;
    let is = |wished: &'static str| {
        move |project: &Project| {
            let conditions = project.status.iter().flat_map(|status| &status.conditions);
            conditions.into_iter().any(|condition| condition.type_ == "Triggered" && condition.status == wished)
        }
    };
    let project = bench.until_project("saying so", is("False")).await;
    let conditions = project.status.unwrap().conditions;
    let said = conditions.iter().find(|condition| condition.type_ == "Triggered").unwrap();
    assert!(said.reason == "TriggerFailed" && said.message.contains("delete that one"), "{}", said.message);
    bench.builds().delete(&triggered(&head), &DeleteParams::default()).await.unwrap();
    bench.until_ready(&triggered(&head)).await;
    bench.until_project("fine again", is("True")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_a_push_and_the_record_of_its_build_makes_one_build() {
    let story = |point: &'static str| async move {
        let mut bench = Bench::triggering("pushcrash", &["main"]).await;
        let uid = bench.projects().get("shop").await.unwrap().uid().unwrap();
        bench.operator.kill9().await;
        let head = bench.commit("main.c", "one");
        let point = point.replace("<record>", &format!("triggers/{uid}/{head}"));
        bench.operator.restart_with(|plan| plan.env("LANDFALL_CRASH_AT", &point)).await;
        bench.operator.wait().await;
        bench.operator.unset("LANDFALL_CRASH_AT");
        bench.operator.restart().await;
        bench.until_ready(&triggered(&head)).await;
        // The Build may be there, and ready, before the record of it.
        until("recorded", || async { bench.pushes().await.contains(&head) }).await;
        assert_eq!((bench.names().await.len(), bench.tags().len(), bench.pushes().await.len()), (1, 1, 2), "{point}");
    };
    let points = [
        "before build.create *#1",
        "after build.create *#1",
        "before store.create <record> #1",
        "after store.create <record> #1",
    ];
    let runs: Vec<_> = points.into_iter().map(|point| tokio::spawn(story(point))).collect();
    for run in runs {
        run.await.unwrap();
    }
}

#[tokio::test]
async fn caches_survive_builds_that_succeed_and_go_with_their_project() {
    let bench = Bench::new("caches").await;
    bench
        .project(json!({
            "script": "cat ~/.m2/seen lib/seen || true; echo \"$LANDFALL_BUILD_NUMBER\" >> ~/.m2/seen; cp ~/.m2/seen lib/seen\n\
                       test \"$LANDFALL_BUILD_NUMBER\" != 2\necho x > app",
            "caches": [{ "name": "m2", "path": "~/.m2" }, { "name": "lib", "path": "lib" }],
            "artifacts": [{ "path": "app" }, { "path": "lib/seen" }], "tag": { "template": "v{number}" },
        }))
        .await;
    bench.build("shop-1", json!({})).await;
    bench.until_ready("shop-1").await;
    bench.build("shop-2", json!({})).await;
    bench.until_stalled("shop-2", "ScriptFailed").await;
    bench.build("shop-3", json!({})).await;
    bench.until_ready("shop-3").await;
    assert_eq!(
        bench.release("v3")["lib/seen"],
        b"1\n3\n",
        "what the second left is not there, and a cache may hold artifacts"
    );
    git(&bench.work(), &["rm", "-q", "main.c"]);
    std::fs::create_dir(bench.work().join("lib")).unwrap();
    bench.commit("lib/seen", "from the commit");
    bench.build("shop-4", json!({})).await;
    let build = bench.until_stalled("shop-4", "CacheRefused").await;
    assert!(message(&build).contains("the cache lib can't be at \"lib\""), "{}", message(&build));
    let caches = bench.operator.data.join("caches").join(&bench.namespace.name);
    assert!(caches.exists());
    bench.projects().delete("shop", &DeleteParams::default()).await.unwrap();
    eventually("gone with their project: the caches", || !caches.exists()).await;
}

/// Files below a folder that hold this text.
fn files_with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let output = Command::new("grep").args(["-rlaF", "--", text]).arg(folder).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect()
}

fn secret(name: &str, usage: &str, key: &str, value: &str) -> Secret {
    let secret =
        json!({ "metadata": { "name": name, "labels": { "landfall.dev/use": usage } }, "stringData": { key: value } });
    serde_json::from_value(secret).unwrap()
}

#[tokio::test]
async fn a_secret_reaches_the_script_and_is_found_nowhere_else() {
    let mut bench = Bench::new("secrets").await;
    let canary = format!("ca'nary/{:016x}+{:016x}", rand::random::<u64>(), rand::random::<u64>());
    let secrets = bench.namespace.api::<Secret>();
    secrets.create(&PostParams::default(), &secret("repo", "build", "token", &canary)).await.unwrap();
    let script = "echo \"plain $TOKEN.\"; printf %s \"$TOKEN\" | sha256sum; touch begun
while ! [ -e go ]; do echo tick \"$TOKEN\"; sleep 0.1; done
set -x; : \"$TOKEN\"; set +x
for before in '' a ab; do printf %s \"$before$TOKEN-\" | base64 -w0; echo; done
printf %s \"$TOKEN\" | cut -c1-9 | tr -d '\\n'; sleep 0.3; printf %s \"$TOKEN\" | cut -c10-
printf '{\"token\":\"%s\"}\\n' \"$TOKEN\"; printf %s \"$TOKEN\" | sed \"s/'/%27/;s,/,%2F,;s,+,%2B,\"; echo; echo the end >&2; exit 3";
    let env = json!([{ "name": "TOKEN", "valueFrom": { "secretKeyRef": { "name": "repo", "key": "token" } } }]);
    bench.project(json!({ "script": script, "env": env, "artifacts": [{ "path": "app" }] })).await;
    let uid = bench.build("shop-1", json!({})).await.uid().unwrap();
    let attempt = bench.operator.data.join("executor").join(&uid).join("1");
    eventually("begun", || attempt.join("src/begun").exists()).await;
    // The one who told the runner goes, and the Secret with it: neither is needed any more.
    bench.operator.restart().await;
    secrets.delete("repo", &DeleteParams::default()).await.unwrap();
    let lines = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("cmdline"));
    let told: Vec<_> =
        lines.filter(|line| std::fs::read_to_string(line).is_ok_and(|line| line.contains(&canary))).collect();
    assert_eq!(told, Vec::<PathBuf>::new(), "on a command line");
    assert_eq!(files_with(&bench.operator.data, &canary), Vec::<PathBuf>::new(), "on the disk while it runs");
    std::fs::write(attempt.join("src/go"), "").unwrap();
    let build = bench.until_stalled("shop-1", "ScriptFailed").await;
    let log = std::fs::read_to_string(attempt.join("log")).unwrap();
    let digest =
        Command::new("sh").args(["-c", "printf %s \"$1\" | sha256sum", "sh", &canary]).output().unwrap().stdout;
    assert!(log.contains(&*String::from_utf8(digest).unwrap()), "the script had the very value: {log}");
    assert!(log.starts_with("plain ***.\n") && log.contains("\n***\n{\"token\":\"***\"}\n***\nthe end\n"), "{log}");
    let random = canary.split_once('/').unwrap().1;
    let (one, two) = random.split_once('+').unwrap();
    let events = async || bench.namespace.api::<Event>().list(&Default::default()).await.unwrap().items;
    until("told of in an event", || async { !events().await.is_empty() }).await;
    let events = events().await;
    let project = bench.projects().get("shop").await.unwrap();
    let shown = serde_json::to_string(&json!([build, project, events])).unwrap() + &bench.operator.output() + &log;
    for piece in [one, two, &random[..20], "Y2EnbmFyeS9", "NhJ25hcnkv", "jYSduYXJ5L"] {
        assert!(!shown.contains(piece), "{piece} in {shown}");
        assert_eq!(files_with(&bench.operator.data, piece), Vec::<PathBuf>::new(), "{piece} on the disk");
    }
    assert!(shown.contains("the end"), "{shown}");
}

#[tokio::test]
async fn a_secret_that_is_missing_or_not_for_builds_is_waited_for() {
    let bench = Bench::new("nosecret").await;
    let env = json!([{ "name": "TOKEN", "valueFrom": { "secretKeyRef": { "name": "repo", "key": "token" } } }]);
    bench
        .project(json!({ "script": "printf %s \"$TOKEN\" > app", "env": env, "artifacts": [{ "path": "app" }] }))
        .await;
    bench.build("shop-1", json!({ "tag": "v1" })).await;
    let build = bench.until_reason("shop-1", "SecretNotFound").await;
    assert_eq!((condition(&build, "Reconciling"), condition(&build, "Stalled")), ("True", "absent"), "it waits");
    assert!(message(&build).contains("repo"), "{}", message(&build));
    let free = |project: &Project| project.status.as_ref().is_some_and(|status| status.active_build.is_none());
    bench.until_project("free: it does not hold up others", free).await;
    let secrets = bench.namespace.api::<Secret>();
    secrets.create(&PostParams::default(), &secret("repo", "ssh", "token", "hunter22")).await.unwrap();
    let build = bench.until_reason("shop-1", "SecretNotForThis").await;
    assert!(message(&build).contains("landfall.dev/use=build"), "{}", message(&build));
    let label = json!({ "metadata": { "labels": { "landfall.dev/use": "build" } } });
    secrets.patch("repo", &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    bench.until_ready("shop-1").await;
    assert_eq!(bench.release("v1")["app"], b"hunter22");
    let bad =
        json!([{ "name": "A", "value": "x", "valueFrom": { "secretKeyRef": { "name": "repo", "key": "token" } } }]);
    let both = json!({ "spec": { "build": { "env": bad } } });
    let refused = bench.projects().patch("shop", &PatchParams::default(), &Patch::Merge(both)).await.unwrap_err();
    assert!(refused.to_string().contains("either value or valueFrom"), "{refused}");
}

#[tokio::test]
async fn a_script_that_takes_too_much_fails_with_the_limit_named_and_the_next_one_runs() {
    let bench = Bench::new("limits").await;
    let script = "case $KIND in memory) x=$(head -c 600000000 /dev/zero | tr '\\0' x);; pids) perl -e 'fork while 1';; esac; echo x > app";
    let limits = json!({ "limits": { "memory": "64Mi", "pids": 64, "cpu": 2 } });
    bench
        .project(json!({ "script": script, "parameters": [{ "name": "KIND" }], "artifacts": [{ "path": "app" }], "resources": limits }))
        .await;
    for (kind, reason, says) in [
        ("memory", "OutOfMemory", "build.resources.limits.memory (64Mi)"),
        ("pids", "ProcessLimit", "build.resources.limits.pids (64)"),
    ] {
        bench.build(kind, json!({ "parameters": { "KIND": kind } })).await;
        let build = bench.until_stalled(kind, reason).await;
        assert!(message(&build).contains(says), "{}", message(&build));
    }
    assert!(bench.operator.is_running());
    bench.build("none", json!({ "parameters": { "KIND": "none" } })).await;
    bench.until_ready("none").await;
    for (limits, says) in [
        (json!({ "cpu": "two" }), "2, 0.5 or 500m"),
        (json!({ "cpu": "0.0" }), "2, 0.5 or 500m"),
        (json!({ "memory": "5 GB" }), "512Mi, 4Gi"),
        (json!({ "pids": 1 }), "spec.build.resources.limits.pids"),
    ] {
        let patch = Patch::Merge(json!({ "spec": { "build": { "resources": { "limits": limits } } } }));
        let refused = bench.projects().patch("shop", &PatchParams::default(), &patch).await.unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    }
}

#[tokio::test]
async fn a_script_reaches_nothing_of_the_operator_nor_of_the_control_plane() {
    let bench = Bench::new("reach").await;
    let admin = support::plane::kubeconfig().await;
    let plane = admin.parent().unwrap();
    let ports: Value = serde_json::from_slice(&std::fs::read(plane.join("ports.json")).unwrap()).unwrap();
    let (etcd, operator, data) = (ports["etcd"].as_u64().unwrap(), bench.operator.pid(), bench.operator.data.display());
    let server = std::fs::read_to_string(&admin).unwrap();
    let server =
        server.lines().find_map(|line| line.trim().strip_prefix("server: ")).unwrap().trim_matches('"').to_owned();
    let script = format!(
        "set +e
try() {{ \"$@\" >/dev/null 2>&1 && echo \"LEAK: $*\"; }}
for path in {data} {data}/store {data}/executor {plane} {plane}/pki /root/.kube /var/run/secrets /run /sys; do try ls $path; done
for path in {admin} {plane}/operator.kubeconfig {plane}/pki/etcd.key {data}/executor; do try cat $path; done
for pid in {operator} 1; do
    for name in environ mem maps root/etc/shadow cwd/x fd/0; do try cat /proc/$pid/$name; done
    try ls /proc/$pid/fd; try kill -0 $pid; try kill -9 $pid
    command -v strace >/dev/null || echo \"LEAK: no strace here, so nothing was tried\"
    timeout 2 strace -p $pid 2>&1 | grep attached | sed 's/^/LEAK: /'
done
grep -l -e kubeconfig -e KUBECONFIG /proc/[0-9]*/environ 2>/dev/null | sed 's/^/LEAK: /'
try curl -sk -m 5 https://127.0.0.1:{etcd}/health
try curl -sk -m 5 https://127.0.0.1:{etcd}/v3/kv/range -d '{{\"key\":\"AA==\",\"range_end\":\"AA==\"}}'
echo secrets $(curl -sk -m 60 -o /dev/null -w '%{{http_code}}' {server}/api/v1/secrets)
env | grep -i -e kube -e token -e secret | sed 's/^/LEAK: /'
echo tried; echo x > app",
        plane = plane.display(),
        admin = admin.display(),
    );
    bench.project(json!({ "script": script, "artifacts": [{ "path": "app" }] })).await;
    let uid = bench.build("shop-1", json!({})).await.uid().unwrap();
    bench.until_ready("shop-1").await;
    let log = std::fs::read_to_string(bench.operator.data.join("executor").join(uid).join("1/log")).unwrap();
    assert!(log.contains("tried") && !log.contains("LEAK"), "{log}");
    assert!(log.contains("secrets 401") || log.contains("secrets 403"), "{log}");
    assert!(bench.operator.is_running());
}

/// A small file system of its own, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(path: PathBuf) -> Self {
        // The operator may have been killed before it made it.
        std::fs::create_dir_all(&path).unwrap();
        mount(&["-t", "tmpfs", "-o", "size=256k", "small"], &path);
        Self(path)
    }

    fn grow(&self) {
        mount(&["-o", "remount,size=64m"], &self.0);
    }
}

fn mount(arguments: &[&str], at: &Path) {
    assert!(Command::new("mount").args(arguments).arg(at).status().unwrap().success());
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_store_on_a_full_disk_is_told_of_and_goes_on_when_there_is_room_with_nothing_done_twice() {
    let mut bench = Bench::new("full").await;
    bench.operator.kill9().await;
    let disk = SmallDisk::at(bench.store(""));
    bench.operator.restart().await;
    let script = "echo ran; head -c 1000000 /dev/urandom > app";
    bench
        .project(json!({ "script": script, "artifacts": [{ "path": "app" }], "tag": { "template": "v{number}" } }))
        .await;
    let waits = |build: &Build| {
        assert_eq!(
            (condition(build, "Reconciling"), condition(build, "Stalled")),
            ("True", "absent"),
            "it is waited for"
        );
        assert!(
            message(build).contains("disk is full") && message(build).contains("free some space"),
            "{}",
            message(build)
        );
    };
    // The release does not fit: the script has run, and is not run again.
    let uid = bench.build("shop-1", json!({})).await.uid().unwrap();
    let build = bench.until_reason("shop-1", "StoreFull").await;
    waits(&build);
    assert_eq!(outcomes(&build), [Some(Outcome::Succeeded)]);
    assert!(bench.tags().is_empty() && status(&build).digest.is_none());
    disk.grow();
    let build = bench.until_ready("shop-1").await;
    let log = std::fs::read_to_string(bench.operator.data.join("executor").join(uid).join("1/log")).unwrap();
    assert_eq!((outcomes(&build), log.as_str()), (vec![Some(Outcome::Succeeded)], "ran\n"));
    // Not even a record fits: the grant can't be written down, so nothing begins.
    let ballast = bench.store("ballast");
    let _ = std::fs::write(&ballast, vec![0; 80_000_000]);
    bench.build("shop-2", json!({})).await;
    let build = bench.until_reason("shop-2", "StoreFull").await;
    waits(&build);
    assert!(status(&build).attempts.is_empty());
    std::fs::remove_file(&ballast).unwrap();
    let build = bench.until_ready("shop-2").await;
    assert_eq!((outcomes(&build), status(&build).number), (vec![Some(Outcome::Succeeded)], Some(2)));
    assert_eq!(bench.tags(), ["v1", "v2"]);
}

#[tokio::test]
async fn a_project_that_is_deleted_in_the_middle_leaves_its_running_build_to_end_and_its_queue_to_wait() {
    let bench = Bench::new("projectgone").await;
    let script = format!("{WAITS}; echo x > app");
    bench
        .project(json!({ "script": script, "artifacts": [{ "path": "app" }], "tag": { "template": "v{number}" } }))
        .await;
    bench.build("shop-1", json!({})).await;
    bench.until_reason("shop-1", "Building").await;
    bench.build("shop-2", json!({})).await;
    bench.until_reason("shop-2", "Queued").await;
    bench.projects().delete("shop", &DeleteParams::default()).await.unwrap();
    bench.until_reason("shop-2", "ProjectNotFound").await;
    bench.go("shop-1").await;
    bench.until_ready("shop-1").await;
    bench
        .project(
            json!({ "script": "echo x > app", "artifacts": [{ "path": "app" }], "tag": { "template": "v{number}" } }),
        )
        .await;
    let build = bench.until_ready("shop-2").await;
    assert_eq!(status(&build).number, Some(2), "a number is never given twice, whatever became of the project");
    assert_eq!(bench.tags(), ["v1", "v2"]);
}

/// What differs from run to run in the name of an effect.
struct Names([(&'static str, String); 3]);

impl Names {
    fn general(&self, effect: &str) -> String {
        self.0.iter().fold(effect.to_owned(), |text, (name, value)| text.replace(value.as_str(), name))
    }

    fn own(&self, effect: &str) -> String {
        self.0.iter().fold(effect.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

/// One build from its Project to its version, by an operator that is killed at `crash` and started again. Returns the effects, or
/// nothing where the build was over without having come to that point.
async fn story(crash: Option<&str>) -> Option<Vec<String>> {
    let space = namespace("effects").await;
    let name = space.name.clone();
    // The objects are there first, so that their uids can be a part of what is asked for.
    let elsewhere = Operator::start(&["none-such"]).await;
    let mut bench = Bench::of(space, elsewhere);
    let script = "echo ran; sleep 0.3; echo x > app";
    bench
        .project(json!({ "script": script, "artifacts": [{ "path": "app" }], "tag": { "template": "v{number}" } }))
        .await;
    let uid = bench.build("shop-1", json!({})).await.uid().unwrap();
    let folder = bench.dir.path().display().to_string();
    let names = Names([("<namespace>", name.clone()), ("<uid>", uid.clone()), ("<folder>", folder)]);
    let ledger = bench.dir.path().join("ledger");
    let mut plan = Operator::of(&[&name]).env("LANDFALL_EFFECTS_LEDGER", ledger.display().to_string());
    if let Some(crash) = crash {
        plan = plan.env("LANDFALL_CRASH_AT", names.own(crash));
    }
    bench.operator = plan.start().await;
    if crash.is_some() {
        // Not every run has every effect: a write that met a conflict in the calm one is one more there.
        let over =
            bench.until("shop-1", "over", |build| condition(build, "Ready") == "True" && build.finalizers().is_empty());
        let crashed = tokio::select! {
            () = bench.operator.ended() => true,
            _ = over => tokio::time::timeout(Duration::from_secs(10), bench.operator.ended()).await.is_ok(),
        };
        if !crashed {
            return None;
        }
        bench.operator.unset("LANDFALL_CRASH_AT");
        bench.operator.restart().await;
    }
    let build = bench.until_ready("shop-1").await;
    bench.until("shop-1", "free to go", |build| build.finalizers().is_empty()).await;
    let free = |project: &Project| project.status.as_ref().is_some_and(|status| status.active_build.is_none());
    let project = bench.until_project("free", free).await;
    let at = crash.unwrap_or("nowhere");
    assert_eq!((outcomes(&build), status(&build).number), (vec![Some(Outcome::Succeeded)], Some(1)), "{at}");
    assert_eq!((bench.tags(), project.status.unwrap().last_number), (vec!["v1".to_owned()], 1), "{at}");
    assert_eq!(bench.record("v1").build_uid, uid, "{at}");
    let attempts = bench.operator.data.join("executor").join(&uid);
    let said = std::fs::read_to_string(attempts.join("1/log")).unwrap();
    assert_eq!((said.as_str(), attempts.join("2").exists()), ("ran\n", false), "{at}: the script ran once");
    let lines = std::fs::read_to_string(ledger).unwrap();
    // The last one may be on its way.
    let whole = lines.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    Some(whole.filter_map(|line| line.strip_prefix("before ")).map(|effect| names.general(effect)).collect())
}

/// Whether the story came to its point and ended well; a point that it did not come to is tried once more.
async fn crashed_at(point: String) -> Option<String> {
    for _ in 0..2 {
        if story(Some(&point)).await.is_some() {
            return None;
        }
    }
    Some(point)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_or_after_any_effect_of_a_build_loses_nothing_and_does_nothing_twice() {
    let effects = story(None).await.unwrap();
    let points: Vec<String> =
        effects.iter().flat_map(|effect| [format!("before {effect}"), format!("after {effect}")]).collect();
    assert!(points.len() > 30, "{points:?}");
    let mut unreached = Vec::new();
    let lanes = points.iter().cloned().map(|point| tokio::spawn(crashed_at(point)));
    let mut runs = futures::stream::iter(lanes).buffer_unordered(6);
    while let Some(run) = runs.next().await {
        unreached.extend(run.unwrap());
    }
    println!("{} points, not come to: {unreached:?}", points.len());
    assert!(unreached.len() * 10 <= points.len(), "too many of the calm run's effects are its own: {unreached:?}");
}

#[tokio::test]
async fn a_script_outlives_an_operator_that_is_told_to_stop_and_the_next_one_takes_its_result() {
    let mut bench = Bench::with("stopped", &format!("{WAITS}; date +%s%N > app")).await;
    bench.build("shop-1", json!({ "tag": "v1" })).await;
    bench.until_reason("shop-1", "Building").await;
    // It does not wait for the script, which would wait for ever.
    assert!(bench.operator.stop().await.success());
    bench.operator.restart().await;
    bench.go("shop-1").await;
    let build = bench.until_ready("shop-1").await;
    assert_eq!(outcomes(&build), [Some(Outcome::Succeeded)], "one attempt, run once");
    assert_eq!(bench.tags(), ["v1"]);
}
