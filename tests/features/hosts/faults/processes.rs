//! Processes that die, stay, or are somebody else's.

use super::*;

#[tokio::test]
async fn a_stranger_on_our_port_is_seen_before_the_start_and_never_taken_for_ours() {
    let hosts = Hosts::up_with(3, &SHELLS).await;
    for test in hosts.all() {
        let mut rig = Rig::new(&hosts, test).await;
        assert!(rig.host.port_refuses(8080).await.unwrap());
        test.sh("busybox httpd -p 127.0.0.1:8080 -h /run").await;
        assert!(!rig.host.port_refuses(8080).await.unwrap(), "{}", test.name);
        // A start all the same: ours lives without the port, the stranger answers on it.
        rig.bring_up(&Release::new("v1"), &["sleep", "1000"]).await;
        assert!(rig.host.tcp_ready(8080, LONG).await.unwrap());
        assert_eq!(
            rig.host.answering(&folder(), Some(8080)).await.unwrap().listener,
            Some(Listener::Foreign),
            "{}",
            test.name
        );
        assert_eq!(
            rig.host.answering(&folder(), Some(8081)).await.unwrap().listener,
            Some(Listener::Nobody),
            "{}",
            test.name
        );
        rig.stop(TIMEOUT).await.unwrap();
        assert!(rig.host.tcp_ready(8080, LONG).await.unwrap(), "{}: the stranger was stopped", test.name);
        rig.start(&Release::new("v1"), words!(web(8082))).await.unwrap();
        rig.until_http_ready(8082).await;
        assert_eq!(
            rig.host.answering(&folder(), Some(8082)).await.unwrap().listener,
            Some(Listener::Ours),
            "{}",
            test.name
        );
    }
}

#[tokio::test]
async fn a_process_that_ignores_term_is_killed_after_its_grace_with_all_of_its_session() {
    let hosts = Hosts::up_with(3, &SHELLS).await;
    let stubborn = "trap '' TERM; (trap '' TERM; while :; do sleep 7777; done) & while :; do sleep 7777; done";
    for test in hosts.all() {
        let mut rig = Rig::new(&hosts, test).await;
        rig.bring_up(&Release::new("v1"), &["sh", "-c", stubborn]).await;
        let neighbour = test.sh("setsid sleep 8888 >/dev/null 2>&1 & echo $!").await;
        let (result, took) = timed(rig.stop(Duration::from_secs(1))).await;
        result.unwrap_or_else(|error| panic!("{}: {error}", test.name));
        assert!(took >= Duration::from_secs(1) && took < LONG, "{}: {took:?}", test.name);
        assert!(rig.process().await.is_none_or(|process| !process.alive));
        assert_eq!(test.sh("pgrep -c -f '[s]leep 7777' || true").await, "0\n", "{}: children live on", test.name);
        test.sh(&format!("kill -0 {}", neighbour.trim())).await;
    }
}

#[tokio::test]
async fn a_stranger_with_the_pid_of_our_dead_process_is_neither_ours_nor_touched() {
    let hosts = Hosts::up_with(3, &SHELLS).await;
    for test in hosts.all() {
        let mut rig = Rig::new(&hosts, test).await;
        let ours = rig.bring_up(&Release::new("v1"), &["sleep", "1000"]).await;
        assert!(ours.alive);
        test.sh(&format!("kill -KILL {0}; while [ -e /proc/{0} ]; do :; done", ours.pid)).await;
        assert!(rig.process().await.is_some_and(|process| !process.alive), "{}", test.name);
        test.spawn_as_pid(u32::try_from(ours.pid).unwrap(), &["sleep", "9999"]).await;
        let named = format!("tr '\\0' ' ' </proc/{}/cmdline", ours.pid);
        until("taken: the pid", || async { test.sh(&named).await == "sleep 9999 " }).await;
        assert!(rig.process().await.is_some_and(|process| process.pid == ours.pid && !process.alive), "{}", test.name);
        rig.stop(Duration::from_secs(1)).await.unwrap();
        assert_eq!(test.sh(&named).await, "sleep 9999 ", "{}: a stranger was signalled", test.name);
    }
}

