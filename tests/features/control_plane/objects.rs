//! Objects that are made again under their names: F13.

use std::time::Duration;

use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use landfall::api::{Build, Deployment, HostGroup, Project};
use serde_json::json;

use crate::{
    control_plane::story::{Object, Story, processes, ready},
    support::wait::find,
};

/// Deleted and made again within a moment, as soon as its finalizers let it go.
async fn again<K: Object>(story: &Story, name: &str) -> (String, String) {
    let api = story.space.api::<K>();
    let mut object = api.get(name).await.unwrap();
    let old = object.uid().unwrap();
    let meta = object.meta_mut();
    (meta.uid, meta.resource_version, meta.creation_timestamp) = (None, None, None);
    (meta.managed_fields, meta.finalizers, meta.generation) = (None, None, None);
    let mut fresh = serde_json::to_value(object).unwrap();
    fresh.as_object_mut().unwrap().remove("status");
    let fresh: K = serde_json::from_value(fresh).unwrap();
    api.delete(name, &DeleteParams::default()).await.unwrap();
    let create = || async {
        match api.create(&PostParams::default(), &fresh).await {
            Ok(made) => Ok((old.clone(), made.uid().unwrap())),
            Err(kube::Error::Api(status)) if status.code == 409 => Err(()),
            Err(error) => panic!("{error}"),
        }
    };
    find(&format!("gone: {name}"), create, |()| story.operator.output()).await
}

/// F13: it is gone and there again between two looks. A group in use has a finalizer, which somebody takes away here.
#[tokio::test(flavor = "multi_thread")]
async fn a_project_and_a_group_made_again_in_the_middle_change_nothing_for_what_is_under_way() {
    let story = Story::new("again").await;
    story.set_up().await;
    story.build("shop-1").await;
    story.building("shop-1").await;
    again::<Project>(&story, "shop").await;
    story.built("shop-1").await;
    story.deploy("v1").await;
    story.deployed("v1").await;
    story.ask_for_second().await;
    story.half_deployed("v2").await;
    let groups = story.space.api::<HostGroup>();
    let mut forced = Box::pin(again::<HostGroup>(&story, "prod"));
    let freed = async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let going =
                groups.get_opt("prod").await.unwrap().is_some_and(|group| group.metadata.deletion_timestamp.is_some());
            if going {
                let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
                let _ = groups.patch("prod", &PatchParams::default(), &free).await;
            }
        }
    };
    tokio::select! {
        _ = &mut forced => {}
        () = freed => {}
    }
    story.deployed("v2").await;
    story.is_right().await;
}

/// F13: another uid is another history.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_and_a_deployment_made_again_are_others_and_take_nothing_from_the_old_ones() {
    let story = Story::new("others").await;
    story.first().await;
    // One that runs: it is stopped, and the new one has a number and a version of its own.
    story.commit("two");
    story.build("shop-2").await;
    story.building("shop-2").await;
    let (_, uid) = again::<Build>(&story, "shop-2").await;
    let build = story.until::<Build>("shop-2", "ready", ready).await;
    assert_eq!(build["metadata"]["uid"], uid.as_str());
    assert_eq!((&build["status"]["version"], story.runs_of(&uid)), (&json!("v3"), 1));

    // In the middle of a rollout, with a claim on the hosts.
    story.patch::<Deployment>("shop", json!({ "spec": { "version": "v3" } })).await;
    story.half_deployed("v3").await;
    let (_, uid) = again::<Deployment>(&story, "shop").await;
    story.deployed("v3").await;
    let object = serde_json::to_value(story.space.api::<Deployment>().get("shop").await.unwrap()).unwrap();
    assert_eq!((&object["metadata"]["uid"], object["status"]["history"].as_array().unwrap().len()), (&json!(uid), 1));
    for host in story.hosts.all() {
        let owner = host.sh("cat /srv/landfall/*/.landfall/owner").await;
        assert!(owner.contains(&uid), "{owner}");
        let starts = host.sh("cat /srv/starts").await;
        // The new one has its own rollout: a host that the old one had brought to v3 is brought there once more, and no more than that.
        assert!(["v1\nv3\n", "v1\nv3\nv3\n"].contains(&starts.as_str()), "{starts}");
        assert_eq!(processes(host).await, "1");
    }
    story.is_silent().await;
}
