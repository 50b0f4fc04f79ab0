//! Hosts in their order: one by one, side by side, edited, paused, superseded.

use super::*;

#[tokio::test]
async fn a_version_comes_to_three_hosts_one_by_one_and_the_next_one_side_by_side() {
    let bench = Bench::new(3).await;
    bench.publish("v1", SERVES);
    bench.publish("v2", SERVES);
    bench.deploy("v1", json!({ "env": [{ "name": "COLOUR", "value": "red" }] })).await;
    let first = bench.until_deployed("v1").await;
    let status = first.status.as_ref().unwrap();
    assert_eq!((status.hosts.total, status.hosts.updated, status.hosts.ready), (3, 3, 3));
    assert_eq!(status.rollout.as_ref().unwrap().id, "1.0");
    for i in 0..3 {
        assert_eq!(bench.version_on(i).await, "v1");
    }
    let env = bench.hosts.host(1).sh(&format!("cat {}/shared/env", bench.folder())).await;
    for wanted in ["COLOUR=red", "LANDFALL_VERSION=v1", "LANDFALL_HOST=web-02", "LANDFALL_HOST_GROUP=prod"] {
        assert!(env.lines().any(|line| line == wanted), "{wanted} in {env}");
    }

    bench.edit(json!({ "version": "v2", "minReadySeconds": 1 })).await;
    bench
        .until("showing both versions", |object| {
            let both = object.status.as_ref().is_some_and(|status| status.versions.len() == 2);
            both && is(object, "Reconciling", "RollingOut")
        })
        .await;
    bench.until_deployed("v2").await;
    for i in 0..3 {
        assert_eq!(bench.version_on(i).await, "v2");
        assert_eq!(bench.starts(i).await, ["v1", "v2"]);
    }
    let last = bench.get("shop").await.status.unwrap();
    assert_eq!(last.history.len(), 2);
    assert!(last.history.iter().all(|entry| entry.outcome == RolloutOutcome::Succeeded));
}

#[tokio::test]
async fn a_host_unreachable_before_its_update_is_updated_when_it_returns() {
    let bench = Bench::new(3).await;
    bench.publish("v1", SERVES);
    bench.hosts.host(0).cut().await;
    bench.deploy("v1", json!({})).await;
    bench
        .until("waiting for it alone", |object| {
            is(object, "Reconciling", "HostsUnreachable")
                && object.status.as_ref().is_some_and(|status| status.hosts.ready == 2)
                && exception(object, "web-01").is_some_and(|one| one.reason == "Unreachable")
        })
        .await;
    bench.hosts.host(0).mend().await;
    bench.until_deployed("v1").await;
    assert_eq!(bench.version_on(0).await, "v1");
}

#[tokio::test]
async fn the_second_of_two_deployments_that_claim_a_host_through_two_groups_touches_nothing() {
    let bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.group("staging").await;
    bench.deploy("v1", json!({ "hosts": { "names": ["web-01"] } })).await;
    bench.until_deployed("v1").await;
    bench.deploy_as("second", "v1", json!({ "hostGroupRef": { "name": "staging" } })).await;
    let claimed = bench.until_of("second", "refused", |object| is(object, "Stalled", "HostClaimed")).await;
    assert!(message(&claimed).contains("shop") && message(&claimed).contains("second"), "{}", message(&claimed));
    assert!(bench.starts(1).await.is_empty(), "not even the host that is free is touched");
    bench.delete("shop").await;
    bench.until_of("second", "deployed", |object| is(object, "Ready", "Deployed")).await;
}

