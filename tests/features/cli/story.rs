//! A day on the command line, by a real operator on real hosts.

use super::*;
use crate::support::rollout::{Bench, SERVES};

#[tokio::test]
async fn a_version_is_deployed_fails_is_retried_deployed_again_and_taken_back_by_commands_alone() {
    let bench = Bench::new(2).await;
    bench.publish("v1", SERVES);
    bench.publish("v2", &format!("[ -e /srv/bad ] && exit 3\n{SERVES}"));
    bench.hosts.host(1).sh("touch /srv/bad").await;
    let config = kubeconfig().await;
    let run = |arguments: &[&str]| {
        landfall(&[arguments, &["-n", &bench.space.name, "--wait", "--timeout", "5m"]].concat(), &config)
    };

    let deployed = run(&["deploy", "shop", "v1", "--to", "prod"]);
    assert_eq!(code(&deployed), 0, "{}{}", out(&deployed), err(&deployed));
    assert!(out(&deployed).starts_with("deployment/shop-prod: created, for v1 of project shop"), "{}", out(&deployed));
    assert!(out(&deployed).contains("\ndeployment/shop-prod: ready: "), "{}", out(&deployed));

    let failed = run(&["deploy", "shop", "v2", "--to", "prod"]);
    assert_eq!(code(&failed), 1, "{}{}", out(&failed), err(&failed));
    assert!(out(&failed).contains("deployment/shop-prod: failed, needs action: HostsFailed: "), "{}", out(&failed));

    bench.hosts.host(1).sh("rm /srv/bad").await;
    let retried = run(&["retry", "deployment/shop-prod"]);
    assert_eq!(code(&retried), 0, "{}{}", out(&retried), err(&retried));
    let rollout = async || {
        let status = bench.get("shop-prod").await.status.unwrap();
        let rollout = status.rollout.as_ref().unwrap();
        (rollout.id.clone(), rollout.attempt)
    };
    assert_eq!(rollout().await, ("2.0".to_owned(), 2));

    let again = run(&["redeploy", "deployment/shop-prod"]);
    assert_eq!(code(&again), 0, "{}{}", out(&again), err(&again));
    assert_eq!(rollout().await, ("2.1".to_owned(), 1));

    let back = run(&["deploy", "shop", "v1", "--to", "prod"]);
    assert_eq!(code(&back), 0, "{}{}", out(&back), err(&back));
    for i in 0..2 {
        assert_eq!(bench.version_on(i).await, "v1");
    }

    for reason in ["disk swap", "disk swap"] {
        let suspended = run(&["suspend", "hostgroup/prod", "web-02", "--reason", reason]);
        assert_eq!(code(&suspended), 0, "{}{}", out(&suspended), err(&suspended));
        let group = bench.until_group("prod", "suspended", |_| true).await;
        let status = group.status.unwrap();
        assert_eq!(status.suspended.len(), 1, "{:?}", status.suspended);
        assert_eq!(
            (status.suspended[0].host.as_str(), status.suspended[0].reason.as_deref()),
            ("web-02", Some("disk swap"))
        );
        let resumed = run(&["resume", "hostgroup/prod", "web-02"]);
        assert_eq!(code(&resumed), 0, "{}{}", out(&resumed), err(&resumed));
        let group = bench.until_group("prod", "resumed", |_| true).await;
        assert!(group.status.unwrap().suspended.is_empty());
    }
    let twice = run(&["resume", "hostgroup/prod", "web-02"]);
    assert_eq!(code(&twice), 2);
    assert!(err(&twice).contains("web-02 of hostgroup/prod is in service already"), "{}", err(&twice));
}
