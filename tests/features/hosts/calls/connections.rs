//! Who answers, who is let in, and what a shell there says.

use super::*;

/// Where nobody is expected to answer.
async fn connect_briefly(rack: &Hosts, gate: &Gate) -> Result<Host, HostError> {
    connect_to(&SshTarget { connect_timeout: Duration::from_secs(3), ..target(rack) }, rack, gate).await
}

#[tokio::test]
async fn a_changed_host_key_stops_before_authentication_and_shows_both() {
    let rack = Hosts::up(1).await;
    let gate = Gate::open_for(token("plane-1", 5));
    rack.host(0).rekey().await;
    let refused = connect(&rack, &gate).await.err().unwrap();
    let HostError::Ssh(SshError::HostKeyMismatch { expected, got, .. }) = &refused else { panic!("{refused:?}") };
    assert!(expected.contains("SHA256:") && got.contains("SHA256:") && expected != got, "{expected} {got}");
    assert_eq!(refused.class(), Class::Terminal);
}

#[tokio::test]
async fn who_is_not_known_is_not_talked_to_and_who_does_not_know_us_says_so() {
    let rack = Hosts::up(1).await;
    let gate = Gate::open_for(token("plane-1", 5));
    let unknown = Credentials::new(&rack.identity(), "# nothing\n").unwrap();
    let refused = Host::connect(&gate, "web-01", &target(&rack), &unknown, ROOT).await.err().unwrap();
    assert!(matches!(refused, HostError::Ssh(SshError::HostKeyUnknown { .. })), "{refused:?}");

    let stranger = Credentials::new(&rack.stranger_identity(), &rack.known_hosts()).unwrap();
    let refused = Host::connect(&gate, "web-01", &target(&rack), &stranger, ROOT).await.err().unwrap();
    assert!(matches!(refused, HostError::Ssh(SshError::AuthenticationFailed { .. })), "{refused:?}");

    for kind in ["ed25519", "ecdsa"] {
        let lines: String =
            rack.known_hosts().lines().filter(|line| line.contains(kind)).map(|line| format!("{line}\n")).collect();
        let credentials = Credentials::new(&rack.identity(), &lines).unwrap();
        Host::connect(&gate, "web-01", &target(&rack), &credentials, ROOT).await.unwrap();
    }
    assert!(matches!(Credentials::new("nonsense", ""), Err(SshError::BadIdentity { .. })));
}

