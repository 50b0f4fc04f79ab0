//! Operators that are killed, that follow, and that do not lead.

use super::*;
use crate::support::plane::leadership;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_over_killed_operators_and_a_namespace_goes_while_none_is_there() {
    let _turn = TURN.lock().await;
    let dev = Arc::new(Dev::start(&["--ephemeral", "--", "--allow-file-git"]).await);
    let bench = Bench::on(dev.clone()).await;
    let services = Api::<APIService>::all(bench.client.clone());
    let available = || async {
        let found = services.get_opt(view::API_SERVICE).await.ok()??;
        let conditions = found.status?.conditions?;
        conditions.iter().any(|one| one.type_ == "Available" && one.status == "True").then_some(())
    };
    eventually("it is announced", available).await;
    let script = "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); echo \"line $i of a build that goes on\"; [ $((i % 100)) != 0 ] || sleep 0.1
        [ $i != 2000 ] || while ! [ -e go ]; do sleep 0.1; done; done";
    bench.build("long", script).await;
    let spare = Bench::on(dev.clone()).await;
    let cli = bench.cli(&["logs", "build/long", "-f"]);
    eventually("it runs", || async { bench.read(&bench.log_path("long")).await.ok().filter(|log| log.len() > 5000) })
        .await;
    let first = bench.operator().await;
    signal(first, rustix::process::Signal::KILL);
    let began = Instant::now();
    Api::<Namespace>::all(bench.client.clone()).delete(&spare.namespace, &DeleteParams::default()).await.unwrap();
    eventually("the namespace is gone", || async {
        Api::<Namespace>::all(bench.client.clone()).get_opt(&spare.namespace).await.unwrap().is_none().then_some(())
    })
    .await;
    println!("a namespace went {:?} after the operator was killed", began.elapsed());
    let began = Instant::now();
    eventually("it is announced again", available).await;
    println!("announced again {:?} after that", began.elapsed());
    let second = bench.operator_but(Some(first)).await;
    signal(second, rustix::process::Signal::KILL);
    bench.touch("long", "go").await;
    let cli = output(cli).await;
    let raw = fs::read(executor_log(&bench, "long").await).unwrap();
    assert!(
        cli.stdout == raw,
        "no gap, no line twice: {} of {}\n{}",
        cli.stdout.len(),
        raw.len(),
        String::from_utf8_lossy(&cli.stderr)
    );
    assert_eq!(raw.iter().filter(|byte| **byte == b'\n').count(), 4000);

    // One that hangs is as good as dead.
    let hung = bench.operator_but(Some(second)).await;
    eventually("it is announced again", available).await;
    signal(hung, rustix::process::Signal::STOP);
    eventually("it is taken away", || async {
        services.get_opt(view::API_SERVICE).await.unwrap().is_none().then_some(())
    })
    .await;
    signal(hung, rustix::process::Signal::CONT);
    eventually("it is announced again", available).await;
    drop(bench);
}

/// A replica of the operator, killed when dropped.
struct Replica(std::process::Child);

