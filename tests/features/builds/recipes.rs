//! From a commit to a version: scripts, parameters, artifacts, caches, and how they fail.

use std::process::Command;

use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use landfall::api::build::Outcome;
use serde_json::json;

use crate::support::{
    builds::{Bench, condition, eventually, message, outcomes, status},
    repository::git,
    wait::{PATIENCE, until},
};

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
    let tag = status(&build).tag.clone();
    assert_eq!(status(&build).version, None, "nothing that a Deployment could take");
    bench.retry("shop-1", "1").await;
    let build = bench.until("shop-1", "tried twice", |build| outcomes(build) == [Some(Outcome::Failed); 2]).await;
    assert_eq!((status(&build).number, &status(&build).tag), (Some(1), &tag));
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
async fn caches_survive_successful_builds_and_go_with_their_project() {
    let mut bench = Bench::new("caches").await;
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
    bench.operator.kill9().await;
    bench.projects().delete("shop", &DeleteParams::default()).await.unwrap();
    for (point, there) in [("before cache.delete *#1", true), ("after cache.delete *#1", false)] {
        bench.operator.restart_with(|plan| plan.env("LANDFALL_CRASH_AT", point)).await;
        assert!(tokio::time::timeout(PATIENCE, bench.operator.wait()).await.is_ok(), "nothing crashed {point}");
        bench.operator.unset("LANDFALL_CRASH_AT");
        assert_eq!(caches.exists(), there, "{point}");
    }
    bench.operator.restart().await;
    until("gone: the project", || async { bench.projects().get_opt("shop").await.unwrap().is_none() }).await;
    eventually("gone with their project: the caches", || !caches.exists()).await;
}