#[tokio::test]
async fn a_process_that_dies_right_after_it_was_ready_is_not_marked_ready() {
    let hosts = Hosts::up_with(3, &SHELLS).await;
    for test in hosts.all() {
        let mut rig = Rig::new(&hosts, test).await;
        let process = rig.bring_up(&Release::new("v1"), words!(web(8080))).await;
        rig.until_http_ready(8080).await;
        test.sh(&format!("kill -KILL {0}; while [ -e /proc/{0} ]; do :; done", process.pid)).await;
        let error = rig.mark().await.unwrap_err();
        assert!(matches!(&error, HostError::StepFailed { step, .. } if step == "mark"), "{}: {error:?}", test.name);
        let seen = rig.look().await;
        assert!(seen.ready.is_none() && seen.process.is_some_and(|process| !process.alive), "{}", test.name);
        assert!(rig.host.port_refuses(8080).await.unwrap());
        rig.start(&Release::new("v1"), words!(web(8080))).await.unwrap();
        rig.until_http_ready(8080).await;
        rig.mark().await.unwrap();
        assert!(rig.look().await.ready.is_some());
    }
}

#[tokio::test]
async fn a_reboot_ends_the_process_and_keeps_releases_current_and_journal() {
    let hosts = Hosts::up_with(3, &SHELLS).await;
    for test in hosts.all() {
        let mut rig = Rig::new(&hosts, test).await;
        let release = Release::new("v1");
        let before = rig.bring_up(&release, words!(web(8080))).await;
        let journal = rig.n;
        test.reboot().await;
        rig.reconnect().await;
        let after = rig.look().await;
        assert_eq!((after.journal, after.current.as_ref()), (journal, Some(&release.spec.release)), "{}", test.name);
        let process = after.process.unwrap();
        assert!(!process.alive && process.boot_id == before.boot_id, "{}: {process:?}", test.name);
        // The new boot gives the old number to a stranger at once: still nobody of ours.
        test.spawn_as_pid(u32::try_from(before.pid).unwrap(), &["sleep", "9999"]).await;
        rig.start(&release, words!(web(8080))).await.unwrap();
        rig.until_http_ready(8080).await;
        assert_eq!(test.sh("pgrep -c -f '[s]leep 9999'").await, "1\n", "{}: a stranger was signalled", test.name);
    }
}

#[tokio::test]
async fn a_stop_under_way_goes_on_when_the_link_is_cut_and_is_not_done_twice() {
    let hosts = Hosts::up_with(3, &SHELLS).await;
    for test in hosts.all() {
        let mut rig = Rig::new(&hosts, test).await;
        let stubborn = "trap '' TERM; while ! [ -e /srv/enough ]; do sleep 0.2; done";
        rig.bring_up(&Release::new("v1"), &["sh", "-c", stubborn]).await;
        let (gate, host, call) = (rig.gate.clone(), rig.host.clone(), rig.call("1.0"));
        let spec = StopSpec { signal: "TERM".into(), grace: PATIENCE };
        let stopping = tokio::spawn(async move { host.stop(&gate, &call, &spec).await });
        let begun = "ls /srv/landfall/shop.petclinic/.landfall/steps/*/stop/pid 2>/dev/null || true";
        until("begun: the stop", || async { !test.sh(begun).await.is_empty() }).await;
        test.hangup().await;
        let error = ssh_error(stopping.await.unwrap());
        assert!(error.is_unreachable(), "{}: {error:?}", test.name);
        rig.reconnect().await;
        let open = rig.look().await.open.unwrap_or_else(|| panic!("{}: no open act", test.name));
        assert!(open.running && open.step == "stop", "{}: {open:?}", test.name);
        let busy = rig.stop(Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(busy, HostError::Busy { .. } | HostError::JournalMoved { .. }), "{}: {busy:?}", test.name);
        test.sh("touch /srv/enough").await;
        let n = rig.host.attach(&folder(), &open, PATIENCE).await.unwrap().journal;
        let seen = rig.look().await;
        assert_eq!((seen.journal, seen.open), (n, None), "{}", test.name);
        assert!(seen.process.is_none_or(|process| !process.alive), "{}", test.name);
        let stops = test.sh("grep -c ' begin stop ' /srv/landfall/shop.petclinic/.landfall/journal").await;
        assert_eq!(stops, "1\n", "{}", test.name);
    }
}
