//! What lies on a host: releases that come, are altered, or are not what they should be.

use super::*;

#[tokio::test]
async fn a_release_goes_through_its_whole_life_on_a_host() {
    let mut bench = Bench::new().await;
    let facts = bench.host.facts().await.unwrap();
    assert_eq!(facts.missing_tools, Vec::<String>::new());
    assert!(facts.forwards && !facts.session_scoped && facts.free_bytes > 0, "{facts:?}");
    assert!(facts.server.contains("OpenSSH"), "{}", facts.server);
    assert!(facts.folders.is_empty());

    let v1 = bench.release("v1", &[("app", WEB), ("deep/file", "1")]);
    bench.stage(&v1).await;
    bench.stop(5).await;
    bench.switch(&v1).await;
    assert!(bench.host.port_refuses(8080).await.unwrap());
    bench.start(&v1, &["./app"]).await;
    let host = bench.host.clone();
    until("ready", || async { host.http_ready(8080, "/index.html", ANSWER).await.unwrap() == Ok(200) }).await;
    assert_eq!(bench.host.http_ready(8080, "/nothing", ANSWER).await.unwrap(), Ok(404));
    assert!(bench.host.tcp_ready(8080, ANSWER).await.unwrap());
    assert!(!bench.host.port_refuses(8080).await.unwrap());
    assert_eq!(bench.host.answering(&bench.call.folder, Some(8080)).await.unwrap().listener, Some(Listener::Ours));
    assert_eq!(bench.host.answering(&bench.call.folder, Some(8081)).await.unwrap().listener, Some(Listener::Nobody));
    assert_eq!(
        bench.host.tail(&bench.call.folder, 10).await.unwrap(),
        ["it's \"quoted\"", "$HOME `id` \\0041 ü"],
        "the environment arrives as it was given"
    );
    bench.mark().await;

    let folder = bench.folder().await;
    let process = folder.process.clone().unwrap();
    assert!(process.alive);
    assert_eq!((process.digest.as_str(), process.revision, process.rollout.as_str()), (v1.digest.as_str(), 1, "1.0"));
    assert_eq!(process.release.as_ref(), Some(&v1.release));
    assert_eq!(folder.owner.as_ref(), Some(&bench.call.owner));
    assert_eq!(folder.fence.as_ref(), Some(&bench.call.fence));
    assert_eq!(folder.journal, bench.call.act.n);
    assert_eq!(folder.open, None);
    assert_eq!(folder.current.as_ref(), Some(&v1.release));
    let ready = folder.ready.unwrap();
    assert_eq!((ready.pid, ready.start, ready.rollout.as_str()), (process.pid, process.start, "1.0"));

    let v2 = bench.release("v2", &[("app", WEB), ("new", "2")]);
    bench.call.act.rollout = "2.0".to_owned();
    bench.stage(&v2).await;
    assert_eq!(bench.folder().await.releases, [v1.release.clone(), v2.release.clone()]);
    bench.stop(5).await;
    assert_eq!(bench.folder().await.process, None);
    assert!(bench.host.port_refuses(8080).await.unwrap());
    bench.switch(&v2).await;
    bench.start(&v2, &["./app"]).await;
    bench.call.act.n = bench.host.prune(&bench.gate, &bench.call, &[], 0).await.unwrap().journal;
    assert_eq!(bench.folder().await.releases, std::slice::from_ref(&v2.release), "what runs is never pruned");
    bench.call.act.n = bench.host.release(&bench.gate, &bench.call).await.unwrap().journal;
    assert_eq!(bench.folder().await.owner, None);

    let spec = StopSpec { signal: "TERM".to_owned(), grace: Duration::from_secs(5) };
    assert_eq!(bench.host.remove(&bench.gate, &bench.call, &spec).await.unwrap(), Acted { journal: 0, folder: None });
    assert!(bench.host.facts().await.unwrap().folders.is_empty());
    assert!(bench.host.port_refuses(8080).await.unwrap());
    assert_eq!(bench.rack.host(0).sh("ls -A /srv/landfall").await.trim(), ".landfall");
}