impl Replica {
    fn start(dev: &Dev, data: &Path, port: u16, lease: &str) -> Self {
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            env!("CARGO_BIN_EXE_landfall"),
            "run",
            "--allow-file-git",
            "--lease-seconds",
            lease,
        ]);
        command.arg("--data-dir").arg(data).arg("--view-address").arg(format!("127.0.0.1:{port}"));
        command.env("KUBECONFIG", dev.folder().join("operator.kubeconfig")).stdin(Stdio::null());
        let log = fs::File::create(data.with_extension("log")).unwrap();
        Self(command.stderr(log).spawn().unwrap())
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_does_not_lead_relays_and_without_a_leader_serves_what_is_sealed() {
    let _turn = TURN.lock().await;
    let dev = Arc::new(Dev::start(&["--ephemeral", "--no-operator"]).await);
    let bench = Bench::on(dev.clone()).await;
    let (first, second) = (free_port(), free_port());
    let service = json!({ "metadata": { "name": view::VIEW_SERVICE }, "spec": {
        "type": "ExternalName", "externalName": "localhost", "ports": [{ "port": second }] }});
    create::<Service>(&Api::namespaced(bench.client.clone(), "landfall-system"), service).await;
    // As manifests/ has it: without the authority, which the operator fills in.
    let announced = json!({ "metadata": { "name": view::API_SERVICE }, "spec": {
        "group": view::VIEW_GROUP, "version": view::VIEW_VERSION, "groupPriorityMinimum": 100, "versionPriority": 10,
        "service": { "name": view::VIEW_SERVICE, "namespace": "landfall-system", "port": second } }});
    create::<APIService>(&Api::all(bench.client.clone()), announced).await;
    let data = [bench.dir.path().join("one"), bench.dir.path().join("two")];
    for folder in &data {
        fs::create_dir(folder).unwrap();
    }
    // The store is common, as a bucket would be.
    fs::create_dir(data[0].join("store")).unwrap();
    std::os::unix::fs::symlink(data[0].join("store"), data[1].join("store")).unwrap();
    let mut leader = Replica::start(&dev, &data[0], first, "300");
    eventually("the first one leads", || async {
        let term = leadership(&bench.client, "landfall-system").await?.terms.pop()?;
        assert_eq!(term.view_address, Some(format!("127.0.0.1:{first}")));
        Some(())
    })
    .await;
    let _other = Replica::start(&dev, &data[1], second, "2");
    bench.build("short", "echo sealed").await;
    bench.until_ended("short").await;
    let log = eventually("it is relayed", || async { bench.read(&bench.log_path("short")).await.ok() }).await;
    assert_eq!(log, b"sealed\n");
    bench.build("long", "for i in $(seq 30); do echo $i; sleep 0.1; done; sleep 1000").await;
    eventually("it runs", || async {
        bench.read(&bench.log_path("long")).await.ok().filter(|log| log.starts_with(b"1\n"))
    })
    .await;
    let mut follow =
        bench.client.request_stream(get(&format!("{}?follow=true", bench.log_path("long")))).await.unwrap().lines();
    for n in 1..=20 {
        assert_eq!(follow.try_next().await.unwrap(), Some(n.to_string()), "relayed as it comes");
    }
    let group = json!({ "metadata": { "name": "web" }, "spec": {
        "ssh": { "user": "x", "credentialsRef": { "name": "key" }, "hostKeys": { "knownHostsRef": { "name": "hosts" } } },
        "hosts": [{ "name": "web-01", "address": "192.0.2.1" }] }});
    create::<landfall::api::HostGroup>(&bench.api(), group).await;
    let hosts = view::path(&bench.namespace, "hostgroups", "web", "hosts");
    eventually("its host is shown", || async {
        let matrix: view::HostMatrix = bench.client.request(get(&hosts)).await.ok()?;
        matrix.hosts.iter().map(|row| row.host.as_str()).eq(["web-01"]).then_some(())
    })
    .await;

    let short = bench.api::<Build>().get("short").await.unwrap().metadata.uid.unwrap();
    let piece = data[0].join("store/logs").join(short).join("1/0");
    eventually("the log of the short one is sealed", || async { piece.exists().then_some(()) }).await;
    leader.0.kill().unwrap();
    leader.0.wait().unwrap();
    assert!(follow.try_collect::<Vec<_>>().await.is_err(), "a cut is no end");
    eventually("what is sealed is read", || async {
        bench.read(&bench.log_path("short")).await.ok().filter(|log| log == b"sealed\n")
    })
    .await;
    for away in [bench.log_path("long"), hosts] {
        let request = hyper::Request::get(&away).body(kube::client::Body::empty()).unwrap();
        let mut config = Config::from_custom_kubeconfig(
            Kubeconfig::read_from(&dev.kubeconfig).unwrap(),
            &KubeConfigOptions::default(),
        )
        .await
        .unwrap();
        config.default_retry = false;
        let refused = Client::try_from(config).unwrap().send(request).await.unwrap();
        assert_eq!(refused.status(), 503, "{away}");
        assert!(refused.headers().contains_key("retry-after"), "{away}");
    }
    // The script of the long build is nobody's any more.
    {
        let uid = bench.api::<Build>().get("long").await.unwrap().metadata.uid.unwrap();
        let record: Value =
            serde_json::from_slice(&fs::read(data[0].join("executor").join(uid).join("1/pid")).unwrap()).unwrap();
        signal(i32::try_from(record["runner"]["pid"].as_i64().unwrap()).unwrap(), rustix::process::Signal::KILL);
    }
}
