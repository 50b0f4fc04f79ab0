//! Where a build comes from and what it is called: revisions, branches, tags, versions.

use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use landfall::api::Project;
use serde_json::json;

use crate::support::{
    builds::{Bench, condition, message, status},
    repository::git,
};

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
    let owner = bench.builds().get("shop-1").await.unwrap().uid().unwrap();
    bench.build("shop-2", json!({ "tag": "v1" })).await;
    let build = bench.until_stalled("shop-2", "VersionExists").await;
    let named = format!("{}/shop-1 of commit", bench.namespace.name);
    assert!(message(&build).contains(&named) && message(&build).contains(&owner), "{}", message(&build));
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
async fn submodules_and_lfs_pointers_fail_a_build_before_its_script_with_their_names() {
    let bench = Bench::with("incomplete", "echo x > app").await;
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
    bench.commit("logo.png", pointer);
    bench.build("shop-1", json!({})).await;
    let build = bench.until_stalled("shop-1", "LfsRefused").await;
    assert!(message(&build).contains("logo.png") && message(&build).contains("source.lfs"), "{}", message(&build));
    assert!(status(&build).attempts.is_empty() && bench.tags().is_empty(), "the script did not run");
    let head = git(&bench.work(), &["rev-parse", "HEAD"]);
    git(&bench.work(), &["update-index", "--add", "--cacheinfo", &format!("160000,{head},vendor/zlib")]);
    git(&bench.work(), &["commit", "-q", "-m", "a submodule"]);
    git(&bench.work(), &["push", "-q", "origin", "HEAD"]);
    bench.build("shop-2", json!({})).await;
    let build = bench.until_stalled("shop-2", "SubmodulesRefused").await;
    assert!(message(&build).contains("vendor/zlib"), "{}", message(&build));
    let ignore = json!({ "spec": { "source": { "submodules": "Ignore", "lfs": "Ignore" } } });
    bench.projects().patch("shop", &PatchParams::default(), &Patch::Merge(ignore)).await.unwrap();
    bench.build("shop-3", json!({})).await;
    bench.until_ready("shop-3").await;
}

#[tokio::test]
async fn a_project_whose_branches_no_branch_can_match_is_not_ready() {
    let bench = Bench::with("pattern", "echo x > app").await;
    // The schema takes it for a glob, and git has no such branch.
    let branches = json!({ "spec": { "source": { "branches": ["a..b"] } } });
    bench.projects().patch("shop", &PatchParams::default(), &Patch::Merge(branches)).await.unwrap();
    let invalid = |project: &Project| {
        let conditions = project.status.iter().flat_map(|status| &status.conditions);
        conditions
            .into_iter()
            .any(|one| one.type_ == "Stalled" && one.reason == "InvalidSpec" && one.message.contains("source.branches"))
    };
    bench.until_project("said to be invalid", invalid).await;
}

#[tokio::test]
async fn a_short_commit_id_as_our_screens_print_it_is_built() {
    let bench = Bench::with("shortid", "echo x > app").await;
    let head = git(&bench.work(), &["rev-parse", "HEAD"]);
    bench.build("shop-1", json!({ "revision": head[..12] })).await;
    assert_eq!(status(&bench.until_ready("shop-1").await).commit.as_ref().unwrap().sha, head);
}