#[tokio::test]
async fn a_hashed_line_of_known_hosts_counts_and_rsa_keys_are_explained() {
    let rack = Hosts::up(1).await;
    let dir = tempfile::tempdir().unwrap();
    let (known, key) = (dir.path().join("known_hosts"), dir.path().join("id"));
    std::fs::write(&known, rack.known_hosts()).unwrap();
    let keygen = |arguments: &[&str]| {
        let done = std::process::Command::new("ssh-keygen").args(arguments).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    keygen(&["-H", "-f", known.to_str().unwrap()]);
    let hashed = std::fs::read_to_string(&known).unwrap();
    assert!(hashed.starts_with("|1|"), "{hashed}");
    let gate = Gate::open_for(token("plane-1", 5));
    let credentials = Credentials::new(&rack.identity(), &hashed).unwrap();
    Host::connect(&gate, "web-01", &target(&rack), &credentials, ROOT).await.unwrap();

    keygen(&["-q", "-t", "rsa", "-N", "", "-f", key.to_str().unwrap()]);
    let rsa = Credentials::new(&std::fs::read_to_string(&key).unwrap(), &hashed);
    assert!(matches!(&rsa, Err(SshError::UnsupportedKeyType { .. })), "{rsa:?}");
}

#[tokio::test]
async fn silent_refusing_and_absent_hosts_are_told_apart_in_time() {
    let rack = Hosts::up(1).await;
    let gate = Gate::open_for(token("plane-1", 5));
    let began = landfall::effects::clock::monotonic();
    rack.host(0).mute().await;
    let silent = connect_briefly(&rack, &gate).await.err().unwrap();
    assert!(matches!(silent, HostError::Ssh(SshError::Silent { .. })), "{silent:?}");
    rack.host(0).mend().await;
    rack.host(0).refuse().await;
    let mut refusing = connect(&rack, &gate).await.err().unwrap();
    if matches!(refusing, HostError::Ssh(SshError::Lost { .. })) {
        // It came into the queue of the sshd that was just ending.
        refusing = connect(&rack, &gate).await.err().unwrap();
    }
    assert!(
        matches!(&refusing, HostError::Ssh(SshError::Unreachable { why, .. }) if why.contains("refused")),
        "{refusing:?}"
    );
    rack.host(0).mend().await;
    rack.host(0).cut().await;
    let absent = connect_briefly(&rack, &gate).await.err().unwrap();
    assert!(
        matches!(&absent, HostError::Ssh(SshError::Unreachable { why, .. }) if why.contains("no answer")),
        "{absent:?}"
    );
    rack.host(0).mend().await;
    assert!(began.elapsed() < Duration::from_secs(60));
    connect(&rack, &gate).await.unwrap();
}

#[tokio::test]
async fn every_shell_an_ordinary_user_and_a_talkative_login_shell_do() {
    let rack = Hosts::up_with(
        4,
        &["--user", "deploy", "--shell-of", "web-02=busybox", "--shell-of", "web-03=bash", "--shell-of", "web-04=mksh"],
    )
    .await;
    let credentials = Credentials::new(&rack.identity(), &rack.known_hosts()).unwrap();
    let gate = Gate::open_for(token("plane-1", 5));
    for at in rack.all() {
        at.sh("mkdir -p /srv/landfall && chown deploy /srv/landfall").await;
        // The user's shell is bash, and Debian's reads that wherever sshd starts it, also for a command.
        at.sh("echo 'echo Welcome, have a nice day' >/home/deploy/.bashrc; grep -q ^deploy:.*bash$ /etc/passwd").await;
        let banner = at.sh("SSH_CLIENT='1 2 3' SHLVL=0 HOME=/home/deploy bash -c :").await;
        assert_eq!(banner, "Welcome, have a nice day\n", "{}", at.name);
        let target = SshTarget { address: at.address.clone(), ..target(&rack) };
        let host = Host::connect(&gate, &at.name, &target, &credentials, ROOT).await.unwrap();
        assert_eq!(host.facts().await.unwrap().missing_tools, Vec::<String>::new(), "{}", at.name);
        let local = tempfile::tempdir().unwrap();
        let tar = local.path().join("v1.tar");
        let digest = pack(&tar, &[("app", WEB)]);
        let size = std::fs::metadata(&tar).unwrap().len();
        let spec = StageSpec {
            release: ReleaseName::new("v1", &digest),
            digest,
            size,
            tar: Payload::file(tar),
            absent_with_free: None,
        };
        let mut call = ActCall {
            folder: FolderName::new("shop", "web"),
            owner: owner("web-production", &at.name),
            replaces: None,
            fence: token("plane-1", 5),
            act: ActId { uid: "uid-of-web-production".to_owned(), rollout: "1.0".to_owned(), attempt: 1, n: 0 },
        };
        call.act.n = host.stage(&gate, &call, &spec).await.unwrap().journal;
        call.act.n = host.switch(&gate, &call, &spec.release).await.unwrap().journal;
        call.act.n = host.start(&gate, &call, &start(&call, &spec, &["./app"])).await.unwrap().journal;
        until("ready", || async { host.http_ready(8080, "/", ANSWER).await.unwrap() == Ok(200) }).await;
        assert_eq!(
            host.answering(&call.folder, Some(8080)).await.unwrap().listener,
            Some(Listener::Ours),
            "{}",
            at.name
        );
        let stop = StopSpec { signal: "TERM".to_owned(), grace: Duration::from_secs(3) };
        assert_eq!(host.remove(&gate, &call, &stop).await.unwrap().journal, 0, "{}", at.name);
    }
}

#[tokio::test]
async fn a_host_that_forwards_nothing_says_so_before_a_rollout() {
    let rack = Hosts::up_with(1, &["--sshd", "AllowTcpForwarding no"]).await;
    let gate = Gate::open_for(token("plane-1", 5));
    let host = connect(&rack, &gate).await.unwrap();
    assert!(!host.facts().await.unwrap().forwards);
    let refused = host.port_refuses(8080).await;
    assert!(matches!(refused, Err(HostError::Ssh(SshError::NoForwarding { .. }))), "{refused:?}");
}
