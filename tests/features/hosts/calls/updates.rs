//! Stop, switch and start as one act, and what interrupts it.

use super::*;

#[tokio::test]
async fn a_connection_lost_during_a_stop_neither_loses_nor_doubles_it() {
    let mut bench = Bench::new().await;
    bench.running("#!/bin/sh\ntrap 'echo TERM seen' TERM\nwhile ! [ -e /srv/enough ]; do sleep 0.1; done\n").await;
    let (host, gate, call) = (bench.host.clone(), bench.gate.clone(), bench.call.clone());
    let stop =
        tokio::spawn(
            async move { host.stop(&gate, &call, &StopSpec { signal: "TERM".to_owned(), grace: PATIENCE }).await },
        );
    let log = format!("cat {ROOT}/{}/shared/log/output.log", bench.call.folder);
    until("signalled", || async { bench.rack.host(0).sh(&log).await.contains("TERM seen") }).await;
    bench.rack.host(0).hangup().await;
    let lost = stop.await.unwrap();
    assert!(matches!(&lost, Err(HostError::Ssh(error)) if error.is_unreachable()), "{lost:?}");

    bench.again().await;
    let open = bench.folder().await.open.expect("the stop goes on");
    assert!(open.running && open.step == "stop", "{open:?}");
    let busy = bench
        .host
        .prune(
            &bench.gate,
            &ActCall { act: ActId { n: open.n + 1, ..bench.call.act.clone() }, ..bench.call.clone() },
            &[],
            1,
        )
        .await;
    assert!(matches!(&busy, Err(HostError::Busy { step, .. }) if step == "stop"), "{busy:?}");
    bench.rack.host(0).sh("touch /srv/enough").await;
    let attached = bench.host.attach(&bench.call.folder, &open, PATIENCE).await.unwrap();
    assert_eq!(attached.journal, open.n + 2);
    let folder = bench.folder().await;
    assert_eq!((folder.process, folder.open, folder.journal), (None, None, open.n + 2));
    let said = bench.host.tail(&bench.call.folder, 10).await.unwrap();
    assert_eq!(said.iter().filter(|line| *line == "TERM seen").count(), 1, "signalled once: {said:?}");
}

#[tokio::test]
async fn an_update_is_one_act_and_goes_on_when_the_connection_is_lost() {
    let mut bench = Bench::new().await;
    // It ends when it may.
    let slow = "#!/bin/sh\ntrap 'echo TERM seen' TERM\nwhile ! [ -e /srv/enough ]; do sleep 0.1; done\n";
    let v1 = bench.release("v1", &[("app", slow)]);
    let v2 = bench.release("v2", &[("app", WEB)]);
    bench.stage(&v1).await;
    assert!(!bench.turn(&v1, Some(8080)).await);
    bench.mark().await;
    bench.stage(&v2).await;
    bench.call.act.rollout = "2.0".to_owned();
    let (host, gate, call) = (bench.host.clone(), bench.gate.clone(), bench.call.clone());
    let spec = turning(&bench.call, &v2, Some(8080));
    let turn = tokio::spawn(async move { host.update(&gate, &call, &spec).await });
    let seen = "grep -c 'TERM seen' /srv/landfall/*/shared/log/output.log || true";
    until("the signal is there", || async { bench.rack.host(0).sh(seen).await.trim() == "1" }).await;
    // For a moment the call itself waits for the process; then a step does, which outlives the call.
    let step = "ls -d /srv/landfall/*/.landfall/steps/*/turn/pid 2>/dev/null || true";
    until("the step is there", || async { !bench.rack.host(0).sh(step).await.is_empty() }).await;
    bench.rack.host(0).hangup().await;
    let lost = turn.await.unwrap();
    assert!(matches!(&lost, Err(HostError::Ssh(error)) if error.is_unreachable()), "{lost:?}");

    bench.again().await;
    let open = bench.folder().await.open.expect("the turn goes on");
    assert_eq!(open.step, "turn");
    bench.rack.host(0).sh("touch /srv/enough").await;
    bench.host.attach(&bench.call.folder, &open, PATIENCE).await.unwrap();
    let folder = bench.folder().await;
    assert_eq!((folder.journal, folder.open), (bench.call.act.n + 2, None));
    let process = folder.process.unwrap();
    assert!(process.alive && process.rollout == "2.0", "{process:?}");
    assert_eq!(folder.current.as_ref(), Some(&v2.release));
    assert_eq!(bench.rack.host(0).sh(seen).await.trim(), "1", "signalled once");
}

#[tokio::test]
async fn an_update_starts_nothing_where_somebody_else_has_the_port() {
    let mut bench = Bench::new().await;
    let v1 = bench.release("v1", &[("app", WEB)]);
    bench.stage(&v1).await;
    assert!(!bench.turn(&v1, Some(8080)).await);
    bench.call.act.rollout = "1.1".to_owned();
    assert!(!bench.turn(&v1, Some(8080)).await, "our own socket is gone with its process");
    bench.call.act.rollout = "1.2".to_owned();
    bench.rack.host(0).sh("mkdir -p /srv/other && setsid busybox httpd -p 8081 -h /srv/other").await;
    assert!(bench.turn(&v1, Some(8081)).await);
    let folder = bench.folder().await;
    assert_eq!((folder.process, folder.current.as_ref()), (None, Some(&v1.release)));
    assert!(bench.host.port_refuses(8080).await.unwrap());
}

#[tokio::test]
async fn an_update_to_a_release_that_is_not_there_is_an_old_view_and_stops_nothing() {
    let mut bench = Bench::new().await;
    let v1 = bench.running(SLEEPER).await;
    let v2 = bench.release("v2", &[("app", SLEEPER)]);
    let refused = bench.host.update(&bench.gate, &bench.call, &turning(&bench.call, &v2, None)).await;
    assert_eq!(refused, Err(HostError::JournalMoved { now: bench.call.act.n }));
    let folder = bench.folder().await;
    assert!(folder.process.unwrap().alive);
    assert_eq!((folder.current, folder.journal), (Some(v1.release), bench.call.act.n));
}

#[tokio::test]
async fn a_mark_looks_whose_socket_answers_and_prunes() {
    let mut bench = Bench::new().await;
    let v1 = bench.running(WEB).await;
    let v2 = bench.release("v2", &[("app", WEB)]);
    bench.stage(&v2).await;
    bench.rack.host(0).sh("mkdir -p /srv/other && setsid busybox httpd -p 8081 -h /srv/other").await;
    let refused = bench.host.mark(&bench.gate, &bench.call, &marking("1.0", Some(8081))).await;
    assert_eq!(refused, Err(HostError::PortInUse { port: 8081 }));
    let folder = bench.folder().await;
    assert_eq!((folder.ready, folder.releases.len()), (None, 2));
    bench.call.act.n = folder.journal;
    let spec = MarkSpec { keep: vec![v1.release.clone()], at_most: 1, ..marking("1.0", Some(8080)) };
    let marked = bench.host.mark(&bench.gate, &bench.call, &spec).await.unwrap();
    let folder = bench.folder().await;
    assert!(folder.ready.is_some());
    assert_eq!(folder.releases, [v1.release]);
    assert_eq!(marked.folder.unwrap(), folder);
}
