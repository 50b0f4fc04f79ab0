//! Applications that run as units of a really booted systemd, deployed by a real operator.

use k8s_openapi::api::core::v1::Secret;
use landfall::api::HostGroup;
use serde_json::{Value, json};

use super::{Bench, is, message};
use crate::support::{free_port, systemd::SystemdHost, wait::until};

const SERVES: &str = "exec busybox httpd -f -p 8080 -h www\n";

#[tokio::test]
async fn a_version_runs_as_a_unit_and_is_updated_stopped_by_hand_and_brought_back() {
    let host = SystemdHost::up().await;
    host.sh("chown -R root /srv").unwrap();
    let bench = Bench::new(1).await;
    let (identity, known) = (host.identity(), host.known_hosts());
    bench.patch::<Secret>("prod-identity", json!({ "stringData": { "identity": identity } })).await;
    bench.patch::<Secret>("prod-known-hosts", json!({ "stringData": { "known_hosts": known } })).await;
    let spec = json!({ "ssh": { "user": "root", "port": host.port }, "hosts": [{ "name": "web-01", "address": "127.0.0.1" }] });
    bench.patch::<HostGroup>("prod", json!({ "spec": spec })).await;

    // The network is the machine's: a free port of it.
    let port = free_port();
    let publish = |version: &str, systemd: Value| {
        let probe = json!({ "httpGet": { "port": port, "path": "/version" } });
        let run = json!({ "process": null, "systemd": systemd, "stop": { "to": "Main" } });
        bench.publish_with(version, &SERVES.replace("8080", &port.to_string()), probe, run);
    };
    for version in ["v1", "v2"] {
        publish(version, json!({ "command": ["./app"] }));
    }
    let unit = format!("landfall-{}.shop.service", bench.space.name);
    let show =
        |property: &str| host.sh(&format!("systemctl show -p {property} --value {unit}")).unwrap().trim().to_owned();

    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    assert_eq!((show("ActiveState"), show("UnitFileState")), ("active".to_owned(), "enabled".to_owned()));
    let first = show("MainPID");
    assert!(host.sh(&format!("systemctl cat {unit}")).unwrap().contains("/releases/v1-"));

    bench.edit(json!({ "version": "v2" })).await;
    bench.until_deployed("v2").await;
    assert_ne!(show("MainPID"), first);
    assert!(host.sh(&format!("systemctl cat {unit}")).unwrap().contains("/releases/v2-"));

    // systemd starts it again; nothing is failed by that.
    host.sh(&format!("systemctl kill -s KILL {unit}")).unwrap();
    until("started again by systemd", || async { show("NRestarts") == "1" && show("ActiveState") == "active" }).await;
    bench.until_deployed("v2").await;

    // Somebody's stop is told and left alone, until a person says otherwise.
    host.sh(&format!("systemctl stop {unit}")).unwrap();
    bench.until("told", |object| is(object, "Ready", "ChangedByHand")).await;
    assert_eq!(show("ActiveState"), "inactive");
    bench.stamp("landfall.dev/redeploy", "1").await;
    bench.until("deployed again", |_| show("ActiveState") == "active").await;
    bench.until_deployed("v2").await;

    // An administrator's unit that is not the Project's: nothing is touched, and the words say what to add.
    publish("v3", json!({ "unit": "web.service" }));
    let text = "[Service]\nExecStart=/bin/sleep 1000\n";
    host.sh(&format!("printf '{text}' >/etc/systemd/system/web.service; systemctl daemon-reload; systemctl start web"))
        .unwrap();
    bench.edit(json!({ "version": "v3" })).await;
    let refused = bench.until("refused", |object| is(object, "Stalled", "HostsFailed")).await;
    assert!(message(&refused).contains("EnvironmentFile=-"), "{}", message(&refused));
    assert_eq!(
        (show("ActiveState"), host.sh("systemctl is-active web").unwrap().trim().to_owned()),
        ("active".to_owned(), "active".to_owned())
    );
}