#[tokio::test]
async fn editing_the_strategy_and_pausing_start_nothing_and_a_new_version_supersedes() {
    let bench = Bench::new(3).await;
    bench.publish("v1", SERVES);
    bench.publish("v2", "sleep 1000\n");
    bench.publish("v3", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.edit(json!({ "strategy": { "rollingUpdate": { "maxUnavailable": "50%" } } })).await;
    bench.until_deployed("v1").await;
    for i in 0..3 {
        assert_eq!(bench.starts(i).await.len(), 1);
    }
    bench.edit(json!({ "paused": true, "version": "v3" })).await;
    let paused = bench.until("paused", |object| is(object, "Reconciling", "Paused")).await;
    let ready = paused.status.as_ref().unwrap().conditions.iter().find(|one| one.type_ == "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "Paused"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.version_on(0).await, "v1");
    // In the middle of v2, which is never ready, v3 is given.
    bench.edit(json!({ "paused": false, "version": "v2" })).await;
    bench
        .until("in its turn", |object| {
            exception(object, "web-01").is_some_and(|one| format!("{:?}", one.phase) == "Verifying")
        })
        .await;
    bench.edit(json!({ "version": "v3" })).await;
    let done = bench.until_deployed("v3").await;
    let history = done.status.unwrap().history;
    assert_eq!(history[0].outcome, RolloutOutcome::Succeeded);
    assert_eq!((history[1].version.as_str(), history[1].outcome), ("v2", RolloutOutcome::Superseded));
    assert_eq!(bench.starts(2).await, ["v1", "v3"], "nobody else was given v2");
}

#[tokio::test]
async fn a_host_that_joins_is_updated_and_one_that_leaves_is_released() {
    let bench = Bench::new(3).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({ "hosts": { "names": ["web-01", "web-02"] }, "deletionPolicy": "Remove" })).await;
    bench.until_deployed("v1").await;
    assert!(bench.starts(2).await.is_empty());
    bench.edit(json!({ "hosts": { "names": ["web-02", "web-03"] } })).await;
    bench.until_deployed("v1").await;
    assert_eq!(bench.version_on(2).await, "v1");
    until("stopped and removed: what left the selection", || async { bench.version_on(0).await.is_empty() }).await;
    assert_eq!(bench.starts(1).await.len(), 1);
}

#[tokio::test]
async fn a_host_lost_in_its_update_holds_the_others_back_until_it_returns() {
    let bench = Bench::new(2).await;
    bench.publish_waiting("v1");
    bench.deploy("v1", json!({})).await;
    bench
        .until("in its turn", |object| {
            exception(object, "web-01").is_some_and(|one| format!("{:?}", one.phase) == "Verifying")
        })
        .await;
    bench.hosts.host(0).cut().await;
    bench
        .until("lost", |object| {
            exception(object, "web-01").is_some_and(|one| one.reason == "Unreachable")
                && object.status.as_ref().is_some_and(|status| status.hosts.unreachable == 1)
        })
        .await;
    for i in 0..2 {
        bench.hosts.host(i).sh("touch /srv/go").await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(bench.starts(1).await.is_empty(), "the budget is used up");
    bench.hosts.host(0).mend().await;
    bench.until_deployed("v1").await;
    assert_eq!(bench.starts(0).await.len(), 1);
}

#[tokio::test]
async fn where_nothing_changes_nothing_is_written() {
    let bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    let versions = || async {
        let group = bench.space.api::<HostGroup>().get("prod").await.unwrap();
        (group.metadata.resource_version, bench.get("shop").await.metadata.resource_version)
    };
    // Hosts are looked at every second all the time; what was to be said of them is said at some time.
    let rests = || async {
        let before = versions().await;
        tokio::time::sleep(Duration::from_secs(15)).await;
        versions().await == before
    };
    until("at rest for fifteen seconds", rests).await;
}

#[tokio::test]
async fn a_host_that_leaves_its_group_is_named_and_no_longer_dialled() {
    let mut bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    // Also an operator that never acted there knows it, from the owner file.
    bench.operator.restart().await;
    bench.until("looked at", |object| is(object, "Ready", "Deployed")).await;
    until("connected to both", || async { bench.connections() == [1, 1] }).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let only = json!([{ "name": "web-01", "address": bench.hosts.host(0).address }]);
    bench.patch::<HostGroup>("prod", json!({ "spec": { "hosts": only } })).await;
    bench.until("one host", |object| object.status.as_ref().is_some_and(|status| status.hosts.total == 1)).await;
    bench.until_deployed("v1").await;
    let let_go = || async {
        let seen = (bench.connections(), events(&bench, "HostLeft").await);
        if seen.0 == [1, 0] && !seen.1.is_empty() { Ok(()) } else { Err(seen) }
    };
    find("let go and told of", let_go, |seen| format!("{seen:?}")).await;
    let said = events(&bench, "HostLeft").await;
    assert!(said.len() == 1 && said[0].contains("web-02"), "{said:?}");
    let log = "grep -c 'Connection from' /run/sshd.log";
    let before = bench.hosts.host(1).sh(log).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(bench.hosts.host(1).sh(log).await, before, "it is looked at no more");
    assert_eq!(bench.version_on(1).await, "v1", "what runs there goes on");
    assert_eq!(bench.starts(1).await.len(), 1);
}

/// Three hosts on v1, of which one fails with v2.
async fn halted_after_one(bench: &Bench) {
    bench.publish("v1", SERVES);
    bench.publish("v2", &format!("[ -e /srv/bad ] && exit 3\n{SERVES}"));
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.hosts.host(1).sh("touch /srv/bad").await;
    bench.edit(json!({ "version": "v2" })).await;
    bench.until("failed", |object| is(object, "Stalled", "HostsFailed")).await;
}

#[tokio::test]
async fn going_back_after_a_failure_touches_only_hosts_that_differ_and_first_the_one_that_is_down() {
    let bench = Bench::new(3).await;
    halted_after_one(&bench).await;
    let seen = bench.recorded().await;
    bench.edit(json!({ "version": "v1" })).await;
    let done = bench.until_deployed("v1").await;
    assert_eq!(bench.starts(0).await, ["v1", "v2", "v1"]);
    assert_eq!(bench.starts(2).await, ["v1"], "a host that runs v1 all the time is not touched");
    for i in 0..3 {
        assert_eq!(bench.version_on(i).await, "v1");
    }
    let updating = |object: &Deployment, host: &str| {
        let rollout = object.status.as_ref().and_then(|status| status.rollout.as_ref());
        let intent = rollout.filter(|rollout| rollout.version == "v1").and_then(|rollout| rollout.intent.as_ref());
        intent.is_some_and(|intent| intent.updating.iter().any(|name| name == host))
    };
    let order: Vec<&str> = seen
        .states()
        .iter()
        .filter_map(|object| ["web-01", "web-02"].into_iter().find(|host| updating(object, host)))
        .collect();
    let shown =
        || seen.states().iter().map(|object| json!(object.status.as_ref().unwrap().rollout)).collect::<Vec<_>>();
    assert_eq!(order.first(), Some(&"web-02"), "the one that is down goes first: {:#?}", shown());
    let changes: Vec<_> = done.status.unwrap().history.iter().map(|entry| entry.change.unwrap()).collect();
    assert_eq!(changes, [HistoryChange::Version; 3]);
}

#[tokio::test]
async fn an_environment_that_is_taken_back_restarts_nothing_that_ran_with_it() {
    let bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({ "env": [{ "name": "COLOUR", "value": "red" }] })).await;
    bench.until_deployed("v1").await;
    bench.edit(json!({ "paused": true, "env": [{ "name": "COLOUR", "value": "blue" }] })).await;
    let paused = bench.until("paused", |object| is(object, "Reconciling", "Paused")).await;
    assert!(message(&paused).contains("v1 runs with the new environment on 0 of 2 hosts"), "{}", message(&paused));
    bench.edit(json!({ "paused": false, "env": [{ "name": "COLOUR", "value": "red" }] })).await;
    bench.until_deployed("v1").await;
    bench.stamp("landfall.dev/redeploy", "once").await;
    let done = bench
        .until("redeployed", |object| {
            let rollout = object.status.as_ref().and_then(|status| status.rollout.as_ref());
            rollout.is_some_and(|rollout| rollout.id == "3.1") && is(object, "Ready", "Deployed")
        })
        .await;
    for i in 0..2 {
        assert_eq!(bench.starts(i).await.len(), 2, "once at first, once for the redeploy");
    }
    let changes: Vec<_> = done.status.unwrap().history.iter().map(|entry| entry.change.unwrap()).collect();
    let expected =
        [HistoryChange::Redeploy, HistoryChange::Environment, HistoryChange::Environment, HistoryChange::Version];
    assert_eq!(changes, expected);
}

#[tokio::test]
async fn unreachable_hosts_use_up_max_unavailable_until_one_is_suspended() {
    let bench = Bench::new(3).await;
    bench.publish("v1", SERVES);
    bench.publish("v2", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.hosts.host(2).cut().await;
    bench.until("unreachable", |object| is(object, "Ready", "HostsUnreachable")).await;
    bench.edit(json!({ "version": "v2" })).await;
    let held = bench
        .until("held back", |object| {
            is(object, "Ready", "HostsUnreachable") && message(object).contains("maxUnavailable 1 is used up by web-03")
        })
        .await;
    assert!(message(&held).contains("landfall.dev/suspend-host=web-03"), "{}", message(&held));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.starts(0).await, ["v1"], "nobody else is taken down");
    let stamp = json!({ "metadata": { "annotations": { "landfall.dev/suspend-host": "web-03" } } });
    bench.patch::<HostGroup>("prod", stamp).await;
    let done = bench.until_deployed("v2").await;
    let counts = done.status.unwrap().hosts;
    assert_eq!((counts.total, counts.ready, counts.skipped, counts.unreachable), (2, 2, 1, 0));
    bench.hosts.host(2).mend().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.starts(2).await, ["v1"], "a suspended host is left alone");
    let stamp = json!({ "metadata": { "annotations": { "landfall.dev/resume-host": "web-03" } } });
    bench.patch::<HostGroup>("prod", stamp).await;
    until("brought along", || async { bench.version_on(2).await == "v2" }).await;
}
