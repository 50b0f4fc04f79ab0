//! Applications that run as another user, as their Project names it and their HostGroup allows: what is said before a rollout where that
//! is not allowed. What `landfall-host` does for it stands in `host/tests/processes/as_user.rs`.

use crate::support::rollout::{self, Bench, is};
use landfall::api::{Deployment, HostGroup};
use serde_json::json;

#[tokio::test]
async fn a_version_runs_as_the_user_that_its_project_names_and_its_group_allows() {
    let bench = Bench::with_hosts(2, &["--user", "deploy"]).await;
    bench.publish_with(
        "v1",
        rollout::SERVES,
        json!({ "httpGet": { "port": 8080, "path": "/version" } }),
        json!({ "user": "app" }),
    );
    let deployment = bench.deploy("v1", json!({})).await;
    let name = deployment.metadata.name.unwrap();
    let refused = bench.until("refused", |object: &Deployment| is(object, "Stalled", "UserNotAllowed")).await;
    let text = rollout::message(&refused);
    assert!(text.contains("has no user"), "{name}: {text}");
    let allow = |users: &[&str]| json!({ "spec": { "become": { "method": "Sudo", "users": users } } });
    // A host that is no use for its group is told as such; the Deployment waits for its own reason.
    bench.patch::<HostGroup>("prod", allow(&["web"])).await;
    let group = bench
        .until_group("prod", "refused by both", |group| {
            let exceptions = group.status.iter().flat_map(|status| &status.exceptions);
            exceptions.filter(|one| one.reason == "BecomeRefused").count() == 2
        })
        .await;
    let message = &group.status.unwrap().exceptions[0].message;
    assert!(message.contains("web") && message.contains("NOPASSWD"), "{message}");
    bench.patch::<HostGroup>("prod", allow(&["app"])).await;
    bench.until_deployed("v1").await;
    for i in [0, 1] {
        assert_eq!(bench.version_on(i).await, "v1");
        let who = bench.hosts.host(i).sh("ps -o user= -C busybox").await;
        assert!(who.contains("app") && !who.contains("deploy"), "{who}");
    }
    let su = json!({ "spec": { "become": { "method": "Su", "users": ["app"] } } });
    let api = bench.space.api::<HostGroup>();
    let refused = api.patch("prod", &Default::default(), &kube::api::Patch::Merge(&su)).await.unwrap_err().to_string();
    assert!(refused.contains("needs ssh.user root"), "{refused}");
}
