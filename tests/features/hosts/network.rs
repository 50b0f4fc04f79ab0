//! The network and the servers at its other end go bad: half-open connections, names that point elsewhere, slow lines, and SSH servers
//! with every violation we could think of. A real operator, real hosts.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use crate::support::hostile::{self, Hostile, VIOLATIONS, Violation};
use crate::support::{
    plane::OperatorPlan,
    rollout::{Bench, SERVES, is},
    wait::{find, until},
};
use k8s_openapi::api::core::v1::Secret;
use landfall::api::{Deployment, HostGroup};
use serde_json::{Value, json};

fn exception<'a>(object: &'a Deployment, host: &str) -> Option<&'a landfall::api::deployment::RolloutException> {
    object.status.as_ref()?.exceptions.iter().find(|one| one.host == host)
}

fn phase(object: &Deployment, host: &str) -> String {
    exception(object, host).map(|one| format!("{:?}", one.phase)).unwrap_or_default()
}

/// As `until`, with as much patience as is given; answers how long it took.
async fn within(bench: &Bench, limit: Duration, what: &str, fits: impl Fn(&Deployment) -> bool) -> Duration {
    let began = Instant::now();
    loop {
        let object = bench.get("shop").await;
        if fits(&object) {
            println!("{what}: {:?}", began.elapsed());
            return began.elapsed();
        }
        assert!(
            began.elapsed() < limit,
            "not {what} within {limit:?}: {:#?}\n{}",
            object.status,
            bench.operator.output()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A version that takes its time to stop, longer than it takes to notice that its host was lost: until `/srv/enough` is there.
fn publish_stubborn(bench: &Bench, version: &str) {
    let probe = json!({ "httpGet": { "port": 8080, "path": "/version" } });
    let script = "trap 'echo TERM >>../../shared/signals' TERM\nbusybox httpd -f -p 8080 -h www & W=$!\n\
                  while ! [ -e /srv/enough ]; do sleep 0.2; done; kill $W\n";
    bench.publish_with(version, script, probe, json!({ "terminationGracePeriodSeconds": 600 }));
}

#[tokio::test]
async fn a_half_open_connection_is_noticed_and_the_step_is_asked_for_again_and_not_done_again() {
    let bench = Bench::new(2).await;
    publish_stubborn(&bench, "v1");
    bench.publish("v2", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.edit(json!({ "version": "v2" })).await;
    bench.until("stopping", |object| phase(object, "web-01") == "Stopping").await;
    let signals = format!("cat {}/shared/signals 2>/dev/null || true", bench.folder());
    until("signalled", || async { !bench.hosts.host(0).sh(&signals).await.is_empty() }).await;
    bench.hosts.host(0).cut().await;
    let lost = |object: &Deployment| exception(object, "web-01").is_some_and(|one| one.reason == "Unreachable");
    within(&bench, Duration::from_secs(90), "lost", lost).await;
    assert!(bench.starts(1).await == ["v1"], "it was lost in its turn and counts against maxUnavailable");
    // It goes on by itself; nobody has to be there.
    bench.hosts.host(0).sh("touch /srv/enough").await;
    bench.hosts.host(0).mend().await;
    // Not before its turn: a program that ends by itself is started again meanwhile.
    bench.until("next", |object| phase(object, "web-02") == "Stopping").await;
    bench.hosts.host(1).sh("touch /srv/enough").await;
    bench.until_deployed("v2").await;
    let journal = format!("grep -c '\"kind\":\"begin\".*\"what\":\"use ' {}/.landfall/journal", bench.folder());
    assert_eq!(bench.hosts.host(0).sh(&journal).await.trim(), "2", "each version's turn was asked for once");
    assert_eq!(bench.hosts.host(0).sh(&signals).await, "TERM\n", "one signal");
    assert_eq!(bench.starts(0).await, ["v1", "v2"]);
}

#[tokio::test]
async fn a_slow_line_delays_its_own_host_and_no_other() {
    let bench = Bench::new(3).await;
    let mut noise = vec![0_u8; 300_000];
    rand::fill(&mut noise[..]);
    let noise: String = noise.iter().map(|byte| format!("{byte:02x}")).collect();
    bench.publish("v1", SERVES);
    bench.publish("v2", &format!("{SERVES}# {noise}\n"));
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    // Else it would be set aside, and tried again after a pause.
    bench.patch::<HostGroup>("prod", json!({ "spec": { "upload": { "minBytesPerSecond": 0 } } })).await;
    bench.hosts.host(1).slow("8kbit").await;
    // The slow one may be away as well: what is away for whatever cause counts.
    bench.edit(json!({ "version": "v2", "strategy": { "rollingUpdate": { "maxUnavailable": 2 } } })).await;
    let others = |object: &Deployment| object.status.as_ref().is_some_and(|status| status.hosts.ready == 2);
    within(&bench, Duration::from_secs(300), "the others done", others).await;
    assert_eq!(bench.version_on(1).await, "v1", "nothing was stopped there");
    bench.hosts.host(1).mend().await;
    let done = |object: &Deployment| is(object, "Ready", "Deployed");
    within(&bench, Duration::from_secs(300), "all done", done).await;
    assert_eq!(bench.version_on(1).await, "v2");
}

#[tokio::test]
async fn a_name_that_points_to_another_machine_or_to_none_is_never_trusted() {
    let names = tempfile::NamedTempFile::new().unwrap();
    let path = names.path().to_owned();
    let bench = Bench::with(2, |plan| plan.sees(&path, "/etc/hosts")).await;
    let point = |line: &str| std::fs::write(&path, format!("127.0.0.1 localhost\n{line}\n")).unwrap();
    let address = |i: usize| bench.hosts.host(i).address.clone();
    point(&format!("{} web.test", address(0)));
    // known_hosts goes by the name that is dialled.
    let line = bench.hosts.host(0).host_key_lines().await.replace(&address(0), "web.test");
    bench.patch::<Secret>("prod-known-hosts", json!({ "stringData": { "known_hosts": line } })).await;
    bench
        .patch::<HostGroup>("prod", json!({ "spec": { "hosts": [{ "name": "web-01", "address": "web.test" }] } }))
        .await;
    publish_stubborn(&bench, "v1");
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    let seen = async |what: &str, reason: &str| {
        bench.hosts.host(0).hangup().await;
        let began = Instant::now();
        let look = || async {
            let group = bench.space.api::<HostGroup>().get("prod").await.unwrap();
            let first = group.status.unwrap().exceptions.into_iter().next();
            let fits = first.as_ref().map(|one| one.reason.as_str()).unwrap_or_default() == reason;
            if fits { Ok(first) } else { Err(first) }
        };
        let first = find(what, look, |first| format!("{first:?}")).await;
        println!("{what}: {:?}: {}", began.elapsed(), first.map_or_else(String::new, |one| one.message));
    };
    point(&format!("{} web.test", address(1)));
    seen("the address is another machine's now", "HostKeyMismatch").await;
    assert!(
        !bench.hosts.host(1).sh("cat /run/sshd.log").await.contains("publickey"),
        "a key was offered to a stranger"
    );
    point("");
    seen("no such name", "Unreachable").await;
    point("fd00:dead:beef::1 web.test");
    seen("IPv6 only, and nobody there", "Unreachable").await;
    point(&format!("{} web.test", bench.hosts.host(0).address6()));
    seen("IPv6 only", "").await;
    point(&format!("{} web.test", address(0)));
    seen("back", "").await;
    bench.until_deployed("v1").await;
    assert_eq!(bench.starts(0).await.len(), 1);

    // In the middle of a rollout the stranger is left alone as well, and what was begun on the right one is not begun again.
    bench.publish("v2", SERVES);
    bench.edit(json!({ "version": "v2" })).await;
    bench.until("stopping", |object| phase(object, "web-01") == "Stopping").await;
    let begun = format!("grep -c '\"kind\":\"begin\".*\"what\":\"use ' {}/.landfall/journal || true", bench.folder());
    until("begun: the turn", || async { bench.hosts.host(0).sh(&begun).await.trim() == "2" }).await;
    point(&format!("{} web.test", address(1)));
    seen("another machine in the middle of a stop", "HostKeyMismatch").await;
    bench.hosts.host(0).sh("touch /srv/enough").await;
    point(&format!("{} web.test", address(0)));
    bench.until_deployed("v2").await;
    assert_eq!(bench.hosts.host(0).sh(&begun).await.trim(), "2", "each version's turn was asked for once");
    assert_eq!(bench.starts(0).await, ["v1", "v2"]);
    assert_eq!(bench.hosts.host(1).sh("ls /srv").await, "", "nothing of ours on the stranger");
}

#[tokio::test]
async fn a_name_server_that_never_answers_is_named_and_keeps_nobody_else_waiting() {
    const LOST: usize = 40;
    let net = rand::random::<[u8; 2]>();
    let silent = format!("127.{}.{}.1", 64 + net[0] % 64, net[1]);
    let _silent = std::net::UdpSocket::bind((silent.as_str(), 53)).unwrap();
    let file = |text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    };
    let (names, server) = (file("127.0.0.1 localhost\n"), file(&format!("nameserver {silent}\n")));
    let sees = |plan: OperatorPlan| plan.sees(names.path(), "/etc/hosts").sees(server.path(), "/etc/resolv.conf");
    let bench = Bench::with(3, sees).await;
    let address = |i: usize| bench.hosts.host(i).address.clone();
    // Who is not in known_hosts is not even looked up.
    let line = bench.hosts.host(2).host_key_lines().await;
    let lines: String = (0..LOST).map(|n| line.replace(&address(2), &format!("lost-{n}.test"))).collect();
    let known = json!({ "stringData": { "known_hosts": bench.hosts.known_hosts() + &lines } });
    bench.patch::<Secret>("prod-known-hosts", known).await;
    let mut hosts =
        vec![json!({ "name": "web-01", "address": address(0) }), json!({ "name": "web-02", "address": address(1) })];
    hosts.extend((0..LOST).map(|n| json!({ "name": format!("lost-{n}"), "address": format!("lost-{n}.test") })));
    bench.patch::<HostGroup>("prod", json!({ "spec": { "hosts": hosts } })).await;

    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({ "hosts": { "names": ["web-01", "web-02"] } })).await;
    bench.until_deployed("v1").await;
    let began = Instant::now();
    let unnamed = async || {
        let group = bench.space.api::<HostGroup>().get("prod").await.unwrap();
        let seen = group.status.unwrap().exceptions;
        let named =
            seen.iter().filter(|one| one.reason == "Unreachable" && one.message.contains("could not be looked up"));
        let named: Vec<String> = named.map(|one| one.host.clone()).collect();
        (0..LOST).map(|n| format!("lost-{n}")).filter(|name| !named.contains(name)).collect::<Vec<_>>()
    };
    while !unnamed().await.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "not named: {:?}", unnamed().await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // While all of them are asked for again and again the others go on.
    bench.publish("v2", SERVES);
    bench.edit(json!({ "version": "v2" })).await;
    bench.until_deployed("v2").await;
    assert!(!unnamed().await.contains(&"lost-1".to_owned()), "still nobody answers");

    std::fs::write(names.path(), format!("127.0.0.1 localhost\n{} lost-0.test\n", address(2))).unwrap();
    let began = Instant::now();
    while unnamed().await != ["lost-0"] {
        assert!(began.elapsed() < Duration::from_secs(120), "the name leads somewhere now, and is not tried");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

// ---- servers with violations --------------------------------------------------------------------------------------------------

/// HostGroup `prod` of the good hosts and of these.
async fn join(bench: &Bench, good: &Value, bad: &[Hostile]) {
    let mut hosts = good.as_array().unwrap().clone();
    hosts.extend(bad.iter().map(|one| json!({ "name": name(one), "address": one.address.ip().to_string() })));
    bench.patch::<HostGroup>("prod", json!({ "spec": { "hosts": hosts } })).await;
}

fn name(one: &Hostile) -> String {
    let mut name = String::new();
    for c in format!("{:?}", one.violation).chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(c.to_ascii_lowercase());
    }
    // Several may have one violation.
    format!("{name}-{}", v4(one).octets()[3])
}

/// Kilobytes of the operator, by the name of a line in its `status`.
fn memory(bench: &Bench, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", bench.operator.pid())).unwrap();
    let value = status.lines().find_map(|one| one.strip_prefix(line)).unwrap();
    value.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

/// Four good hosts in a group that may have so many connections at a time; a quarter of them is for hosts that did not answer lately.
const CONNECTIONS: usize = 64;

async fn good(port: &str) -> (Bench, Value) {
    let bench = Bench::on(4, &["--port", port], |plan| plan).await;
    // As in real life a look now and then: in tests it is every second, and then every second each of them is dialled.
    let spec = json!({ "probe": { "periodSeconds": 20 }, "ssh": { "connectTimeoutSeconds": 5 } });
    bench.patch::<HostGroup>("prod", json!({ "spec": spec })).await;
    bench.publish("v0", SERVES);
    bench.deploy("v0", json!({})).await;
    bench.until_deployed("v0").await;
    let hosts = serde_json::to_value(bench.space.api::<HostGroup>().get("prod").await.unwrap().spec.hosts).unwrap();
    let names: Vec<&str> = hosts.as_array().unwrap().iter().map(|host| host["name"].as_str().unwrap()).collect();
    bench.edit(json!({ "hosts": { "names": names } })).await;
    (bench, hosts)
}

/// Puts a server of each of these violations beside the good hosts.
async fn beset(bench: &Bench, good: &Value, violations: &[Violation]) -> Vec<Hostile> {
    let (key, net) = (hostile::host_key(), rand::random::<[u8; 2]>());
    let mut bad = Vec::new();
    for (n, violation) in (1..).zip(violations) {
        let address = format!("127.{}.{}.{n}:2222", 64 + net[0] % 64, net[1]);
        bad.push(hostile::serve(&address, *violation, &key).await);
    }
    let known = bad.iter().map(|one| hostile::known_host(one.address, &key)).collect::<String>();
    let known = json!({ "stringData": { "known_hosts": bench.hosts.known_hosts() + &known } });
    bench.patch::<Secret>("prod-known-hosts", known).await;
    join(bench, good, &bad).await;
    bad
}

/// How long one rollout takes on the good hosts, of some fifty commands there.
async fn rollout(bench: &Bench, version: &str) -> Duration {
    let began = Instant::now();
    bench.edit(json!({ "version": version })).await;
    loop {
        let status = bench.get("shop").await.status.unwrap_or_default();
        if status.version.as_deref() == Some(version) && status.hosts.ready == 4 {
            return began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_secs(300), "{version}: {status:#?}\n{}", bench.operator.output());
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Those of them that this machine has a connection to.
fn open_to(bad: &[Hostile]) -> Vec<&Hostile> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    // Third column: to whom; fourth: whether it is established.
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().skip(2).take(2).collect::<Vec<_>>());
    let open: Vec<&str> = rows.filter_map(|row| (row.get(1) == Some(&"01")).then(|| row[0])).collect();
    let remote = |one: &Hostile| format!("{:08X}:{:04X}", u32::from(v4(one)).swap_bytes(), one.address.port());
    bad.iter().filter(|one| open.contains(&remote(one).as_str())).collect()
}

fn v4(one: &Hostile) -> Ipv4Addr {
    let SocketAddr::V4(address) = one.address else { panic!("{}", one.address) };
    *address.ip()
}

/// Bad servers wait for each other and keep nobody else waiting: of those that are known to be bad never more are held on to than their
/// share. At first nothing is known of anybody; and connections may still be closing when the next are made, which takes its time on a machine
/// with much else to do.
async fn share_is_kept(bad: &[Hostile]) {
    let mut since = Instant::now();
    loop {
        let mut open = open_to(bad);
        open.retain(|one| one.dialled.load(Ordering::Relaxed) > 1);
        if open.len() <= CONNECTIONS / 4 {
            since = Instant::now();
        }
        let names: Vec<String> = open.into_iter().map(name).collect();
        assert!(since.elapsed() < Duration::from_secs(20), "more than their share: {names:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What bad servers cost the good hosts beside them is told by a second operator, which has as many good hosts and no bad one. Both roll out
/// the same versions at the same moments on the same machine, so its pace is the same for both, whatever it is; what the bad servers
/// themselves take of it costs both alike.
async fn nobody_is_slowed(beset: &Bench, alone: &Bench) {
    let (mut slow, mut usual) = (Duration::ZERO, Duration::ZERO);
    for n in 1..=12 {
        let version = format!("v{n}");
        for bench in [beset, alone] {
            bench.publish(&version, SERVES);
        }
        let (a, b) = tokio::join!(rollout(beset, &version), rollout(alone, &version));
        (slow, usual) = (slow + a, usual + b);
        println!("{version}: {a:.2?} beside bad servers, {b:.2?} alone; all {slow:.2?} and {usual:.2?}");
        if n >= 3 && slow <= usual.mul_f64(1.1) {
            return;
        }
    }
    panic!("slowed by more than a tenth in twelve rollouts: {slow:.2?} instead of {usual:.2?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_ssh_servers_are_named_and_slow_nobody() {
    let ((bench, hosts), (alone, _)) = tokio::join!(good("2222"), good("2222"));
    let before = memory(&bench, "VmRSS");
    let bad = beset(&bench, &hosts, &VIOLATIONS).await;
    let judged = async {
        for (host, (took, reason, message)) in &named(&bench, &bad).await {
            println!("{took:6.1?} s  {host:<36} {reason}: {message}");
        }
        nobody_is_slowed(&bench, &alone).await;
    };
    tokio::select! {
        () = share_is_kept(&bad) => {}
        () = judged => {}
    }
    let (now, peak) = (memory(&bench, "VmRSS"), memory(&bench, "VmHWM"));
    println!("memory of the operator: {before} kB before, {now} kB beside them, {peak} kB at most");
    assert!(peak < before + 100_000, "memory: {before} kB, then {peak} kB");
}

/// When each bad server was first listed, with which words; all within a minute.
async fn named(bench: &Bench, bad: &[Hostile]) -> BTreeMap<String, (f64, String, String)> {
    let (began, mut named) = (Instant::now(), BTreeMap::new());
    loop {
        let group = bench.space.api::<HostGroup>().get("prod").await.unwrap();
        for one in group.status.map(|status| status.exceptions).unwrap_or_default() {
            assert!(one.message.chars().all(|c| !c.is_control()), "{:?}", one.message);
            named.entry(one.host).or_insert((began.elapsed().as_secs_f64(), one.reason, one.message));
        }
        let missing: Vec<String> = bad.iter().map(name).filter(|name| !named.contains_key(name)).collect();
        if missing.is_empty() {
            return named;
        }
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "not named within a minute: {missing:?}\n{}",
            bench.operator.output()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
