//! What a session costs and survives.

use landfall::effects::{payload::Payload, program::PutOptions};
use landfall_host_protocol::Digest;

use super::*;
use crate::support::wait::until;

#[tokio::test]
async fn a_look_at_a_quiet_host_costs_no_process_there() {
    let rack = Hosts::up(1).await;
    let (program, welcome, _) = connect(&rack).await;
    // Each reading takes processes itself, the same number each time.
    let last_pid = async || -> i64 {
        let text = rack.host(0).exec(&["cat", "/proc/sys/kernel/ns_last_pid"]).await;
        text.trim().parse().unwrap()
    };
    let mut seen = welcome.seen;
    if let Some((newer, _)) = program.look(seen).await.unwrap() {
        seen = newer;
    }
    let first = last_pid().await;
    let reading = last_pid().await - first;
    let before = last_pid().await;
    for _ in 0..50 {
        assert_eq!(program.look(seen).await.unwrap(), None);
    }
    assert_eq!(last_pid().await - before, reading);
}

/// Its sshd is silent: the connection's own questions find out.
#[tokio::test]
async fn a_host_that_freezes_under_a_session_is_given_up_and_found_again_when_it_thaws() {
    let rack = Hosts::up(1).await;
    let (program, welcome, _) = connect(&rack).await;
    rack.host(0).freeze().await;
    let began = tokio::time::Instant::now();
    let error = program.look(welcome.seen).await.unwrap_err();
    assert!(error.ends_session(), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(90), "{:?}", began.elapsed());
    rack.host(0).thaw().await;
    connect(&rack).await;
}

#[tokio::test]
async fn an_upload_goes_on_where_it_was_cut() {
    let rack = Hosts::up(1).await;
    let (program, ..) = connect(&rack).await;
    let local = tempfile::tempdir().unwrap();
    let mut bytes = vec![0; 12 << 20];
    rand::fill(&mut bytes[..]);
    let path = local.path().join("object");
    std::fs::write(&path, &bytes).unwrap();
    let (object, size) = (Digest::parse(&sha256(&bytes)).unwrap(), bytes.len() as u64);
    let payload = Payload::file(&path);
    let bounds = PutOptions::default();

    rack.host(0).slow("8mbit").await;
    let gate = gate();
    let folder = folder();
    let uploading = program.put(&gate, &folder, &object, size, &payload, &bounds);
    let part = format!("find /srv/landfall -name '{}*' -size +1000k | wc -l", object.as_str());
    let cut = async {
        until("a part has arrived", || async { rack.host(0).sh(&part).await.trim() == "1" }).await;
        rack.host(0).hangup().await;
    };
    let (cut_off, ()) = tokio::join!(uploading, cut);
    assert!(cut_off.as_ref().is_err_and(ProgramError::ends_session), "{cut_off:?}");
    rack.host(0).mend().await;

    let (program, ..) = connect(&rack).await;
    let there = program.have(&folder, &object, size).await.unwrap();
    assert!(there > 1_000_000 && there < size, "{there}");
    program.put(&gate, &folder, &object, size, &payload, &bounds).await.unwrap();
    assert_eq!(program.have(&folder, &object, size).await.unwrap(), size);
    let sum = rack.host(0).sh(&format!("sha256sum $(find /srv/landfall -name {})", object.as_str())).await;
    assert!(sum.starts_with(object.as_str()), "{sum}");
    // Once more costs nothing.
    program.put(&gate, &folder, &object, size, &payload, &bounds).await.unwrap();
}

