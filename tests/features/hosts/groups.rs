//! HostGroups by a real operator against real hosts: who answers, who does not and why.

use std::time::Duration;

use crate::support::{
    free_port,
    rollout::{Bench, SERVES},
    systemd,
    wait::{self, PATIENCE},
};
use k8s_openapi::api::core::v1::Secret;
use landfall::api::{Deployment, HostGroup, hostgroup::HostException};
use serde_json::json;

async fn until(bench: &Bench, what: &str, fits: impl Fn(&HostGroup) -> bool) -> HostGroup {
    bench.until_group("prod", what, fits).await
}

fn is(group: &HostGroup, kind: &str, reason: &str) -> bool {
    let Some(status) = &group.status else { return false };
    let current = Some(status.observed_generation) == group.metadata.generation;
    current && status.conditions.iter().any(|one| one.type_ == kind && one.reason == reason && one.status != "Unknown")
}

fn exception<'a>(group: &'a HostGroup, host: &str) -> Option<&'a HostException> {
    group.status.as_ref()?.exceptions.iter().find(|one| one.host == host)
}

fn reason(group: &HostGroup, host: &str) -> String {
    exception(group, host).map(|one| one.reason.clone()).unwrap_or_default()
}

#[tokio::test]
async fn hosts_that_do_not_answer_are_counted_and_named_and_the_group_is_ready_all_the_same() {
    let bench = Bench::new(4).await;
    until(&bench, "ready", |group| is(group, "Ready", "Probed")).await;
    bench.hosts.host(0).cut().await;
    bench.hosts.host(1).rekey().await;
    bench.hosts.host(1).hangup().await;
    bench.hosts.host(2).mute().await;
    bench.hosts.host(2).hangup().await;
    let group = until(&bench, "listed", |group| {
        let reasons = ["web-01", "web-02", "web-03", "web-04"].map(|host| reason(group, host));
        reasons == ["Unreachable", "HostKeyMismatch", "Unreachable", ""]
    })
    .await;
    assert!(is(&group, "Ready", "Probed"));
    let counts = &group.status.as_ref().unwrap().hosts;
    assert_eq!((counts.total, counts.reachable, counts.unreachable), (4, 1, 3));
    let changed = exception(&group, "web-02").unwrap();
    assert!(changed.message.matches("SHA256:").count() >= 2, "both fingerprints: {}", changed.message);
    for i in [0, 2] {
        bench.hosts.host(i).mend().await;
    }
    until(&bench, "back", |group| group.status.as_ref().unwrap().hosts.reachable == 3).await;
}

#[tokio::test]
async fn a_wrong_user_key_is_said_and_a_right_one_heals() {
    let bench = Bench::new(1).await;
    until(&bench, "ready", |group| is(group, "Ready", "Probed")).await;
    let wrong = json!({ "stringData": { "identity": bench.hosts.stranger_identity() } });
    bench.patch::<Secret>("prod-identity", wrong).await;
    // The new value is taken with the next look at the Secret.
    bench.patch::<HostGroup>("prod", json!({ "spec": { "env": [{ "name": "A", "value": "1" }] } })).await;
    // U8: a group whose every host refuses the key can't work, and a person must act.
    let group = until(&bench, "refused", |group| is(group, "Stalled", "NoHostReachable")).await;
    assert_eq!(reason(&group, "web-01"), "AuthenticationFailed");
    assert!(is(&group, "AllReachable", "HostsUnreachable"));
    let right = json!({ "stringData": { "identity": bench.hosts.identity() } });
    bench.patch::<Secret>("prod-identity", right).await;
    bench.patch::<HostGroup>("prod", json!({ "spec": { "env": [{ "name": "A", "value": "2" }] } })).await;
    until(&bench, "healed", |group| reason(group, "web-01").is_empty() && is(group, "Ready", "Probed")).await;
}

#[tokio::test]
async fn a_group_none_of_whose_hosts_answers_is_not_ready() {
    let bench = Bench::new(2).await;
    until(&bench, "ready", all_answer).await;
    for host in bench.hosts.all() {
        host.cut().await;
    }
    let group = until(&bench, "away", |group| is(group, "Ready", "NoHostReachable")).await;
    assert!(is(&group, "Reconciling", "NoHostReachable"), "it may pass: {:?}", group.status);
    bench.hosts.host(1).mend().await;
    let group = until(&bench, "one is enough", |group| is(group, "Ready", "Probed")).await;
    assert!(is(&group, "AllReachable", "HostsUnreachable"));
}

