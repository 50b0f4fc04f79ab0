//! Objects that are made again under their names: F13.

use std::time::Duration;

use k8s_openapi::api::{coordination::v1::Lease, events::v1::Event};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use landfall::api::{Build, Deployment, FIELD_MANAGER, HostGroup, Project};
use serde_json::{Value, json};

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

/// U19
#[tokio::test(flavor = "multi_thread")]
async fn all_that_the_operator_writes_names_landfall_as_its_manager() {
    let story = Story::new("managers").await;
    story.set_up().await;
    story.patch::<Project>("shop", json!({ "spec": { "build": { "trigger": { "onPush": ["main"] } } } })).await;
    story.build("shop-1").await;
    story.built("shop-1").await;
    story.deploy("v1").await;
    story.deployed("v1").await;
    story.commit("two");
    story.patch::<Project>("shop", json!({ "metadata": { "annotations": { "landfall.dev/refresh": "1" } } })).await;
    let builds = story.space.api::<Build>();
    let triggered = || async {
        let list = builds.list_metadata(&ListParams::default()).await.unwrap().items;
        if list.len() == 2 { Ok(()) } else { Err(()) }
    };
    find("triggered: a Build", triggered, |()| story.operator.output()).await;
    let mut all = managers::<Project>(&story).await;
    all.extend(managers::<Build>(&story).await);
    all.extend(managers::<HostGroup>(&story).await);
    all.extend(managers::<Deployment>(&story).await);
    let (events, leases) = (managers::<Event>(&story).await, managers::<Lease>(&story).await);
    assert!(all.len() >= 5 && !events.is_empty() && !leases.is_empty(), "{} {}", events.len(), leases.len());
    for (name, entry) in events.iter().chain(&leases) {
        assert_eq!(entry["manager"], FIELD_MANAGER, "{name}: {entry:#}");
    }
    for (name, entry) in &all {
        let fields = entry["fieldsV1"].to_string();
        // Nobody else writes a status or a finalizer; specs are of this test, but for the triggered Build.
        let ours =
            entry["subresource"] == "status" || fields.contains("f:finalizers") || fields.contains("f:ownerReferences");
        let wanted = if ours { FIELD_MANAGER } else { "features" };
        assert_eq!(entry["manager"], wanted, "{name}: {entry:#}");
    }
}

/// Each entry of the managed fields of each object of a kind, with the object's name.
async fn managers<K: Object>(story: &Story) -> Vec<(String, Value)> {
    let objects = story.space.api::<K>().list(&ListParams::default()).await.unwrap().items;
    let entries = |object: K| {
        let (name, managed) = (object.name_any(), object.managed_fields().to_vec());
        managed.into_iter().map(move |entry| (name.clone(), serde_json::to_value(entry).unwrap()))
    };
    objects.into_iter().flat_map(entries).collect()
}
