//! What applications print on real hosts, read through a real API server.

use super::*;

/// A Deployment whose application says one line and goes on, on two hosts; the third host of its group is not selected.
async fn deployed(bench: &Bench, hosts: &Hosts) {
    let tenant = json!({ "metadata": { "name": "landfall-tenant" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "landfall-tenant" },
        "subjects": [{ "kind": "ServiceAccount", "name": "landfall", "namespace": "landfall-system" }] });
    create::<RoleBinding>(&bench.api(), tenant).await;
    for mut object in hosts.group(&bench.namespace, "prod") {
        match object["kind"].as_str() {
            Some("HostGroup") => {
                // A host that is lost is asked for soon.
                object["spec"]["probe"] = json!({ "periodSeconds": 5 });
                create::<landfall::api::HostGroup>(&bench.api(), object).await;
            }
            _ => create::<k8s_openapi::api::core::v1::Secret>(&bench.api(), object).await,
        }
    }
    let url = format!("file://{}", bench.dir.path().join("origin.git").display());
    let app = "#!/bin/sh\nprintf 'hello \\033[31mfrom %s\\n' \"$LANDFALL_HOST\"\nexec sleep 1000\n";
    let script = format!("cat >app <<'EOT'\n{app}EOT\nchmod +x app");
    let project = json!({ "metadata": { "name": "shop" }, "spec": {
        "source": { "url": url, "interval": "1h" },
        "build": { "script": script, "artifacts": [{ "path": "app" }], "tag": { "push": false } },
        "run": { "process": { "command": ["./app"] } },
    }});
    create::<Project>(&bench.api(), project).await;
    let build = json!({ "metadata": { "name": "v1" }, "spec": { "projectRef": { "name": "shop" }, "revision": "main", "tag": "v1" } });
    create::<Build>(&bench.api(), build).await;
    let deployment = json!({ "metadata": { "name": "shop" }, "spec": {
        "projectRef": { "name": "shop" }, "hostGroupRef": { "name": "prod" }, "version": "v1",
        "hosts": { "names": ["web-01", "web-02"] } } });
    create::<Deployment>(&bench.api(), deployment).await;
}

/// The refusal's code and words.
fn refusal(result: kube::Result<Vec<u8>>) -> (u16, String) {
    match result.map(|read| String::from_utf8_lossy(&read).into_owned()) {
        Err(kube::Error::Api(status)) => (status.code, status.message.clone()),
        other => panic!("{other:?}"),
    }
}

fn path(bench: &Bench, query: &str) -> String {
    format!("{}?{query}", view::path(&bench.namespace, "applications", "shop", "log"))
}

/// What the command has printed, once it has these words.
async fn printed(output: &mut (impl tokio::io::AsyncRead + Unpin), words: &str) -> String {
    use tokio::io::AsyncReadExt;
    let mut all = Vec::new();
    let reading = async {
        let mut some = vec![0; 64 << 10];
        let mut searched = 0;
        while !String::from_utf8_lossy(&all[searched..]).contains(words) {
            searched = all.len().saturating_sub(words.len());
            let count = output.read(&mut some).await.unwrap();
            assert!(count > 0, "it ended: {}", String::from_utf8_lossy(&all));
            all.extend(&some[..count]);
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("it is printed");
    String::from_utf8(all).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_applications_print_is_read_with_a_right_of_its_own() {
    let _turn = TURN.lock().await;
    let (bench, hosts) = tokio::join!(async { Bench::on(shared().await).await }, Hosts::up(3));
    deployed(&bench, &hosts).await;
    let one = eventually("its first line is read", || async {
        let read = bench.read(&path(&bench, "host=web-01")).await.ok()?;
        let read = String::from_utf8(read).unwrap();
        read.ends_with("web-01\n").then_some(read)
    })
    .await;
    assert!(one.starts_with("=== landfall starts v1") && one.ends_with("\nhello ?[31mfrom web-01\n"), "{one}");

    // Whoever may read the Deployment may not by that read what its application prints.
    let bind = async |role: &str| {
        let binding = json!({ "metadata": { "name": role },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "vera" }] });
        create::<RoleBinding>(&bench.api(), binding).await;
    };
    bind("view").await;
    let vera = user(&bench.dev, "vera").await;
    let rollout = view::path(&bench.namespace, "deployments", "shop", "log");
    eventually("a viewer reads the rollout's log", || async { read(&vera, &rollout).await.ok() }).await;
    Api::<Deployment>::namespaced(vera.clone(), &bench.namespace).get("shop").await.unwrap();
    let (code, words) = refusal(read(&vera, &path(&bench, "host=web-01")).await);
    assert!(code == 403 && words.contains("applications/log"), "{code} {words}");
    bind("landfall-application-logs").await;
    let allowed = eventually("with the right", || async { read(&vera, &path(&bench, "host=web-01")).await.ok() }).await;
    assert_eq!(String::from_utf8_lossy(&allowed), one);

    // All hosts: each line has its host.
    let all = eventually("both are read", || async {
        let all = output(bench.cli(&["logs", "app", "lfd/shop", "--tail", "1"])).await;
        let all = String::from_utf8(all.stdout).unwrap();
        all.contains("web-02: hello").then_some(all)
    })
    .await;
    let mut lines: Vec<&str> = all.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["web-01: hello ?[31mfrom web-01", "web-02: hello ?[31mfrom web-02"]);

    // What can't be read is said, and is never an empty answer.
    for (query, expected, word) in [
        ("host=web-77", 404, "has no host \"web-77\""),
        ("host=web-03", 404, "nothing of project shop was deployed there"),
        ("since=12", 400, "since"),
        ("attempt=1", 400, "attempt"),
    ] {
        let (code, words) = refusal(bench.read(&path(&bench, query)).await);
        assert!(code == expected && words.contains(word), "{query}: {code} {words}");
    }
    follows_across_a_rotation(&bench, &hosts).await;

    // One host is lost: alone it is an error, beside others a line.
    hosts.host(1).refuse().await;
    hosts.host(1).hangup().await;
    let (code, words) = eventually("it is seen to be lost", || async {
        // Hers does not repeat by itself what is answered with 503.
        match read(&vera, &path(&bench, "host=web-02")).await {
            Err(kube::Error::Api(status)) => Some((status.code, status.message.clone())),
            _ => None,
        }
    })
    .await;
    assert!(code == 503 && words.contains("web-02") && words.contains("not connected"), "{code} {words}");
    let both = String::from_utf8(read(&vera, &path(&bench, "tail=1")).await.unwrap()).unwrap();
    assert!(both.starts_with("web-02: ... (landfall: host web-02") && both.contains("not connected: "), "{both}");
    assert!(both.ends_with("web-01: after the rotation\n"), "{both}");
    hosts.host(1).mend().await;
    bench.api::<Deployment>().delete("shop", &DeleteParams::default()).await.unwrap();
    eventually("it is gone", || async {
        bench.api::<Deployment>().get_opt("shop").await.unwrap().is_none().then_some(())
    })
    .await;
}