/// As distributions and hardened configurations have them. A key exchange is asked for again after each megabyte.
#[tokio::test]
async fn servers_with_common_algorithms_of_every_kind_are_worked_with() {
    let kinds: [&[&str]; 6] = [
        &["Ciphers aes256-gcm@openssh.com", "RekeyLimit 1M"],
        &["Ciphers aes128-gcm@openssh.com", "KexAlgorithms ecdh-sha2-nistp256"],
        &["Ciphers chacha20-poly1305@openssh.com", "RekeyLimit 1M"],
        &["Ciphers aes256-ctr", "MACs hmac-sha2-256", "RekeyLimit 1M"],
        &["Ciphers aes128-ctr", "MACs hmac-sha2-512-etm@openssh.com", "KexAlgorithms diffie-hellman-group14-sha256"],
        &["Ciphers aes192-ctr,aes256-ctr", "KexAlgorithms curve25519-sha256", "HostKeyAlgorithms ecdsa-sha2-nistp256"],
    ];
    let options: Vec<String> = kinds
        .iter()
        .enumerate()
        .flat_map(|(n, lines)| lines.iter().map(move |line| format!("web-{:02}={line}", n + 1)))
        .flat_map(|option| ["--sshd-of".to_owned(), option])
        .collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let rack = Hosts::up_with(kinds.len(), &options).await;
    let local = tempfile::tempdir().unwrap();
    let path = local.path().join("object");
    let mut bytes = vec![0; 4 << 20];
    rand::fill(&mut bytes[..]);
    std::fs::write(&path, &bytes).unwrap();
    let object = Digest::parse(&sha256(&bytes)).unwrap();
    let payload = Payload::file(&path);
    for (n, lines) in kinds.iter().enumerate() {
        let (program, ..) = match start(&rack, rack.host(n), &Images::embedded()).await {
            Ok(started) => started,
            Err(error) => panic!("{lines:?}: {error}"),
        };
        let put = program.put(&gate(), &folder(), &object, 4 << 20, &payload, &PutOptions::default()).await;
        assert!(put.is_ok(), "{lines:?}: {put:?}");
        program.look(0).await.unwrap();
    }
}

#[tokio::test]
async fn a_line_that_is_too_slow_is_given_up_and_the_session_goes_on() {
    let rack = Hosts::up(1).await;
    let (program, ..) = connect(&rack).await;
    let local = tempfile::tempdir().unwrap();
    let mut bytes = vec![0; 8 << 20];
    rand::fill(&mut bytes[..]);
    let path = local.path().join("object");
    std::fs::write(&path, &bytes).unwrap();
    let object = Digest::parse(&sha256(&bytes)).unwrap();
    let payload = Payload::file(&path);
    rack.host(0).slow("1mbit").await;
    let bounds = PutOptions { budget: None, least_rate: Some(1 << 20) };
    let gate = gate();
    let folder = folder();
    let uploading = program.put(&gate, &folder, &object, 8 << 20, &payload, &bounds);
    let given_up = uploading.await;
    assert!(matches!(given_up, Err(ProgramError::TooSlow { .. })), "{given_up:?}");
    rack.host(0).mend().await;
    assert!(!program.is_closed());
    program.look(0).await.unwrap();
}

#[tokio::test]
async fn a_disk_without_room_refuses_an_upload_and_the_session_goes_on() {
    let rack = Hosts::up(1).await;
    let (program, ..) = connect(&rack).await;
    let local = tempfile::tempdir().unwrap();
    let path = local.path().join("object");
    let bytes = vec![7; 16 << 20];
    std::fs::write(&path, &bytes).unwrap();
    let object = Digest::parse(&sha256(&bytes)).unwrap();
    rack.host(0).fill_but(2048).await;
    let payload = Payload::file(&path);
    let refused = program.put(&gate(), &folder(), &object, 16 << 20, &payload, &PutOptions::default()).await;
    assert!(matches!(&refused, Err(ProgramError::Refused(landfall_host_protocol::Refusal::Full(_)))), "{refused:?}");
    rack.host(0).drain().await;
    program.look(0).await.unwrap();
    program.put(&gate(), &folder(), &object, 16 << 20, &payload, &PutOptions::default()).await.unwrap();
}

/// A process on the host for each connection that is open there.
#[tokio::test(flavor = "multi_thread")]
async fn an_opening_that_nobody_waits_for_leaves_no_connection_on_the_host() {
    let rack = Hosts::up(1).await;
    let host = rack.host(0);
    host.sh("mkdir -p /srv/echo; cp \"$(command -v cat)\" /srv/echo/echoing").await;
    host.sh("busybox nc -ll -p 8080 -e /srv/echo/echoing >/dev/null 2>&1 </dev/null &").await;
    const LIMIT: Duration = Duration::from_secs(30);
    let connection = dial(&rack, host).await;
    until("listening", || async { connection.forward("127.0.0.1", 8080, LIMIT).await.unwrap().is_some() }).await;
    for _ in 0..5 {
        // Polled once, so it is asked for, and given up before the answer.
        tokio::select! {
            biased;
            _ = connection.forward("127.0.0.1", 8080, LIMIT) => {}
            () = std::future::ready(()) => {}
        }
    }
    // One after all of them: they were answered before it.
    drop(connection.forward("127.0.0.1", 8080, LIMIT).await.unwrap().unwrap());
    until("closed: all of them", || async { host.sh("pgrep -c echoing || true").await.trim() == "0" }).await;
}
