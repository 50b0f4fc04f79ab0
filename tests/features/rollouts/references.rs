//! What a Deployment names: it may come later, and go.

use super::*;

#[tokio::test]
async fn what_a_deployment_names_may_come_later() {
    let bench = Bench::new(1).await;
    bench.deploy("v1", json!({ "hosts": { "selector": { "matchLabels": { "zone": "nowhere" } } } })).await;
    bench.until("no hosts", |object| is(object, "Stalled", "NoHosts")).await;
    bench.edit(json!({ "hosts": { "selector": null, "names": ["web-09"] } })).await;
    let wrong = bench.until("not found", |object| is(object, "Stalled", "HostsNotFound")).await;
    assert!(message(&wrong).contains("web-09"));
    bench.edit(json!({ "hosts": null })).await;
    let waiting = bench.until("waiting", |object| is(object, "Reconciling", "VersionNotFound")).await;
    assert!(is(&waiting, "Ready", "VersionNotFound"));
    bench.publish("v1", SERVES);
    bench.until_deployed("v1").await;
}

#[tokio::test]
async fn a_group_and_a_project_that_come_later_are_waited_for_and_then_deployed_to() {
    let bench = Bench::new(1).await;
    bench.publish("v1", SERVES);
    bench.deploy_as("early", "v1", json!({ "hostGroupRef": { "name": "late" } })).await;
    let waiting = bench.until_of("early", "waiting", |object| is(object, "Reconciling", "HostGroupNotFound")).await;
    assert!(message(&waiting).contains("HostGroup late"), "{}", message(&waiting));
    bench.space.api::<landfall::api::Project>().delete("shop", &Default::default()).await.unwrap();
    bench.group("late").await;
    bench.until_of("early", "waiting", |object| is(object, "Reconciling", "ProjectNotFound")).await;
    assert!(bench.starts(0).await.is_empty());
    bench.project("shop").await;
    bench.until_of("early", "deployed", |object| is(object, "Ready", "Deployed")).await;
    assert_eq!(bench.version_on(0).await, "v1");
}

#[tokio::test]
async fn a_secret_that_comes_later_heals_the_group_and_its_deployments() {
    let bench = Bench::new(1).await;
    bench.publish("v1", SERVES);
    let secrets = bench.space.api::<k8s_openapi::api::core::v1::Secret>();
    secrets.delete("prod-identity", &Default::default()).await.unwrap();
    bench.patch::<HostGroup>("prod", json!({ "spec": { "env": [{ "name": "A", "value": "1" }] } })).await;
    bench.deploy("v1", json!({})).await;
    bench.until("waiting", |object| is(object, "Reconciling", "SecretNotFound")).await;
    let again = bench.hosts.group(&bench.space.name, "prod").remove(0);
    bench.create::<k8s_openapi::api::core::v1::Secret>(again).await;
    bench.until_deployed("v1").await;
}