/// A follower goes on across a rotation by the keeper, and what was rotated away is read as well.
async fn follows_across_a_rotation(bench: &Bench, hosts: &Hosts) {
    let log = format!("/srv/landfall/{}.shop/shared/log/output.log", bench.namespace);
    let host = hosts.host(0);
    let mut following = tokio::process::Command::new(env!("CARGO_BIN_EXE_landfall"));
    following.args(["logs", "app", "deployment/shop", "--host", "web-01", "-f", "--tail", "1", "-n", &bench.namespace]);
    following.env("KUBECONFIG", &bench.dev.kubeconfig).stdout(Stdio::piped()).kill_on_drop(true);
    let mut following = following.spawn().unwrap();
    let mut shown = following.stdout.take().unwrap();
    assert_eq!(printed(&mut shown, "web-01\n").await, "hello ?[31mfrom web-01\n");
    // In two pieces, the second of which is written at once: where the file system can't cut off a beginning, what comes during a rotation
    // is lost, and the newest 10 MiB are kept.
    let lines = "seq -f 'line %.0f of a log that is rotated' 300000 >/srv/lines && head -c 10000000 /srv/lines";
    host.sh(&format!("{lines} >>{log} && tail -c +10000001 /srv/lines >/srv/rest && rm /srv/lines")).await;
    let mut followed = printed(&mut shown, "line 200000 ").await;
    host.sh(&format!("dd if=/srv/rest of={log} bs=9M oflag=append conv=notrunc 2>/dev/null && rm /srv/rest")).await;
    eventually("it is rotated", || async {
        // The copy is there before the beginning is cut off.
        let sizes = host.sh(&format!("stat -c %s {log} {log}.1 2>/dev/null || true")).await;
        let sizes: Vec<u64> = sizes.lines().map(|size| size.parse().unwrap()).collect();
        (sizes.len() == 2 && sizes[0] < 10 << 20).then_some(())
    })
    .await;
    host.sh(&format!("echo after the rotation >>{log}")).await;
    followed += &printed(&mut shown, "after the rotation\n").await;
    let expected: String = (1..=300_000).map(|n| format!("line {n} of a log that is rotated\n")).collect();
    assert!(followed == format!("{expected}after the rotation\n"), "{} of {} bytes", followed.len(), expected.len());
    following.kill().await.unwrap();
    let tail = output(bench.cli(&["logs", "app", "shop", "--host", "web-01", "--tail", "3", "--since", "1h"])).await;
    let last = "line 299999 of a log that is rotated\nline 300000 of a log that is rotated\nafter the rotation\n";
    assert_eq!(String::from_utf8_lossy(&tail.stdout), last, "{}", String::from_utf8_lossy(&tail.stderr));
}
