//! Two Deployments on the hosts of one group with a `minAvailable`.

use super::*;

/// The place of its one host, and its name.
const OF: [(&str, usize, &str); 2] = [("shop", 0, "web-01"), ("orders", 1, "web-02")];

#[tokio::test]
async fn two_deployments_of_a_group_are_updated_one_after_the_other() {
    let mut bench = Bench::new(3).await;
    bench.patch::<HostGroup>("prod", json!({ "spec": { "minAvailable": "66%" } })).await;
    // A host that was not checked yet is not available either.
    let all_checked = |group: &HostGroup| group.status.as_ref().is_some_and(|status| status.hosts.reachable == 3);
    bench.until_group("prod", "checked", all_checked).await;
    bench.publish("v1", SERVES);
    bench.publish_waiting("v2");
    // The first version takes nothing away.
    let on = |host: &str| json!({ "hosts": { "names": [host] } });
    tokio::join!(bench.deploy_as("shop", "v1", on("web-01")), bench.deploy_as("orders", "v1", on("web-02")));
    for (deployment, ..) in OF {
        bench.until_of(deployment, "deployed", |object| is(object, "Ready", "Deployed")).await;
    }
    let wanted = || json!({ "spec": { "version": "v2" } });
    tokio::join!(bench.patch::<Deployment>("shop", wanted()), bench.patch::<Deployment>("orders", wanted()));
    // Both decide at the same time; either may be the first.
    let waits = |object: &Deployment| is(object, "Reconciling", "TooFewAvailable");
    let one_waits = || async {
        let (shop, orders) = tokio::join!(bench.get("shop"), bench.get("orders"));
        match (waits(&shop), waits(&orders)) {
            (true, false) => Ok([1, 0]),
            (false, true) => Ok([0, 1]),
            _ => Err((shop.status, orders.status)),
        }
    };
    let tell = |seen| format!("{seen:#?}\n{}", bench.operator.tail());
    let [first, second] = find("one waits for the other", one_waits, tell).await.map(|n| OF[n]);
    let is_started =
        |host| move |object: &Deployment| exception(object, host).is_some_and(|one| one.phase == Phase::Verifying);
    bench.until_of(first.0, "in its update", is_started(first.2)).await;
    let waiting = bench.until_of(second.0, "waiting", waits).await;
    let said = message(&waiting);
    let of_group = "spec.minAvailable 66% of HostGroup prod keeps 2 of its 3 hosts";
    let by_first = format!("in an update of Deployment {}: {}", first.0, first.2);
    assert!(said.contains(of_group) && said.contains(&by_first), "{said}");
    assert!(!is(&waiting, "Stalled", "TooFewAvailable"));

    // Another operator knows it from what is on record.
    bench.operator.kill9().await;
    bench.operator.restart().await;
    bench.patch::<Deployment>(second.0, json!({ "spec": { "progressDeadlineSeconds": 700 } })).await;
    let waiting = bench.until_of(second.0, "waiting", waits).await;
    assert!(message(&waiting).contains(&by_first), "{}", message(&waiting));
    assert_eq!(bench.starts(second.1).await, ["v1"], "it was not begun");

    for (deployment, host, _) in [first, second] {
        bench.hosts.host(host).sh("touch /srv/go").await;
        let is_deployed = |object: &Deployment| {
            let version = object.status.as_ref().and_then(|status| status.version.as_deref());
            is(object, "Ready", "Deployed") && version == Some("v2")
        };
        bench.until_of(deployment, "deployed", is_deployed).await;
        assert_eq!(bench.starts(host).await, ["v1", "v2"]);
    }
}
