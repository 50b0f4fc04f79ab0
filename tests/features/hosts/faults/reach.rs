//! Hosts that are out of reach, silent, frozen, or not who they were.

use super::*;

#[tokio::test]
async fn a_host_that_drops_every_packet_is_unreachable_after_its_connect_timeout() {
    let hosts = Hosts::up(1).await;
    hosts.host(0).cut().await;
    let (result, took) = timed(connect(&briefly(hosts.host(0)), &credentials(&hosts))).await;
    let error = ssh_error(result);
    assert!(matches!(error, SshError::Unreachable { .. }), "{error:?}");
    assert!(took >= TIMEOUT && took < TIMEOUT + LATE, "{took:?}");
}

#[tokio::test]
async fn a_host_without_a_listening_sshd_is_unreachable_at_once() {
    let hosts = Hosts::up(1).await;
    hosts.host(0).refuse().await;
    let (result, took) = timed(connect(&target(hosts.host(0)), &credentials(&hosts))).await;
    let error = ssh_error(result);
    assert!(matches!(&error, SshError::Unreachable { why, .. } if why.contains("refused")), "{error:?}");
    assert!(took < LONG, "{took:?}");
    hosts.host(0).mend().await;
    connect(&target(hosts.host(0)), &credentials(&hosts)).await.unwrap();
}

#[tokio::test]
async fn something_that_accepts_and_says_nothing_is_called_silent_after_the_connect_timeout() {
    let hosts = Hosts::up(1).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let known = format!("[127.0.0.1]:{port} {}", hosts.known_hosts().split_once(' ').unwrap().1);
    let silent = SshTarget { address: "127.0.0.1".into(), port, ..briefly(hosts.host(0)) };
    let accepting = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    let credentials_of_silent = Credentials::new(&hosts.identity(), &known).unwrap();
    let (result, took) = timed(connect(&silent, &credentials_of_silent)).await;
    let error = ssh_error(result);
    assert!(matches!(error, SshError::Silent { .. }), "{error:?}");
    assert!(took >= TIMEOUT && took < TIMEOUT + LATE, "{took:?}");
    accepting.abort();

    // The same of a machine that hangs: its kernel accepts, its sshd does not.
    hosts.host(0).freeze().await;
    let (result, took) = timed(connect(&briefly(hosts.host(0)), &credentials(&hosts))).await;
    let error = ssh_error(result);
    assert!(matches!(error, SshError::Silent { .. }) && took < TIMEOUT + LATE, "{error:?} {took:?}");
    hosts.host(0).thaw().await;
    connect(&target(hosts.host(0)), &credentials(&hosts)).await.unwrap();
}

#[tokio::test]
async fn a_key_that_the_host_does_not_know_is_named_with_the_user_it_was_for() {
    let hosts = Hosts::up(1).await;
    let wrong = Credentials::new(&hosts.stranger_identity(), &hosts.known_hosts()).unwrap();
    let target = SshTarget { user: "deploy".into(), ..target(hosts.host(0)) };
    let error = ssh_error(connect(&target, &wrong).await);
    assert!(matches!(&error, SshError::AuthenticationFailed { user, .. } if user == "deploy"), "{error:?}");
}

#[tokio::test]
async fn a_changed_host_key_stops_before_authentication_and_shows_both_fingerprints() {
    let hosts = Hosts::up(1).await;
    let host = hosts.host(0);
    host.rekey().await;
    let error = ssh_error(connect(&target(host), &credentials(&hosts)).await);
    let SshError::HostKeyMismatch { expected, got, .. } = &error else { panic!("{error:?}") };
    assert!(expected.contains("SHA256:") && got.contains("SHA256:") && expected != got, "{error}");
    let log = host.sh("cat /run/sshd.log").await;
    assert!(!log.contains("publickey"), "a key was offered to a stranger: {log}");
    // With the new lines in the Secret all is well again.
    let renewed = Credentials::new(&hosts.identity(), &host.host_key_lines().await).unwrap();
    connect(&target(host), &renewed).await.unwrap();
}

#[tokio::test]
async fn a_host_is_known_by_either_of_its_keys_alone() {
    let hosts = Hosts::up(1).await;
    for kind in ["ssh-ed25519", "ecdsa-sha2-nistp256"] {
        let lines: String =
            hosts.known_hosts().lines().filter(|line| line.contains(kind)).map(|line| format!("{line}\n")).collect();
        let known = Credentials::new(&hosts.identity(), &lines).unwrap();
        connect(&target(hosts.host(0)), &known).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
    let unknown = Credentials::new(
        &hosts.identity(),
        "10.0.0.1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE2ru+yZXZZCzRwPw1pzpaPGN+gxmnXhrqiQPl3BbzZ/\n",
    );
    let error = ssh_error(connect(&target(hosts.host(0)), &unknown.unwrap()).await);
    assert!(matches!(error, SshError::HostKeyUnknown { .. }), "{error:?}");
}

#[tokio::test]
async fn an_sshd_that_does_not_forward_is_seen_in_the_facts_and_named_by_a_probe() {
    let hosts = Hosts::up_with(2, &["--sshd-of", "web-02=AllowTcpForwarding no"]).await;
    let forwards = Rig::new(&hosts, hosts.host(0)).await;
    assert!(forwards.host.facts().await.unwrap().forwards);
    let refuses = Rig::new(&hosts, hosts.host(1)).await;
    assert!(!refuses.host.facts().await.unwrap().forwards);
    let error = ssh_error(refuses.host.tcp_ready(8080, LONG).await);
    assert!(matches!(error, SshError::NoForwarding { .. }), "{error:?}");
}

#[tokio::test]
async fn a_host_that_freezes_under_a_connection_is_given_up_and_found_again_when_it_thaws() {
    let hosts = Hosts::up(1).await;
    let mut rig = Rig::new(&hosts, hosts.host(0)).await;
    hosts.host(0).freeze().await;
    let (result, took) = timed(rig.host.facts()).await;
    let error = ssh_error(result);
    assert!(error.is_unreachable(), "{error:?}");
    assert!(took < Duration::from_secs(90), "{took:?}");
    hosts.host(0).thaw().await;
    rig.reconnect().await;
    assert!(rig.host.facts().await.unwrap().missing_tools.is_empty());
}

#[tokio::test]
async fn a_look_that_hangs_is_given_up_long_before_the_keepalives_would() {
    let hosts = Hosts::up(1).await;
    let rig = Rig::new(&hosts, hosts.host(0)).await;
    let log = format!("{ROOT}/{}/shared/log", folder());
    hosts.host(0).sh(&format!("mkdir -p {log} && mkfifo {log}/output.log")).await;
    let asked = Instant::now();
    let error = rig.host.tail(&folder(), 5).await.unwrap_err();
    assert!(matches!(error, HostError::Ssh(SshError::Deadline { .. })), "{error}");
    // The connection itself is well: they would never.
    assert!(asked.elapsed() < Duration::from_secs(90), "{:?}", asked.elapsed());
}