#[tokio::test]
async fn an_invalid_group_is_named_by_its_deployment_and_its_hosts_are_healed_meanwhile() {
    let bench = Bench::new(1).await;
    bench.publish("v1", SERVES);
    bench.publish("v2", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    let group = bench.space.api::<HostGroup>().get("prod").await.unwrap();
    let mut hosts = json!(group.spec.hosts);
    let one_more = json!({ "name": "web-09", "address": hosts[0]["address"] });
    hosts.as_array_mut().unwrap().push(one_more);
    bench.patch::<HostGroup>("prod", json!({ "spec": { "hosts": hosts } })).await;
    let stalled = bench.until("named", |object| is(object, "Stalled", "DuplicateAddress")).await;
    for word in ["HostGroup prod", "hosts web-01 and web-09", "list each machine once", "kubectl -n"] {
        assert!(message(&stalled).contains(word), "{word}: {}", message(&stalled));
    }
    bench.edit(json!({ "version": "v2" })).await;
    bench.hosts.host(0).sh("pkill -x busybox").await;
    until("started again", || async { bench.starts(0).await.len() == 2 && bench.version_on(0).await == "v1" }).await;
    bench
        .until("counted", |object| {
            let status = object.status.as_ref().unwrap();
            is(object, "Stalled", "DuplicateAddress") && (status.hosts.total, status.hosts.ready) == (2, 1)
        })
        .await;
    hosts.as_array_mut().unwrap().pop();
    bench.patch::<HostGroup>("prod", json!({ "spec": { "hosts": hosts } })).await;
    bench.until_deployed("v2").await;
}

#[tokio::test]
async fn deletion_retains_or_removes_as_the_policy_says() {
    let bench = Bench::new(1).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.delete("shop").await;
    assert_eq!(bench.version_on(0).await, "v1");
    let owner = bench.hosts.host(0).sh(&format!("cat {}/.landfall/owner 2>/dev/null || true", bench.folder())).await;
    assert_eq!(owner.trim(), "", "the claim was given up");
    bench.deploy("v1", json!({ "deletionPolicy": "Remove" })).await;
    bench.until_deployed("v1").await;
    bench.delete("shop").await;
    assert_eq!(bench.version_on(0).await, "");
    assert_eq!(bench.hosts.host(0).sh(&format!("ls -d {} 2>/dev/null || true", bench.folder())).await, "");
}

#[tokio::test]
async fn a_deployment_deleted_in_the_middle_leaves_nothing_where_it_is_to_remove() {
    let bench = Bench::new(2).await;
    bench.publish_waiting("v1");
    bench.deploy("v1", json!({ "deletionPolicy": "Remove" })).await;
    bench
        .until("in its turn", |object| {
            exception(object, "web-01").is_some_and(|one| format!("{:?}", one.phase) == "Verifying")
        })
        .await;
    bench.delete("shop").await;
    for i in 0..2 {
        assert_eq!(bench.hosts.host(i).sh(&format!("ls -d {} 2>/dev/null || true", bench.folder())).await, "");
        assert_eq!(bench.version_on(i).await, "");
    }
}

/// U7: `kubectl delete` of both in any order, and of the Secrets with them.
#[tokio::test]
async fn a_group_that_is_deleted_first_waits_until_its_deployment_has_cleaned_its_hosts() {
    let bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({ "deletionPolicy": "Remove" })).await;
    bench.until_deployed("v1").await;
    let groups = bench.space.api::<HostGroup>();
    groups.delete("prod", &Default::default()).await.unwrap();
    let in_use = |group: &HostGroup| {
        group.status.as_ref().is_some_and(|status| status.conditions.iter().any(|one| one.reason == "InUse"))
    };
    bench.until_group("prod", "in use", in_use).await;
    for secret in ["prod-identity", "prod-known-hosts"] {
        bench.space.api::<Secret>().delete(secret, &Default::default()).await.unwrap();
    }
    bench.delete("shop").await;
    for i in 0..2 {
        assert_eq!(bench.hosts.host(i).sh(&format!("ls -d {} 2>/dev/null || true", bench.folder())).await, "");
        assert_eq!(bench.version_on(i).await, "");
    }
    until("gone: the group", || async { groups.get_opt("prod").await.unwrap().is_none() }).await;
}

/// U7, R19: not at once, and not without a word.
#[tokio::test]
async fn a_deployment_whose_group_is_gone_names_the_hosts_that_it_leaves_after_its_deadline() {
    let bench = Bench::new(1).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({ "deletionPolicy": "Remove", "progressDeadlineSeconds": 20 })).await;
    bench.until_deployed("v1").await;
    let groups = bench.space.api::<HostGroup>();
    groups.delete("prod", &Default::default()).await.unwrap();
    bench.patch::<HostGroup>("prod", json!({ "metadata": { "finalizers": null } })).await;
    bench.until("without its group", |object| is(object, "Ready", "HostGroupNotFound")).await;
    bench.deployments().delete("shop", &Default::default()).await.unwrap();
    let waits = bench.until("waits", |object| is(object, "Reconciling", "Removing")).await;
    let said = message(&waits);
    assert!(said.contains("web-01") && said.contains("HostGroup prod does not exist"), "{said}");
    assert!(said.contains("gives up"), "U11: {said}");
    until("gone", || async { bench.deployments().get_opt("shop").await.unwrap().is_none() }).await;
    let events = bench.space.api::<Event>().list(&Default::default()).await.unwrap();
    let left = events.items.iter().find(|event| event.reason.as_deref() == Some("LeftBehind"));
    let note = left.and_then(|event| event.note.clone()).unwrap_or_default();
    assert!(note.contains("web-01"), "{note}");
    assert_eq!(bench.version_on(0).await, "v1");
}

/// R19: what comes back within the deadline is cleaned after all.
#[tokio::test]
async fn a_group_that_comes_back_while_its_deployment_is_deleted_is_cleaned() {
    let bench = Bench::new(1).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({ "deletionPolicy": "Remove" })).await;
    bench.until_deployed("v1").await;
    let groups = bench.space.api::<HostGroup>();
    groups.delete("prod", &Default::default()).await.unwrap();
    bench.patch::<HostGroup>("prod", json!({ "metadata": { "finalizers": null } })).await;
    bench.until("without its group", |object| is(object, "Ready", "HostGroupNotFound")).await;
    bench.deployments().delete("shop", &Default::default()).await.unwrap();
    bench.until("waits", |object| is(object, "Reconciling", "Removing")).await;
    let group = bench.hosts.group(&bench.space.name, "prod").pop().unwrap();
    bench.create::<HostGroup>(group).await;
    until("gone", || async { bench.deployments().get_opt("shop").await.unwrap().is_none() }).await;
    assert_eq!(bench.hosts.host(0).sh(&format!("ls -d {} 2>/dev/null || true", bench.folder())).await, "");
}
