//! The log says when each build and each rollout begins and how it ends: one info line each, with the object's fields.

use serde_json::json;

use crate::support::{builds, plane::Operator, rollout, wait::until};

/// Lines of level INFO about this object whose message is this one, without what stands before the fields of the line.
fn lines(operator: &Operator, kind: &str, namespace: &str, name: &str, message: &str) -> Vec<String> {
    let object = format!("kind={kind:?} namespace={namespace:?} name={name:?}");
    let output = operator.output();
    let of_object = output.lines().filter(|line| line.contains(" INFO ") && line.contains(&object));
    of_object
        .filter_map(|line| line.split_once(&format!(": {message} ")))
        .map(|(_, fields)| fields.to_owned())
        .collect()
}

/// The value of `seconds=` at the end of a line.
fn seconds(line: &str) -> i64 {
    line.rsplit_once("seconds=").unwrap().1.trim().parse().unwrap()
}

#[tokio::test]
async fn a_build_has_one_line_when_it_begins_and_one_with_outcome_and_duration_when_it_ends() {
    let script = "sleep 2; test \"$LANDFALL_BUILD_NUMBER\" = 1 && echo x > app";
    let bench = builds::Bench::new("lines").await;
    bench
        .project(json!({ "script": script, "artifacts": [{ "path": "app" }], "tag": { "template": "v{number}" } }))
        .await;
    bench.build("shop-1", json!({})).await;
    bench.until_ready("shop-1").await;
    bench.build("shop-2", json!({})).await;
    bench.until_stalled("shop-2", "ScriptFailed").await;
    bench.build("shop-3", json!({ "cancelled": true })).await;
    bench.until_stalled("shop-3", "Cancelled").await;
    let of = |name: &str, message: &str| lines(&bench.operator, "Build", &bench.namespace.name, name, message);
    for (name, version, outcome) in [("shop-1", "v1", "Succeeded"), ("shop-2", "v2", "ScriptFailed")] {
        until("the end is logged", || async { of(name, "build ended").len() == 1 }).await;
        assert_eq!(of(name, "build begun"), [format!("id=1 version={version} by=\"landfall-dev-admin\"")]);
        let ended = of(name, "build ended");
        assert!(ended[0].starts_with(&format!("id=1 version={version} outcome={outcome} ")), "{ended:?}");
        assert!(seconds(&ended[0]) >= 2, "{ended:?}");
    }
    until("the end is logged", || async { of("shop-3", "build ended").len() == 1 }).await;
    assert!(of("shop-3", "build begun").is_empty());
    assert!(of("shop-3", "build ended")[0].contains("outcome=Cancelled"));
}

#[tokio::test]
async fn a_rollout_has_one_line_when_it_begins_and_one_with_outcome_and_duration_when_it_ends() {
    let bench = rollout::Bench::new(1).await;
    bench.publish("v1", &format!("[ -e /srv/bad ] && exit 3\n{}", rollout::SERVES));
    bench.hosts.host(0).sh("touch /srv/bad").await;
    bench.deploy("v1", json!({})).await;
    bench.until("failed", |object| rollout::is(object, "Stalled", "HostsFailed")).await;
    bench.hosts.host(0).sh("rm /srv/bad").await;
    bench.stamp("landfall.dev/retry", "1").await;
    bench.until_deployed("v1").await;
    let of = |message: &str| lines(&bench.operator, "Deployment", &bench.space.name, "shop", message);
    until("both ends are logged", || async { of("rollout ended").len() == 2 }).await;
    assert_eq!(
        of("rollout begun"),
        ["1.0.1", "1.0.2"].map(|id| format!("id={id} version=v1 by=\"landfall-dev-admin\""))
    );
    let ended = of("rollout ended");
    for (line, begin) in
        ended.iter().zip(["id=1.0.1 version=v1 outcome=Failed", "id=1.0.2 version=v1 outcome=Succeeded"])
    {
        assert!(line.starts_with(begin) && seconds(line) < 600, "{ended:?}");
    }
}
