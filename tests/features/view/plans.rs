//! `deployments/plan`: what a Deployment would do, asked before it does it; nothing is touched.

use super::*;
use crate::support::{
    plane::named_namespace_on,
    rollout::{self, SERVES},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_planned_of_a_version_is_what_a_rollout_does_and_nothing_is_touched_before() {
    let _turn = TURN.lock().await;
    let dev = shared().await;
    let name = format!("plan-{:08x}", rand::random::<u32>());
    let (space, hosts) = tokio::join!(async { named_namespace_on(dev.client().await, &name).await }, Hosts::up(3));
    for object in hosts.group(&name, "prod") {
        match object["kind"].as_str() {
            Some("HostGroup") => create::<landfall::api::HostGroup>(&space.api(), object).await,
            _ => create::<k8s_openapi::api::core::v1::Secret>(&space.api(), object).await,
        }
    }
    let project = json!({ "metadata": { "name": "shop" }, "spec": {
        "source": { "url": "https://git.invalid/shop.git", "interval": "1h" },
        "build": { "script": "true", "artifacts": [{ "path": "app" }] },
        "run": { "process": { "command": ["./app"] } },
    }});
    create::<Project>(&space.api(), project).await;
    let probe = json!({ "httpGet": { "port": 8080, "path": "/version" } });
    for version in ["v1", "v2"] {
        rollout::publish(&dev.folder().join("operator"), &name, version, SERVES, probe.clone(), json!({}));
    }
    let deployments: Api<Deployment> = space.api();
    let deployment = json!({ "metadata": { "name": "shop" }, "spec": {
        "projectRef": { "name": "shop" }, "hostGroupRef": { "name": "prod" }, "version": "v1",
        "strategy": { "rollingUpdate": { "maxUnavailable": 2 } },
    }});
    create::<Deployment>(&deployments, deployment).await;
    let deployed = |version: &'static str| {
        let deployments = deployments.clone();
        eventually("it is deployed", move || {
            let deployments = deployments.clone();
            async move {
                let object = deployments.get("shop").await.unwrap();
                rollout::is(&object, "Ready", "Deployed").then_some(()).filter(|()| object.spec.version == version)?;
                Some(object)
            }
        })
    };
    let before = deployed("v1").await;

    let cli = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_landfall"));
        command.args(arguments).args(["-n", &name]).env("KUBECONFIG", &dev.kubeconfig).stdin(Stdio::null());
        command.output().unwrap()
    };
    let planned = cli(&["plan", "lfd/shop", "--version", "v2", "-o", "json"]);
    assert_eq!(planned.status.code(), Some(0), "{}", String::from_utf8_lossy(&planned.stderr));
    let plan: view::DeploymentPlan = serde_json::from_slice(&planned.stdout).unwrap();
    let batches: Vec<Vec<&str>> =
        plan.batches.iter().map(|batch| batch.hosts.iter().map(|one| one.host.as_str()).collect()).collect();
    assert_eq!(batches, [vec!["web-01", "web-02"], vec!["web-03"]], "{plan:?}");
    assert!(plan.batches.iter().flat_map(|batch| &batch.hosts).all(|one| {
        (one.from.as_deref(), one.to.as_str(), one.cause) == (Some("v1"), "v2", view::PlannedCause::Version)
    }));
    assert_eq!((plan.rollout.as_deref(), plan.ready, plan.unchanged), (Some("2.0"), true, 0), "{plan:?}");
    let unchanged = cli(&["plan", "lfd/shop"]);
    assert!(String::from_utf8_lossy(&unchanged.stdout).contains("updates   none; 3 hosts unchanged\n"));
    let after = deployments.get("shop").await.unwrap();
    assert_eq!(after.metadata.generation, before.metadata.generation);
    assert_eq!(after.status, before.status, "a plan is written nowhere");

    // A file, as kubectl would apply it: paused, on one host, and with a field that is none.
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut tried = json!({ "apiVersion": "landfall.dev/v1alpha1", "kind": "Deployment", "metadata": { "name": "shop" }, "spec": {
        "projectRef": { "name": "shop" }, "hostGroupRef": { "name": "prod" }, "version": "v2", "paused": true,
    }});
    fs::write(file.path(), tried.to_string()).unwrap();
    let held = cli(&["diff", "-f", file.path().to_str().unwrap()]);
    let screen = String::from_utf8_lossy(&held.stdout).into_owned();
    assert!(screen.contains("updates   none;") && screen.contains("end       held: Paused\n"), "{screen}");
    tried["spec"]["pasued"] = json!(true);
    fs::write(file.path(), tried.to_string()).unwrap();
    let wrong = cli(&["diff", "-f", file.path().to_str().unwrap()]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("spec.pasued is no field of a Deployment"));
    let none = cli(&["plan", "lfd/none"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&none.stderr).contains("there is no Deployment \"none\""));

    let edit = kube::api::Patch::Merge(json!({ "spec": { "version": "v2" } }));
    deployments.patch("shop", &kube::api::PatchParams::default(), &edit).await.unwrap();
    let done = deployed("v2").await;
    let history = done.status.unwrap().history;
    assert_eq!((history[0].revision, history[0].version.as_str()), (2, "v2"));

    let matrix = cli(&["matrix", "shop"]);
    let screen = String::from_utf8_lossy(&matrix.stdout).into_owned();
    let rows: Vec<String> = screen.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(rows[1], "DEPLOYMENT GROUP ZONE WANTED HOSTS v2 NONE STALE PINNED FAILED DRIFTING AWAY", "{screen}");
    for (row, zone) in rows[2..].iter().zip(["a", "b", "c"]) {
        assert_eq!(*row, format!("shop prod {zone} v2 1 1 . . . . . ."), "{screen}");
    }
    let history = cli(&["history", "lfd/shop"]);
    let screen = String::from_utf8_lossy(&history.stdout).into_owned();
    let versions: Vec<&str> = screen.lines().filter(|line| line.starts_with('v')).map(|line| &line[..2]).collect();
    assert_eq!(versions, ["v2", "v1"], "{screen}");

    let mallory = user(&dev, "mallory").await;
    let path = view::path(&name, "deployments", "shop", "plan");
    let request =
        || hyper::Request::post(&path).header("content-type", "application/json").body(b"{}".to_vec()).unwrap();
    let refused = mallory.request_text(request()).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");
    let binding = json!({ "metadata": { "name": "viewers" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "vera" }] });
    create::<RoleBinding>(&space.api(), binding).await;
    let vera = user(&dev, "vera").await;
    let plan: view::DeploymentPlan =
        eventually("a viewer plans", || async { vera.request(request()).await.ok() }).await;
    assert_eq!((plan.batches.len(), plan.unchanged), (0, 3));
    space.delete().await;
}
