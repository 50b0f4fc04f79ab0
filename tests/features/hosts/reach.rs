//! Who answers, who is let in, and how soon it is said: hosts that are out of reach, silent, frozen, or not who they were. Connections alone,
//! on real hosts.

use std::time::Duration;

use landfall::effects::ssh::{Connection, Credentials, SshError, SshTarget};
use tokio::time::Instant;

use crate::support::hosts::{Host, Hosts};

/// Of a connection to whom nobody is expected to answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How much later than that is still in time on a machine with much else to do.
const LATE: Duration = Duration::from_secs(30);
/// Of whoever is there to answer.
const LONG: Duration = Duration::from_secs(60);

fn target(host: &Host) -> SshTarget {
    SshTarget { address: host.address.clone(), port: host.port, user: "root".into(), connect_timeout: LONG }
}

fn briefly(host: &Host) -> SshTarget {
    SshTarget { connect_timeout: TIMEOUT, ..target(host) }
}

fn credentials(hosts: &Hosts) -> Credentials {
    Credentials::new(&hosts.identity(), &hosts.known_hosts()).unwrap()
}

async fn connect(target: &SshTarget, credentials: &Credentials) -> Result<Connection, SshError> {
    Connection::open(target, credentials).await
}

async fn refused(target: &SshTarget, credentials: &Credentials) -> (SshError, Duration) {
    let started = Instant::now();
    let error = connect(target, credentials).await.err().expect("it is refused");
    (error, started.elapsed())
}

#[tokio::test]
async fn a_host_that_drops_every_packet_is_unreachable_after_its_connect_timeout() {
    let hosts = Hosts::up(1).await;
    hosts.host(0).cut().await;
    let (error, took) = refused(&briefly(hosts.host(0)), &credentials(&hosts)).await;
    assert!(matches!(&error, SshError::Unreachable { why, .. } if why.contains("no answer")), "{error:?}");
    assert!(took >= TIMEOUT && took < TIMEOUT + LATE, "{took:?}");
}

#[tokio::test]
async fn a_host_without_a_listening_sshd_is_unreachable_at_once() {
    let hosts = Hosts::up(1).await;
    hosts.host(0).refuse().await;
    let (mut error, took) = refused(&target(hosts.host(0)), &credentials(&hosts)).await;
    if matches!(error, SshError::Lost { .. }) {
        // It came into the queue of the sshd that was just ending.
        (error, _) = refused(&target(hosts.host(0)), &credentials(&hosts)).await;
    }
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
    let (error, took) = refused(&silent, &credentials_of_silent).await;
    assert!(matches!(error, SshError::Silent { .. }), "{error:?}");
    assert!(took >= TIMEOUT && took < TIMEOUT + LATE, "{took:?}");
    accepting.abort();

    // The same of a machine that hangs: its kernel accepts, its sshd does not.
    hosts.host(0).freeze().await;
    let (error, took) = refused(&briefly(hosts.host(0)), &credentials(&hosts)).await;
    assert!(matches!(error, SshError::Silent { .. }) && took < TIMEOUT + LATE, "{error:?} {took:?}");
    hosts.host(0).thaw().await;
    connect(&target(hosts.host(0)), &credentials(&hosts)).await.unwrap();
}

#[tokio::test]
async fn a_key_that_the_host_does_not_know_is_named_with_the_user_it_was_for() {
    let hosts = Hosts::up(1).await;
    let wrong = Credentials::new(&hosts.stranger_identity(), &hosts.known_hosts()).unwrap();
    let target = SshTarget { user: "deploy".into(), ..target(hosts.host(0)) };
    let (error, _) = refused(&target, &wrong).await;
    assert!(matches!(&error, SshError::AuthenticationFailed { user, .. } if user == "deploy"), "{error:?}");
}

#[tokio::test]
async fn a_changed_host_key_stops_before_authentication_and_shows_both_fingerprints() {
    let hosts = Hosts::up(1).await;
    let host = hosts.host(0);
    host.rekey().await;
    let (error, _) = refused(&target(host), &credentials(&hosts)).await;
    let SshError::HostKeyMismatch { expected, got, .. } = &error else { panic!("{error:?}") };
    assert!(expected.contains("SHA256:") && got.contains("SHA256:") && expected != got, "{error}");
    let log = host.sh("cat /run/sshd.log").await;
    assert!(!log.contains("publickey"), "a key was offered to a stranger: {log}");
    // With the new lines in the Secret all is well again.
    let renewed = Credentials::new(&hosts.identity(), &host.host_key_lines().await).unwrap();
    connect(&target(host), &renewed).await.unwrap();
}

#[tokio::test]
async fn a_host_is_known_by_either_of_its_keys_alone_and_by_a_hashed_line() {
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
    for unknown in [unknown.unwrap(), Credentials::new(&hosts.identity(), "# nothing\n").unwrap()] {
        let (error, _) = refused(&target(hosts.host(0)), &unknown).await;
        assert!(matches!(error, SshError::HostKeyUnknown { .. }), "{error:?}");
    }

    let dir = tempfile::tempdir().unwrap();
    let known = dir.path().join("known_hosts");
    std::fs::write(&known, hosts.known_hosts()).unwrap();
    keygen(&["-H", "-f", known.to_str().unwrap()]);
    let hashed = std::fs::read_to_string(&known).unwrap();
    assert!(hashed.starts_with("|1|"), "{hashed}");
    connect(&target(hosts.host(0)), &Credentials::new(&hosts.identity(), &hashed).unwrap()).await.unwrap();
}

#[test]
fn a_key_that_is_none_and_an_rsa_key_are_explained() {
    assert!(matches!(Credentials::new("nonsense", ""), Err(SshError::BadIdentity { .. })));
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("id");
    keygen(&["-q", "-t", "rsa", "-N", "", "-f", key.to_str().unwrap()]);
    let rsa = Credentials::new(&std::fs::read_to_string(&key).unwrap(), "");
    assert!(matches!(&rsa, Err(SshError::UnsupportedKeyType { .. })), "{rsa:?}");
}

fn keygen(arguments: &[&str]) {
    let done = std::process::Command::new("ssh-keygen").args(arguments).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
