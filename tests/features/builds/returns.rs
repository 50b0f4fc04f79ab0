//! Builds that come back: a git tool applies again what retention or a person deleted.

use k8s_openapi::api::events::v1::Event;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use landfall::api::Build;
use serde_json::json;

use crate::support::{
    builds::{Bench, condition, message, reason, status},
    wait::until,
};

/// As `kubectl apply` does it: created where it is not there.
async fn apply(bench: &Bench, name: &str) -> Build {
    match bench.try_build(name, json!({})).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => panic!("{error}"),
    }
    bench.until_ready(name).await
}

#[tokio::test]
async fn a_build_that_returns_under_its_name_and_commit_is_not_run_again() {
    let bench = Bench::new("returns").await;
    bench
        .project(
            json!({ "script": "echo x > app", "artifacts": [{ "path": "app" }], "tag": { "template": "v{number}" } }),
        )
        .await;
    let keep_one = json!({ "spec": { "retention": { "succeededLimit": 1 } } });
    bench.projects().patch("shop", &PatchParams::default(), &Patch::Merge(keep_one)).await.unwrap();
    let first = apply(&bench, "shop-a").await.uid().unwrap();
    // The second of its creation is another one: retention keeps the newer.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    apply(&bench, "shop-b").await;
    until("deleted by retention", || async { bench.builds().get_opt("shop-a").await.unwrap().is_none() }).await;
    for round in 0..3 {
        let returned = apply(&bench, "shop-a").await;
        assert_eq!(reason(&returned), "AlreadyPublished", "round {round}");
        assert!(message(&returned).contains(&first) && message(&returned).contains("v1"), "{}", message(&returned));
        assert!(status(&returned).attempts.is_empty() && status(&returned).number.is_none(), "nothing was run");
        assert_eq!(condition(&returned, "Tagged"), "absent");
        apply(&bench, "shop-b").await;
    }
    // It is deleted by a person, and its version is there.
    let second = bench.builds().get("shop-b").await.unwrap().uid().unwrap();
    bench.builds().delete("shop-b", &DeleteParams::default()).await.unwrap();
    until("deleted", || async { bench.builds().get_opt("shop-b").await.unwrap().is_none() }).await;
    let returned = apply(&bench, "shop-b").await;
    assert_eq!((reason(&returned), status(&returned).version.as_deref()), ("AlreadyPublished", Some("v2")));
    assert_eq!(status(&returned).digest, Some(format!("sha256:{}", bench.record("v2").digest)));
    assert_eq!(bench.record("v2").build_uid, second);
    assert_eq!(bench.tags(), ["v1", "v2"], "no further version");
    let events: Api<Event> = bench.namespace.api();
    let told = || async {
        let events = events.list(&ListParams::default()).await.unwrap();
        events.iter().any(|event| {
            let note = event.note.as_deref().unwrap_or_default();
            event.reason.as_deref() == Some("AlreadyPublished") && note.contains(&second)
        })
    };
    until("an event that names whose version it is", told).await;
    // Both stay: whoever applies them wants them.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    for name in ["shop-a", "shop-b"] {
        assert!(
            bench
                .builds()
                .get_opt(name)
                .await
                .unwrap()
                .is_some_and(|build| build.metadata.deletion_timestamp.is_none())
        );
    }
}

#[tokio::test]
async fn a_build_that_returns_with_its_tag_is_ready_and_on_another_commit_it_is_refused() {
    let bench = Bench::with("returnstag", "echo x > app").await;
    bench.build("shop-1", json!({ "tag": "v1" })).await;
    bench.until_ready("shop-1").await;
    let delete = || async {
        bench.builds().delete("shop-1", &DeleteParams::default()).await.unwrap();
        until("deleted", || async { bench.builds().get_opt("shop-1").await.unwrap().is_none() }).await;
    };
    delete().await;
    bench.build("shop-1", json!({ "tag": "v1" })).await;
    let returned = bench.until_ready("shop-1").await;
    assert_eq!(reason(&returned), "AlreadyPublished", "{}", message(&returned));
    delete().await;
    bench.commit("more", "x");
    bench.build("shop-1", json!({ "tag": "v1" })).await;
    bench.until_stalled("shop-1", "VersionExists").await;
}