#[tokio::test]
async fn a_suspended_host_is_in_no_count_until_it_is_resumed() {
    let bench = Bench::new(2).await;
    until(&bench, "ready", all_answer).await;
    bench.hosts.host(1).cut().await;
    until(&bench, "away", |group| reason(group, "web-02") == "Unreachable").await;
    let stamp = async |verb: &str, value: &str| {
        bench.patch::<HostGroup>("prod", json!({ "metadata": { "annotations": { verb: value } } })).await;
    };
    stamp("landfall.dev/suspend-host", "web-02/disk swap").await;
    let group =
        until(&bench, "suspended", |group| all_answer(group) && !group.status.as_ref().unwrap().suspended.is_empty())
            .await;
    let status = group.status.unwrap();
    assert_eq!(
        (status.hosts.total, status.hosts.reachable, status.hosts.unreachable, status.hosts.suspended),
        (2, 1, 0, 1)
    );
    assert_eq!(
        (status.suspended[0].host.as_str(), status.suspended[0].reason.as_deref()),
        ("web-02", Some("disk swap"))
    );
    stamp("landfall.dev/resume-host", "web-02").await;
    until(&bench, "in service", |group| reason(group, "web-02") == "Unreachable").await;
}

#[tokio::test]
async fn secrets_that_are_missing_or_not_meant_for_this_are_waited_for() {
    let bench = Bench::new(1).await;
    until(&bench, "ready", |group| is(group, "Ready", "Probed")).await;
    let label = |value: &str| json!({ "metadata": { "labels": { "use.landfall.dev/ssh": value } } });
    bench.patch::<Secret>("prod-identity", label("staging")).await;
    bench.patch::<HostGroup>("prod", json!({ "spec": { "env": [{ "name": "A", "value": "1" }] } })).await;
    let group = until(&bench, "refused", |group| is(group, "Ready", "SecretNotForThis")).await;
    assert!(is(&group, "Reconciling", "SecretNotForThis"));
    bench.patch::<Secret>("prod-identity", label("prod")).await;
    until(&bench, "healed", |group| is(group, "Ready", "Probed")).await;
}

/// Whoever takes the key away takes the sessions, too.
#[tokio::test]
async fn a_key_that_was_taken_away_closes_its_sessions_and_what_is_under_way_ends() {
    let bench = Bench::new(1).await;
    bench.publish("v1", SERVES);
    bench.publish_waiting("v2");
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    bench.edit(json!({ "version": "v2" })).await;
    wait::until("begun", || async { bench.starts(0).await == ["v1", "v2"] }).await;
    let label = |value: &str| json!({ "metadata": { "labels": { "use.landfall.dev/ssh": value } } });
    bench.patch::<Secret>("prod-identity", label("staging")).await;
    refresh(&bench, "1").await;
    let group = until(&bench, "refused", |group| reason(group, "web-01") == "SecretNotForThis").await;
    assert!(is(&group, "Ready", "SecretNotForThis"), "{:?}", group.status);
    assert_eq!(group.status.unwrap().hosts.reachable, 0);
    wait::until("closed", || async { bench.connections() == [0] }).await;
    let shown = |object: &Deployment| {
        object
            .status
            .as_ref()
            .is_some_and(|status| status.exceptions.iter().any(|one| one.reason == "SecretNotForThis"))
    };
    bench.until("shown", shown).await;
    bench.hosts.host(0).sh("touch /srv/go").await;
    wait::until("the update went on", || async { bench.version_on(0).await == "v2" }).await;
    assert_eq!(bench.connections(), [0]);
    bench.patch::<Secret>("prod-identity", label("prod")).await;
    bench.until_deployed("v2").await;
    assert_eq!(bench.starts(0).await, ["v1", "v2"]);
}

