//! Builds that pushes ask for: `build.trigger`.

use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use landfall::api::Project;
use serde_json::{Value, json};

use crate::support::{
    builds::{Bench, status},
    names,
    repository::git,
    wait::until,
};

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

    pub async fn patch_project(&self, patch: Value) {
        self.projects().patch("shop", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Has the operator look at the repository, and waits until it has.
    pub async fn look(&self, branch: &str, head: &str) {
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
    let (others, stamps): (Vec<&str>, Vec<&str>) =
        build.annotations().keys().map(String::as_str).partition(|key| *key == "landfall.dev/branch");
    assert_eq!(others, ["landfall.dev/branch"]);
    let of_the_api_server = ["landfall.dev/granted", "landfall.dev/requested-by", "landfall.dev/requested-by-groups"];
    assert_eq!(stamps, of_the_api_server);
    assert_eq!(status(&build).requested_by.as_deref(), Some("trigger (push to main)"));

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
