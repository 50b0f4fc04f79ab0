//! Many readers, slow and dead ones, and those who have to wait for a place.

use super::*;

/// Bytes of memory that a process has resident.
fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_readers_and_a_terminal_get_every_byte_of_a_running_build_soon() {
    let _turn = TURN.lock().await;
    let bench = Bench::on(shared().await).await;
    // The reader comes before the build: it waits.
    let bench = Arc::new(bench);
    let terminal = tokio::spawn({
        let (client, path, bench) = (bench.client.clone(), bench.log_path("many"), bench.clone());
        async move {
            let mut answer = eventually("the log begins", || async {
                client.request_stream(get(&format!("{path}?follow=true"))).await.ok()
            })
            .await
            .lines();
            let mut waits = Vec::new();
            while let Some(line) = answer.try_next().await.unwrap() {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
                if let Some(then) = line.strip_prefix("at ").and_then(|then| then.parse::<u128>().ok()) {
                    waits.push(u64::try_from(now.saturating_sub(then) / 1000).unwrap());
                    // The script writes no further line before this one is here.
                    bench.touch("many", &format!("go-{}", waits.len())).await;
                }
            }
            waits
        }
    });
    bench
        .build("many", "for i in $(seq 40); do echo \"at $(date +%s%N)\"; printf 'k\\033[31mrot\\r'; while ! [ -e go-$i ]; do sleep 0.05; done; done; head -c 300000 /dev/zero | tr '\\0' x")
        .await;
    eventually("it runs", || async { bench.read(&bench.log_path("many")).await.ok().filter(|log| !log.is_empty()) })
        .await;
    let cli = bench.cli(&["logs", "build/many", "-f"]);
    let readers: Vec<_> = (0..20)
        .map(|_| {
            let (client, path) = (bench.client.clone(), format!("{}?follow=true", bench.log_path("many")));
            tokio::spawn(async move { read(&client, &path).await.unwrap() })
        })
        .collect();
    let cli = output(cli).await;
    let raw = fs::read(executor_log(&bench, "many").await).unwrap();
    assert_eq!(cli.stdout.len(), raw.len(), "{}", String::from_utf8_lossy(&cli.stderr));
    assert!(String::from_utf8_lossy(&cli.stderr).contains("attempt 1: Succeeded"));
    for reader in readers {
        assert!(reader.await.unwrap() == cli.stdout, "all readers get the same");
    }
    let shown = String::from_utf8(cli.stdout).unwrap();
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "nothing that a terminal would obey");
    assert!(shown.contains("k?[31mrot\n"), "{}", &shown[..200]);
    let mut waits = terminal.await.unwrap();
    waits.sort_unstable();
    println!(
        "line → follower: median {} µs, worst {} µs of {}",
        waits[waits.len() / 2],
        waits[waits.len() - 1],
        waits.len()
    );
    assert!(waits.len() == 40 && waits[20] < 5_000_000, "{waits:?}");

    // Parts of it, when it is over, and what is asked wrongly.
    let tail = bench.read(&format!("{}?tail=1", bench.log_path("many"))).await.unwrap();
    assert_eq!(tail.len(), 300_000);
    let since = bench.read(&format!("{}?since=100&attempt=1", bench.log_path("many"))).await.unwrap();
    assert_eq!(since, shown.as_bytes()[100..]);
    for (wrong, word) in
        [("folow=true", "folow"), ("since=99999999", "99999999"), ("attempt=7", "no attempt 7"), ("tail=x", "tail")]
    {
        let refused = bench.read(&format!("{}?{wrong}", bench.log_path("many"))).await.unwrap_err().to_string();
        assert!(refused.contains(word), "{refused}");
    }
    let kubectl = Binaries::find_or_build(&|_| {}).unwrap().program("kubectl");
    let raw = Command::new(kubectl)
        .args(["get", "--raw", &format!("{}?follow=true", bench.log_path("many"))])
        .env("KUBECONFIG", &bench.dev.kubeconfig)
        .output();
    assert_eq!(raw.unwrap().stdout, shown.as_bytes(), "kubectl get --raw reads it as well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_and_slow_readers_cost_the_build_nothing_and_the_operator_little() {
    let turn = TURN.lock().await;
    let bench = Bench::on(shared().await).await;
    // As fast as it goes, once the readers are there.
    let script = format!("{WAITS}; yes 0123456789abcdef0123456789abcdef | head -c 95000000");
    let begins = async |name: &str| {
        let log = async || bench.read(&bench.log_path(name)).await.ok().filter(|log| log == b"begin\n");
        eventually("it begins", log).await;
    };
    bench.build("alone", &script).await;
    begins("alone").await;
    bench.touch("alone", "go").await;
    let alone = length(&bench.until_ended("alone").await);
    let before = resident(bench.operator().await);
    bench.build("read", &script).await;
    let mut streams = Vec::new();
    begins("read").await;
    for n in 0..10 {
        let mut stream =
            bench.client.request_stream(get(&format!("{}?follow=true", bench.log_path("read")))).await.unwrap();
        if n == 0 {
            // A slow one: 1 KiB now and then.
            tokio::spawn(async move {
                let mut some = [0; 1024];
                while stream.read(&mut some).await.is_ok_and(|n| n > 0) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        } else {
            // Dead ones: they read nothing.
            streams.push(stream);
        }
    }
    bench.touch("read", "go").await;
    let read = length(&bench.until_ended("read").await);
    let after = resident(bench.operator().await);
    println!(
        "95 MB: {alone} s alone, {read} s with 10 dead or slow readers; operator {} → {} MiB",
        before >> 20,
        after >> 20
    );
    // Held up by the dead ones, it would not have ended. Seconds as the status has them.
    assert!(read <= alone * 4 + 30, "the build is not held up: {alone} s alone, {read} s read");
    assert!(after < before + (64 << 20), "{before} → {after}");

    // After a minute they are given up: what is on the way to a dead one is all that it ever gets.
    drop(turn);
    tokio::time::sleep(Duration::from_secs(75)).await;
    let mut dead = streams.pop().unwrap();
    let mut got = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, dead.read_to_end(&mut got)).await.expect("it ends");
    println!("a dead reader got {} bytes, then {ended:?}", got.len());
    assert!(got.len() < 90_000_000 && ended.is_err(), "{} bytes, {ended:?}", got.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_follows_too_many_logs_is_told_to_come_again_and_others_find_a_place() {
    let _turn = TURN.lock().await;
    let bench = Bench::on(shared().await).await;
    bench.build("popular", &format!("{WAITS}; echo end")).await;
    eventually("it begins", || async {
        bench.read(&bench.log_path("popular")).await.ok().filter(|log| !log.is_empty())
    })
    .await;
    let binding = json!({ "metadata": { "name": "viewers" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "greedy" },
                     { "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "vera" }] });
    create::<RoleBinding>(&bench.api(), binding).await;
    let (greedy, vera) = (user(&bench.dev, "greedy").await, user(&bench.dev, "vera").await);
    let path = format!("{}?follow=true", bench.log_path("popular"));
    let first = eventually("a viewer follows", || async { greedy.request_stream(get(&path)).await.ok() }).await;
    let mut followed = vec![first];
    let refused = loop {
        match greedy.request_stream(get(&path)).await {
            Ok(stream) => followed.push(stream),
            Err(kube::Error::Api(status)) => break status,
            Err(error) => panic!("{error}"),
        }
        assert!(followed.len() <= 64, "one user has {} places", followed.len());
    };
    assert_eq!((followed.len(), refused.code, refused.reason.as_str()), (64, 429, "TooManyRequests"), "{refused:?}");
    assert!(refused.message.contains("greedy") && refused.message.contains("try again in 5 s"), "{}", refused.message);
    let other = vera.request_stream(get(&path)).await.expect("another user finds a place");
    // A place is free again when its reader goes.
    drop(followed.pop());
    followed.push(eventually("a place is free", || async { greedy.request_stream(get(&path)).await.ok() }).await);
    bench.touch("popular", "go").await;
    for mut stream in followed.into_iter().chain([other]) {
        let mut log = String::new();
        stream.read_to_string(&mut log).await.unwrap();
        assert_eq!(log, "begin\nend\n");
    }
}

/// The seconds of the times before lines, and the lines.
fn timed(log: &[u8]) -> Vec<(i64, String)> {
    let line = |line: &str| {
        let (time, text) = line.split_once(' ').unwrap();
        (time.parse::<jiff::Timestamp>().unwrap().as_second(), text.to_owned())
    };
    String::from_utf8(log.to_vec()).unwrap().lines().map(line).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_line_of_a_build_has_the_time_at_which_it_arrived_live_and_from_the_store() {
    let _turn = TURN.lock().await;
    let bench = Bench::on(shared().await).await;
    let now = || i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let begin = now();
    bench.build("timed", "echo one; sleep 2; echo two; sleep 2; printf '1%%\\r2%%\\nend'").await;
    let path = format!("{}?timestamps=true", bench.log_path("timed"));
    eventually("it begins", || async { bench.read(&path).await.ok().filter(|log| !log.is_empty()) }).await;
    let cli = bench.cli(&["logs", "build/timed", "-f", "--timestamps"]);
    let mut stream = bench.client.request_stream(get(&format!("{path}&follow=true"))).await.unwrap();
    // As they arrive, not when it is over.
    let mut first = [0; 2 * view::STAMP_BYTES + "one\ntwo\n".len()];
    stream.read_exact(&mut first).await.unwrap();
    let early = timed(&first);
    assert!(bench.api::<Build>().get("timed").await.unwrap().status.unwrap().attempts[0].outcome.is_none());
    let mut live = first.to_vec();
    stream.read_to_end(&mut live).await.unwrap();
    let lines = timed(&live);
    println!("{}", String::from_utf8_lossy(&live));
    assert_eq!(lines[..2], early);
    assert_eq!(lines.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), ["one", "two", "1%", "2%", "end"]);
    let at = |n: usize| lines[n].0;
    // Each is at most a second off, by its being cut to the second; a busy machine sleeps longer.
    assert!((1..=12).contains(&(at(1) - at(0))) && (1..=12).contains(&(at(2) - at(1))), "{lines:?}");
    assert!(at(0) >= begin && at(4) <= now() && at(2) == at(4), "{lines:?} after {begin}");
    let cli = output(cli).await;
    assert_eq!(String::from_utf8_lossy(&cli.stdout), String::from_utf8_lossy(&live));
    assert!(!String::from_utf8_lossy(&cli.stderr).contains("no time"));

    // What is read from the store when the executor has nothing of it any more.
    bench.until_ended("timed").await;
    let file = executor_log(&bench, "timed").await;
    let raw = fs::read(&file).unwrap();
    let attempt = file.parent().unwrap();
    let uid = attempt.parent().unwrap().file_name().unwrap();
    let sealed = bench.dev.folder().join("operator/store/logs").join(uid).join("1");
    eventually("it is sealed", || async {
        (sealed.join("0").exists() && sealed.join("times").exists() && !attempt.join("src").exists()).then_some(())
    })
    .await;
    fs::remove_dir_all(attempt).unwrap();
    let stored = output(bench.cli(&["logs", "build/timed", "--timestamps"])).await;
    assert_eq!(String::from_utf8_lossy(&stored.stdout), String::from_utf8_lossy(&live));
    let tail = bench.read(&format!("{path}&tail=2")).await.unwrap();
    assert_eq!(timed(&tail), lines[3..]);
    // The middle of a line, and the log's bytes are as they were.
    assert_eq!(timed(&bench.read(&format!("{path}&since=5")).await.unwrap())[0], (at(1), "wo".to_owned()));
    assert_eq!(bench.read(&bench.log_path("timed")).await.unwrap().len(), raw.len());

    // An attempt without an index, as those of before there was one.
    fs::remove_file(sealed.join("times")).unwrap();
    let without = output(bench.cli(&["logs", "build/timed", "--timestamps"])).await;
    assert!(without.status.success());
    assert_eq!(String::from_utf8_lossy(&without.stderr).matches("no time").count(), 1, "{without:?}");
    let shown = String::from_utf8(without.stdout).unwrap();
    let texts: Vec<_> = shown.lines().map(|line| line.strip_prefix(view::NO_STAMP).unwrap_or(line)).collect();
    assert_eq!(texts, ["one", "two", "1%", "2%", "end"]);
    assert!(shown.lines().all(|line| line.starts_with("- ")), "{shown}");
}

fn length(build: &Build) -> i64 {
    let attempt = build.status.as_ref().unwrap().attempts.last().unwrap();
    attempt.completed_at.as_ref().unwrap().0.as_second() - attempt.started_at.0.as_second()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_on_hosts_is_read_as_it_happens_by_all_or_by_one_and_afterwards() {
    let _turn = TURN.lock().await;
    let (bench, hosts) = tokio::join!(async { Bench::on(shared().await).await }, Hosts::up(2));
    let tenant = json!({ "metadata": { "name": "landfall-tenant" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "landfall-tenant" },
        "subjects": [{ "kind": "ServiceAccount", "name": "landfall", "namespace": "landfall-system" }] });
    create::<RoleBinding>(&bench.api(), tenant).await;
    for object in hosts.group(&bench.namespace, "prod") {
        match object["kind"].as_str() {
            Some("HostGroup") => create::<landfall::api::HostGroup>(&bench.api(), object).await,
            _ => create::<k8s_openapi::api::core::v1::Secret>(&bench.api(), object).await,
        }
    }
    let url = format!("file://{}", bench.dir.path().join("origin.git").display());
    let script = "case $LANDFALL_VERSION in v1) then='exec busybox httpd -f -p 8080';; *) then='echo cannot do it; exit 3';; esac\nprintf '#!/bin/sh\\n%s\\n' \"$then\" >app; chmod +x app";
    let project = json!({ "metadata": { "name": "shop" }, "spec": {
        "source": { "url": url, "interval": "1h" },
        "build": { "script": script, "artifacts": [{ "path": "app" }], "tag": { "push": false } },
        // Without a probe what dies at once may have been ready before.
        "run": { "process": { "command": ["./app"] }, "readinessProbe": { "tcpSocket": { "port": 8080 } } },
    }});
    create::<Project>(&bench.api(), project).await;
    for version in ["v1", "v2"] {
        let build = json!({ "metadata": { "name": version }, "spec": { "projectRef": { "name": "shop" }, "revision": "main", "tag": version } });
        create::<Build>(&bench.api(), build).await;
    }
    let deployment = json!({ "metadata": { "name": "shop" }, "spec": {
        "projectRef": { "name": "shop" }, "hostGroupRef": { "name": "prod" }, "version": "v1" } });
    create::<Deployment>(&bench.api(), deployment).await;
    let first = output(bench.cli(&["logs", "deployment/shop", "-f"])).await;
    assert_eq!(first.status.code(), Some(0), "{}", String::from_utf8_lossy(&first.stderr));
    let first = String::from_utf8(first.stdout).unwrap();
    println!("{first}");
    for host in ["web-01", "web-02"] {
        for word in [
            "goal: run v1",
            "stage: done in",
            "switch: done in",
            "start: done in",
            "wait until ready: done in",
            "ready",
        ] {
            assert!(first.lines().any(|line| line.contains(&format!(" {host}: {word}"))), "{host} {word}");
        }
    }
    let rows = eventually("both hosts are shown with it", || async {
        let rows = String::from_utf8(output(bench.cli(&["hosts", "prod"])).await.stdout).unwrap();
        let both = |line: &&str| line.contains("shop") && line.contains("v1") && line.contains("Ready");
        (rows.lines().filter(both).count() == 2).then_some(rows)
    })
    .await;
    println!("{rows}");

    let patch = kube::api::Patch::Merge(json!({ "spec": { "version": "v2" } }));
    bench.api::<Deployment>().patch("shop", &kube::api::PatchParams::default(), &patch).await.unwrap();
    eventually("the second rollout has begun", || async {
        let status = bench.api::<Deployment>().get("shop").await.unwrap().status?;
        status.rollout.into_option().filter(|rollout| rollout.id.starts_with("2."))
    })
    .await;
    let second = output(bench.cli(&["logs", "deployment/shop", "-f"])).await;
    assert_eq!(second.status.code(), Some(1), "{}", String::from_utf8_lossy(&second.stderr));
    let second = String::from_utf8(second.stdout).unwrap();
    assert!(second.contains("FAILED: ProcessDied") && second.contains("cannot do it"), "{second}");
    let failed = if second.contains("web-01: FAILED") { "web-01" } else { "web-02" };
    let one = output(bench.cli(&["logs", "lfd/shop", "--host", failed])).await;
    let own: Vec<&str> = second.lines().filter(|line| line.contains(&format!(" {failed}: "))).collect();
    assert_eq!(String::from_utf8(one.stdout).unwrap().lines().collect::<Vec<_>>(), own, "its part, and nothing else");
    let missing = output(bench.cli(&["logs", "lfd/shop", "--host", "web-77"])).await;
    assert!(!missing.status.success() && String::from_utf8_lossy(&missing.stderr).contains("has no host \"web-77\""));

    // The first one's log is in the store by now, or on its way there: it reads the same.
    let uid = bench.api::<Deployment>().get("shop").await.unwrap().metadata.uid.unwrap();
    let folder = bench.dev.folder().join("operator/rollouts").join(uid);
    eventually("it is sealed", || async { (!folder.join("1.0.1").exists()).then_some(()) }).await;
    let again = output(bench.cli(&["logs", "deployment/shop", "--attempt", "1.0.1"])).await;
    assert_eq!(String::from_utf8(again.stdout).unwrap(), first);
    let timed = output(bench.cli(&["logs", "deployment/shop", "--attempt", "1.0.1", "--timestamps"])).await;
    assert_eq!(String::from_utf8(timed.stdout).unwrap(), first, "its lines have times already");
    bench.api::<Deployment>().delete("shop", &DeleteParams::default()).await.unwrap();
    eventually("it is gone", || async {
        bench.api::<Deployment>().get_opt("shop").await.unwrap().is_none().then_some(())
    })
    .await;
}