#[tokio::test]
async fn a_secret_that_is_gone_closes_no_session_but_those_of_hosts_that_leave() {
    let bench = Bench::new(2).await;
    until(&bench, "ready", all_answer).await;
    let before = bench.sockets();
    bench.space.api::<Secret>().delete("prod-identity", &Default::default()).await.unwrap();
    refresh(&bench, "1").await;
    let gone = |group: &HostGroup| is(group, "Reconciling", "SecretNotFound");
    until(&bench, "gone", gone).await;
    assert_eq!(bench.sockets(), before);
    let (name, address) = ("web-01", &bench.hosts.host(0).address);
    let hosts = json!([{ "name": name, "address": address }, { "name": "new", "address": "198.18.255.254" }]);
    bench.patch::<HostGroup>("prod", json!({ "spec": { "hosts": hosts } })).await;
    wait::until("left", || async { bench.sockets()[1].is_empty() }).await;
    assert_eq!(bench.sockets()[0], before[0]);
    let group =
        until(&bench, "not dialled", |group| gone(group) && group.status.as_ref().unwrap().hosts.total == 2).await;
    assert_eq!(reason(&group, "new"), "", "it is not asked with a key whose Secret is gone");
}

/// How long it takes until the group is as it should be.
async fn time_until(bench: &Bench, what: &str, fits: impl Fn(&HostGroup) -> bool) -> Duration {
    let began = tokio::time::Instant::now();
    until(bench, what, fits).await;
    println!("{what}: {:?}", began.elapsed());
    began.elapsed()
}

async fn refresh(bench: &Bench, value: &str) {
    let stamp = json!({ "metadata": { "annotations": { "landfall.dev/refresh": value } } });
    bench.patch::<HostGroup>("prod", stamp).await;
}

/// Without what makes haste it would be ten minutes.
const SOON: Duration = Duration::from_secs(60);

fn all_answer(group: &HostGroup) -> bool {
    is(group, "Ready", "Probed") && group.status.as_ref().is_some_and(|status| status.exceptions.is_empty())
}

#[tokio::test]
async fn a_changed_secret_is_noticed_within_seconds_where_it_matters_and_at_once_on_refresh() {
    let bench = Bench::new(2).await;
    until(&bench, "ready", all_answer).await;
    let (old, new) = (bench.hosts.identity(), bench.hosts.stranger_identity());
    let allow = async |lines: &str| {
        for host in bench.hosts.all() {
            host.sh(&format!("printf '%s' '{lines}' >/run/host/authorized_keys")).await;
            host.hangup().await;
        }
    };
    let public = |name: &str| std::fs::read_to_string(bench.hosts.state().join(name)).unwrap();
    let (old_line, new_line) = (public("identity.pub"), public("stranger.pub"));
    let identity = |key: &str| json!({ "stringData": { "identity": key } });

    // The key was rotated on the hosts first: refused, and the Secret is read again from then on.
    allow(&new_line).await;
    until(&bench, "refused", |group| reason(group, "web-01") == "AuthenticationFailed").await;
    bench.patch::<Secret>("prod-identity", identity(&new)).await;
    assert!(time_until(&bench, "rotated user key", all_answer).await < SOON);

    // A host was installed anew.
    bench.hosts.host(1).rekey().await;
    bench.hosts.host(1).hangup().await;
    until(&bench, "mismatch", |group| reason(group, "web-02") == "HostKeyMismatch").await;
    let lines = bench.hosts.host(0).host_key_lines().await + &bench.hosts.host(1).host_key_lines().await;
    bench.patch::<Secret>("prod-known-hosts", json!({ "stringData": { "known_hosts": lines } })).await;
    assert!(time_until(&bench, "corrected known_hosts", all_answer).await < SOON);

    // All is well and both keys are good: nothing hurries, `refresh` does.
    allow(&(new_line + &old_line)).await;
    until(&bench, "ready", all_answer).await;
    let file = "/run/host/authorized_keys";
    let fingerprint = bench.hosts.host(0).sh(&format!("ssh-keygen -lf {file} | tail -n 1 | cut -d' ' -f2")).await;
    let used = format!("grep -c 'Accepted publickey.*{}' /run/sshd.log || true", fingerprint.trim());
    let before = bench.hosts.host(0).sh(&used).await;
    bench.patch::<Secret>("prod-identity", identity(&old)).await;
    refresh(&bench, "1").await;
    let began = tokio::time::Instant::now();
    while bench.hosts.host(0).sh(&used).await == before {
        assert!(began.elapsed() < SOON, "the old connection is kept");
    }
    println!("refresh, new key: {:?}", began.elapsed());

    // Gone and there again.
    bench.space.api::<Secret>().delete("prod-identity", &Default::default()).await.unwrap();
    refresh(&bench, "2").await;
    let gone = |group: &HostGroup| is(group, "Reconciling", "SecretNotFound");
    assert!(time_until(&bench, "refresh, Secret missing", gone).await < SOON);
    let again = bench.hosts.group(&bench.space.name, "prod").remove(0);
    bench.create::<Secret>(again).await;
    assert!(time_until(&bench, "Secret there again", all_answer).await < SOON);
}