#[tokio::test]
async fn an_act_on_an_old_view_is_refused_and_a_staged_release_is_kept() {
    let mut bench = Bench::new().await;
    let v1 = bench.release("v1", &[("app", SLEEPER)]);
    bench.stage(&v1).await;
    let old = ActCall { act: ActId { n: 0, ..bench.call.act.clone() }, ..bench.call.clone() };
    let refused = bench.host.switch(&bench.gate, &old, &v1.release).await;
    assert_eq!(refused, Err(HostError::JournalMoved { now: 2 }));
    assert_eq!(refused.unwrap_err().class(), Class::Waiting);
    assert_eq!(bench.folder().await.current, None);

    // Staged again without the bytes: there is nothing to send.
    std::fs::remove_file(v1.tar.name()).unwrap();
    bench.stage(&v1).await;
    assert_eq!(bench.call.act.n, 4);
}

#[tokio::test]
async fn a_release_that_somebody_changed_is_replaced() {
    let mut bench = Bench::new().await;
    let v1 = bench.release("v1", &[("app", SLEEPER)]);
    bench.stage(&v1).await;
    let app = format!("{ROOT}/shop.web/releases/{}/app", v1.release);
    bench.rack.host(0).sh(&format!("echo tampered >{app}")).await;
    bench.stage(&v1).await;
    assert_eq!(bench.rack.host(0).sh(&format!("cat {app}")).await, SLEEPER);
}

#[tokio::test]
async fn bytes_that_are_not_the_release_never_appear_on_the_host() {
    let bench = Bench::new().await;
    let mut v1 = bench.release("v1", &[("app", SLEEPER)]);
    pack(v1.tar.name().as_ref(), &[("app", "#!/bin/sh\nexec sleep 1001\n")]);
    let refused = bench.host.stage(&bench.gate, &bench.call, &v1).await;
    assert!(
        matches!(&refused, Err(HostError::DigestMismatch { expected, .. }) if *expected == v1.digest),
        "{refused:?}"
    );
    assert_eq!(bench.folder().await.releases, []);
    v1 = bench.release("v1", &[("app", SLEEPER)]);
    bench.host.stage(&bench.gate, &bench.call, &v1).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_named_and_nothing_half_done_is_left() {
    let mut bench = Bench::new().await;
    let v1 = bench.release("v1", &[("app", SLEEPER), ("big", &"x".repeat(400_000))]);
    bench.host.facts().await.unwrap();
    bench.rack.host(0).fill_but(500).await;
    let full = bench.host.stage(&bench.gate, &bench.call, &v1).await;
    assert!(matches!(full, Err(HostError::DiskFull { .. })), "{full:?}");
    bench.rack.host(0).fill().await;
    let full = bench.host.stage(&bench.gate, &bench.call, &v1).await;
    assert!(matches!(full, Err(HostError::DiskFull { .. })), "{full:?}");
    bench.host.facts().await.unwrap();
    bench.rack.host(0).drain().await;
    bench.call.act.n = bench.folder().await.journal;
    bench.stage(&v1).await;
    assert_eq!(bench.folder().await.releases, [v1.release]);
}

#[tokio::test]
async fn nothing_is_put_into_a_folder_that_somebody_else_can_exchange() {
    let bench = Bench::new().await;
    let refused = |root: &'static str| {
        let (rack, gate) = (&bench.rack, &bench.gate);
        let credentials = Credentials::new(&rack.identity(), &rack.known_hosts()).unwrap();
        async move { Host::connect(gate, "web-01", &target(rack), &credentials, root).await.err().map(|e| e.to_string()) }
    };
    let host = bench.rack.host(0);
    host.sh("mkdir -m 777 /srv/open; mkdir -p /srv/theirs/deep; chown 2000 /srv/theirs; mkdir -m 1777 /srv/sticky")
        .await;
    let open = refused("/srv/open/landfall").await.unwrap();
    assert!(open.contains("everybody may write to /srv/open"), "{open}");
    let theirs = refused("/srv/theirs/deep").await.unwrap();
    assert!(theirs.contains("/srv/theirs belongs to the user 2000"), "{theirs}");
    assert_eq!(host.sh("find /srv/open /srv/theirs -name .landfall").await, "", "nothing was made there");
    assert_eq!(refused("/srv/sticky/landfall").await, None, "as /tmp is: who made it keeps it");
    host.sh("chown 2000 /srv/sticky/landfall/.landfall").await;
    assert!(refused("/srv/sticky/landfall").await.unwrap().contains("belongs to the user 2000"));
}