/// The most connections at once that are seen until it is dropped. The kernel's table is read piece by piece, while connections come and
/// go, so one reading may show a connection beside its successor. A socket that two readings in a row show was open from the one to the
/// other; all such sockets were open at once, between them.
fn watch_connections(
    bench: &std::sync::Arc<Bench>,
) -> (std::sync::Arc<std::sync::atomic::AtomicUsize>, tokio_util::task::AbortOnDropHandle<()>) {
    let most = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (bench, seen) = (bench.clone(), most.clone());
    let watching = tokio::spawn(async move {
        let mut before = std::collections::HashSet::new();
        loop {
            let now: std::collections::HashSet<String> = bench.sockets().into_iter().flatten().collect();
            seen.fetch_max(now.intersection(&before).count(), std::sync::atomic::Ordering::Relaxed);
            before = now;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    (most, tokio_util::task::AbortOnDropHandle::new(watching))
}

#[tokio::test]
async fn a_group_with_fewer_connections_than_hosts_keeps_to_them_and_serves_every_host() {
    let bench = std::sync::Arc::new(Bench::new(4).await);
    let limit = async |n: usize| {
        bench.patch::<HostGroup>("prod", json!({ "spec": { "ssh": { "maxConcurrentConnections": n } } })).await;
        until(&bench, "ready", all_answer).await;
        // Connections above the limit are closed some time.
        wait::until("left with so few connections", || async { bench.connections().iter().sum::<usize>() <= n }).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    for (n, version) in [(1, "v1"), (2, "v2")] {
        bench.publish(version, SERVES);
        limit(n).await;
        let (most, _watching) = watch_connections(&bench);
        let began = tokio::time::Instant::now();
        match n {
            1 => _ = bench.deploy(version, json!({ "strategy": { "rollingUpdate": { "maxUnavailable": 2 } } })).await,
            _ => bench.edit(json!({ "version": version })).await,
        }
        bench.until_deployed(version).await;
        println!("limit {n}: {version} on 4 hosts in {:?}", began.elapsed());
        let looks = async || {
            let mut looks = Vec::new();
            for host in bench.hosts.all() {
                looks.push(host.sh("grep -c 'Accepted publickey' /run/sshd.log").await.trim().parse::<u32>().unwrap());
            }
            looks
        };
        let (before, then) = (looks().await, tokio::time::Instant::now());
        let (counts, least) = loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let counts: Vec<u32> = looks().await.iter().zip(&before).map(|(now, before)| now - before).collect();
            let least = *counts.iter().min().unwrap();
            if least >= 3 {
                break (counts, least);
            }
            assert!(then.elapsed() < PATIENCE, "not all are looked at: {counts:?}");
        };
        println!("limit {n}: looks in {:?}: {counts:?}; most connections at once: {most:?}", then.elapsed());
        assert_eq!(most.load(std::sync::atomic::Ordering::Relaxed), n, "so many connections at once");
        let best = *counts.iter().max().unwrap();
        assert!(best <= least * 2 + 2, "one host is looked at much less than another: {counts:?}");
        for i in 0..4 {
            assert_eq!(bench.version_on(i).await, version);
        }
    }
}

#[tokio::test]
async fn sshd_options_that_stand_in_the_way_are_lived_with_or_named() {
    let options = [
        "--sshd-of",
        "web-01=MaxSessions 1",
        "--sshd-of",
        "web-02=AllowTcpForwarding no",
        "--sshd-of",
        "web-03=MaxStartups 1",
        "--sshd-of",
        "web-04=DenyUsers root",
    ];
    let bench = Bench::on(4, &options, |plan| plan).await;
    until(&bench, "looked at", |group| {
        [1, 2, 3, 4].map(|i| reason(group, &format!("web-{i:02}"))) == ["", "", "", "AuthenticationFailed"]
    })
    .await;
    // One session at a time, although a stop takes longer than the looks every second.
    bench.publish("v1", &format!("trap '' TERM\n{}", SERVES.replace("exec ", "")));
    bench.publish("v2", SERVES);
    let only = json!({ "names": ["web-01", "web-03"] });
    bench.deploy("v1", json!({ "hosts": only })).await;
    bench.until_deployed("v1").await;
    bench.edit(json!({ "version": "v2" })).await;
    bench.until_deployed("v2").await;
    assert_eq!(bench.starts(0).await, ["v1", "v2"]);
    // A stranger takes the one place of MaxStartups: whoever is connected is not disturbed, and a new connection comes when there is room.
    let stranger = tokio::net::TcpStream::connect(bench.hosts.host(2).endpoint()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let now = bench.space.api::<HostGroup>().get("prod").await.unwrap();
    assert_eq!(reason(&now, "web-03"), "");
    bench.hosts.host(2).sh("pkill -f '^sshd: root'").await;
    until(&bench, "kept out", |group| reason(group, "web-03") == "Unreachable").await;
    let tries = "grep -c 'drop connection' /run/sshd.log || true";
    tokio::time::sleep(Duration::from_secs(6)).await;
    let tried: u32 = bench.hosts.host(2).sh(tries).await.trim().parse().unwrap();
    println!("dials in 6 s of a server without room: {tried}");
    assert!((1..=30).contains(&tried), "it backs off: {tried}");
    drop(stranger);
    until(&bench, "back", |group| reason(group, "web-03").is_empty()).await;
}

#[tokio::test]
async fn a_host_whose_login_manager_ends_our_processes_is_refused_until_it_makes_an_exception() {
    let host = systemd::SystemdHost::up().await;
    let bench = Bench::new(1).await;
    let (identity, known) = (host.identity(), host.known_hosts());
    bench.patch::<Secret>("prod-identity", json!({ "stringData": { "identity": identity } })).await;
    bench.patch::<Secret>("prod-known-hosts", json!({ "stringData": { "known_hosts": known } })).await;
    let spec = json!({ "ssh": { "user": "deploy", "port": host.port }, "hosts": [{ "name": "web-01", "address": "127.0.0.1" }] });
    bench.patch::<HostGroup>("prod", json!({ "spec": spec })).await;
    let group = until(&bench, "scoped", |group| reason(group, "web-01") == "SessionScoped").await;
    let message = &exception(&group, "web-01").unwrap().message;
    assert!(message.contains("KillExcludeUsers"), "{message}");
    // Root is an exception unless somebody says otherwise. The folders are root's then, or root would run another's programs.
    // (Before there is a Deployment: it would begin as root, on a host that root can use.)
    host.sh("chown -R root /srv").unwrap();
    bench.patch::<HostGroup>("prod", json!({ "spec": { "ssh": { "user": "root" } } })).await;
    until(&bench, "root", |group| reason(group, "web-01").is_empty() && is(group, "Ready", "Probed")).await;
    host.sh("chown -R deploy /srv").unwrap();
    bench.patch::<HostGroup>("prod", json!({ "spec": { "ssh": { "user": "deploy" } } })).await;
    until(&bench, "deploy", |group| reason(group, "web-01") == "SessionScoped").await;

    // A free port of the machine, whose network this host shares.
    let port = free_port();
    let probe = json!({ "httpGet": { "port": port, "path": "/version" } });
    bench.publish_with("v1", &SERVES.replace("8080", &port.to_string()), probe, json!({}));
    bench.deploy("v1", json!({})).await;
    let refused = bench.until("refused", |object| crate::support::rollout::is(object, "Stalled", "HostsFailed")).await;
    assert!(
        crate::support::rollout::message(&refused).contains("SessionScoped"),
        "{}",
        crate::support::rollout::message(&refused)
    );
    assert_eq!(host.sh("ls /srv/landfall | grep shop || true").unwrap(), "", "nothing was brought there");

    // What the message says helps, for real: the process outlives the connection that started it.
    host.sh("rm -rf /srv/landfall; echo KillExcludeUsers=deploy >>/etc/systemd/logind.conf.d/test.conf; systemctl restart systemd-logind").unwrap();
    until(&bench, "excepted", |group| reason(group, "web-01").is_empty() && is(group, "Ready", "Probed")).await;
    bench.stamp("landfall.dev/retry", "1").await;
    bench.until_deployed("v1").await;
    // Nobody holds the connection any more: the Deployment is deleted, and what runs stays (Retain); then its group goes.
    bench.delete("shop").await;
    bench.space.api::<HostGroup>().delete("prod", &Default::default()).await.unwrap();
    // To the login manager the session goes on as long as a process of it lives.
    let connections = "pgrep -f '^sshd: deploy' || true";
    wait::until("gone: the connection", || async { host.sh(connections).unwrap().is_empty() }).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let runs = host.sh(&format!("pgrep -f 'busybox httpd -f -p {port}' | wc -l")).unwrap();
    assert_ne!(runs.trim(), "0", "it was ended with the session");
}

#[tokio::test]
async fn two_hosts_with_one_address_are_refused() {
    let bench = Bench::new(1).await;
    let address = bench.hosts.host(0).address.clone();
    let hosts = json!([{ "name": "a", "address": address }, { "name": "b", "address": address }]);
    bench.patch::<HostGroup>("prod", json!({ "spec": { "hosts": hosts } })).await;
    let group = until(&bench, "refused", |group| is(group, "Stalled", "DuplicateAddress")).await;
    let message = &group.status.as_ref().unwrap().conditions[0].message;
    assert!(message.contains("hosts a and b"), "{message}");
}

#[tokio::test]
async fn a_group_says_which_versions_run_and_refresh_looks_at_once() {
    let bench = Bench::new(2).await;
    bench.patch::<HostGroup>("prod", json!({ "spec": { "probe": { "periodSeconds": 3600 } } })).await;
    bench.publish("v1", SERVES);
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    let group = until(&bench, "versions", |group| {
        group.status.as_ref().is_some_and(|status| {
            status.projects.first().and_then(|project| project.versions.first()).is_some_and(|one| one.hosts == 2)
        })
    })
    .await;
    let project = &group.status.as_ref().unwrap().projects[0];
    assert_eq!((project.project.as_str(), project.versions[0].version.as_str()), ("shop", "v1"));
    bench.hosts.host(0).refuse().await;
    bench.hosts.host(0).hangup().await;
    let stamp = json!({ "metadata": { "annotations": { "landfall.dev/refresh": "1" } } });
    bench.patch::<HostGroup>("prod", stamp).await;
    until(&bench, "looked", |group| reason(group, "web-01") == "Unreachable").await;
}

#[tokio::test]
async fn a_host_whose_root_takes_no_program_is_named_with_its_mount() {
    let bench = Bench::new(1).await;
    bench.hosts.host(0).sh("mkdir -p /srv/landfall; mount --bind /srv/landfall /srv/landfall; mount -o remount,bind,noexec /srv/landfall").await;
    let group = until(&bench, "unsupported", |group| reason(group, "web-01") == "HostUnsupported").await;
    let message = &exception(&group, "web-01").unwrap().message;
    assert!(message.contains("/srv/landfall (") && message.contains("mounted noexec"), "{message}");
}

#[tokio::test]
async fn a_group_that_went_and_came_back_is_looked_at_at_once() {
    let bench = Bench::new(1).await;
    bench.patch::<HostGroup>("prod", json!({ "spec": { "probe": { "periodSeconds": 3600 } } })).await;
    let mut group = until(&bench, "ready", |group| is(group, "Ready", "Probed")).await;
    let api = bench.space.api::<HostGroup>();
    api.delete("prod", &Default::default()).await.unwrap();
    group.metadata.resource_version = None;
    group.metadata.uid = None;
    group.status = None;
    api.create(&Default::default(), &group).await.unwrap();
    // Far less than the period of the watcher that was there before.
    until(&bench, "ready again", |group| is(group, "Ready", "Probed")).await;
}
