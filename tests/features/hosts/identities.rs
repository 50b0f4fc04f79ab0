//! Who hosts are and who we are: real sshd with host certificates, user certificates, other ports, IPv6 and jump hosts, and key files of
//! every kind.

use std::{process::Command, sync::Arc, time::Duration};

use crate::support::{
    hosts::{Host, Hosts},
    rollout::Bench,
    wait::until,
};
use landfall::{
    api::HostGroup,
    effects::ssh::{Connection, Credentials, HostTrust, Identity, Pipe, SshError, SshTarget},
};
use russh::keys::{
    PrivateKey, PublicKey,
    ssh_key::{
        certificate::{Builder, CertType},
        private::{Ed25519Keypair, KeypairData},
    },
};
use serde_json::json;

fn target(host: &Host) -> SshTarget {
    SshTarget {
        address: host.address.clone(),
        port: host.port,
        user: "root".into(),
        connect_timeout: Duration::from_secs(60),
    }
}

fn new_key() -> PrivateKey {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&rand::random())), "").unwrap()
}

fn public(key: &PrivateKey) -> String {
    key.public_key().to_openssh().unwrap()
}

fn private(key: &PrivateKey) -> String {
    key.to_openssh(Default::default()).unwrap().to_string()
}

async fn run(connection: &Arc<Connection>, command: &str) -> String {
    let mut pipe = Pipe::open(connection.clone(), command.to_owned()).await.unwrap();
    let mut output = Vec::new();
    while let Some(bytes) = pipe.read().await.unwrap() {
        output.extend_from_slice(&bytes);
    }
    String::from_utf8_lossy(&output).trim().to_owned()
}

/// A host certificate as it should be, but for what the test changes.
struct HostCertificate<'a> {
    authority: &'a PrivateKey,
    principals: Vec<String>,
    kind: CertType,
    /// Seconds from now.
    valid: (i64, i64),
    critical: Option<&'a str>,
}

impl<'a> HostCertificate<'a> {
    fn of(authority: &'a PrivateKey, host: &Host) -> Self {
        let principals = vec![host.address.clone()];
        Self { authority, principals, kind: CertType::Host, valid: (-60, 3600), critical: None }
    }

    /// Gives it to the host's sshd.
    async fn install(self, host: &Host) {
        let key: PublicKey = host.sh("cat /run/host/ssh_host_ed25519_key.pub").await.parse().unwrap();
        let now = landfall::effects::clock::now().as_second();
        let at = |seconds: i64| u64::try_from(now + seconds).unwrap();
        let nonce: [u8; 32] = rand::random();
        let mut builder = Builder::new(nonce, key.key_data().clone(), at(self.valid.0), at(self.valid.1)).unwrap();
        builder.cert_type(self.kind).unwrap().key_id("test").unwrap();
        if self.principals.is_empty() {
            builder.all_principals_valid().unwrap();
        }
        for name in &self.principals {
            builder.valid_principal(name).unwrap();
        }
        if let Some(option) = self.critical {
            builder.critical_option(option, "x").unwrap();
        }
        let certificate = builder.sign(self.authority).unwrap().to_openssh().unwrap();
        host.sh(&format!("echo '{certificate}' >/run/host/ssh_host_ed25519_key-cert.pub")).await;
        host.refuse().await;
        host.mend().await;
    }
}

fn by_authority(hosts: &Hosts, lines: &str) -> Credentials {
    Credentials::of(Identity::key(&hosts.identity()).unwrap(), HostTrust::Authority(lines.into()))
}

async fn refused(target: &SshTarget, credentials: &Credentials) -> SshError {
    Connection::open(target, credentials).await.err().expect("it is refused")
}

#[tokio::test]
async fn a_host_certificate_counts_only_with_authority_type_principal_validity_and_nothing_critical() {
    let hosts = Hosts::up(1).await;
    let host = hosts.host(0);
    let (authority, stranger) = (new_key(), new_key());
    let line = format!("@cert-authority 198.18.*,198.19.* {}\n", public(&authority));
    let known = by_authority(&hosts, &line);
    let at = target(host);

    // A plain key is none, although it is listed.
    let plain = by_authority(&hosts, &format!("{line}{}", hosts.known_hosts()));
    let error = refused(&at, &plain).await;
    assert!(matches!(&error, SshError::HostCertificateRefused { why, .. } if why.contains("ssh-keygen -s")), "{error}");

    host.reconfigure("HostCertificate /run/host/ssh_host_ed25519_key-cert.pub").await;
    HostCertificate::of(&authority, host).install(host).await;
    Connection::open(&at, &known).await.unwrap();
    // Strict goes on with the plain key.
    let strict = Credentials::new(&hosts.identity(), &hosts.known_hosts()).unwrap();
    Connection::open(&at, &strict).await.unwrap();

    let key = host.sh("cat /run/host/ssh_host_ed25519_key.pub").await;
    let revoked = [format!("@revoked * {}\n{line}", public(&authority)), format!("@revoked * {key}\n{line}")];
    let error = refused(&at, &by_authority(&hosts, &revoked[0])).await;
    assert!(matches!(error, SshError::HostKeyRevoked { .. }), "{error}");
    let error = refused(&at, &by_authority(&hosts, &revoked[1])).await;
    assert!(error.to_string().contains("@revoked"), "{error}");
    let elsewhere = format!("@cert-authority *.example.com {}\n", public(&authority));
    let error = refused(&at, &by_authority(&hosts, &elsewhere)).await;
    assert!(matches!(error, SshError::AuthorityUnknown { .. }), "{error}");

    let of = || HostCertificate::of(&authority, host);
    let bad = [
        ("not 198.", HostCertificate { principals: vec!["10.0.0.1".into()], ..of() }),
        ("names no host", HostCertificate { principals: vec![], ..of() }),
        ("until", HostCertificate { valid: (-3600, -60), ..of() }),
        ("valid from", HostCertificate { valid: (3600, 7200), ..of() }),
        ("user's certificate", HostCertificate { kind: CertType::User, ..of() }),
        ("signed by", HostCertificate { authority: &stranger, ..of() }),
        ("critical option", HostCertificate { critical: Some("force-command"), ..of() }),
    ];
    let before = host.sshd_log().await.matches("Accepted publickey").count();
    for (word, certificate) in bad {
        certificate.install(host).await;
        let error = refused(&at, &known).await;
        assert!(matches!(&error, SshError::HostCertificateRefused { .. }), "{word}: {error}");
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
    let log = host.sshd_log().await;
    assert_eq!(log.matches("Accepted publickey").count(), before, "nobody logged in: {log}");
}

#[tokio::test]
async fn a_user_certificate_is_signed_for_each_connection_and_lets_in_without_any_key_on_the_host() {
    let hosts = Hosts::up(1).await;
    let host = hosts.host(0);
    let authority = new_key();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca");
    assert!(
        Command::new("ssh-keygen").args(["-q", "-t", "ecdsa", "-N", "", "-f"]).arg(&path).status().unwrap().success()
    );
    let curve: PrivateKey = std::fs::read_to_string(path).unwrap().parse().unwrap();
    host.sh(&format!(
        ": >/run/host/authorized_keys; printf '%s\\n' '{}' '{}' >/run/host/user_ca.pub; echo team-prod >/run/host/principals",
        public(&authority),
        public(&curve)
    ))
    .await;
    host.reconfigure("TrustedUserCAKeys /run/host/user_ca.pub").await;
    let known = HostTrust::Pinned(hosts.known_hosts().into());
    let with = |key: &PrivateKey, principal| {
        Credentials::of(Identity::authority(&private(key), "team/prod", principal).unwrap(), known.clone())
    };
    let root = with(&authority, None);
    for _ in 0..2 {
        let connection = Arc::new(Connection::open(&target(host), &root).await.unwrap());
        assert_eq!(run(&connection, "id -un").await, "root");
        let forwarded = connection.forward("127.0.0.1", host.port, Duration::from_secs(60)).await.unwrap();
        assert!(forwarded.is_some(), "it may be a jump host");
    }
    let deploy = SshTarget { user: "deploy".into(), ..target(host) };
    let connection = Arc::new(Connection::open(&deploy, &with(&curve, None)).await.unwrap());
    assert_eq!(run(&connection, "id -un; tty").await, "deploy\nnot a tty");

    let log = host.sshd_log().await;
    let id = format!("ID team/prod/{} (serial ", host.address);
    let serials: Vec<&str> = log.split(&id).skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(serials.len() >= 3 && log.contains("Accepted certificate ID"), "{log}");
    let mut unique = serials.clone();
    unique.sort_unstable();
    unique.dedup();
    assert!(unique.len() >= 3, "a certificate for each connection: {serials:?}");

    let error = refused(&target(host), &with(&new_key(), None)).await;
    assert!(matches!(&error, SshError::AuthenticationFailed { .. }), "{error}");
    assert!(error.to_string().contains("TrustedUserCAKeys"), "{error}");
    let error = refused(&target(host), &with(&authority, Some("team-prod"))).await;
    assert!(matches!(&error, SshError::AuthenticationFailed { .. }), "{error}");
    host.reconfigure("AuthorizedPrincipalsFile /run/host/principals").await;
    Connection::open(&target(host), &with(&authority, Some("team-prod"))).await.unwrap();
    refused(&target(host), &root).await;
}

#[test]
fn every_kind_of_key_file_is_taken_or_answered_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, arguments: &[&str]| {
        let path = dir.path().join(name);
        let mut command = Command::new("ssh-keygen");
        let done = command.args(["-q", "-C", "", "-f"]).arg(&path).args(arguments).output().unwrap();
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
        std::fs::read_to_string(path).unwrap()
    };
    let plain = |name: &str, kind: &[&str]| make(name, &[kind, &["-N", ""]].concat());
    let ed25519 = plain("ed25519", &["-t", "ed25519"]);
    let taken = [
        ed25519.clone(),
        plain("p256", &["-t", "ecdsa", "-b", "256"]),
        plain("p384", &["-t", "ecdsa", "-b", "384"]),
        plain("p521", &["-t", "ecdsa", "-b", "521"]),
        format!("\n  \n{}\n\n", ed25519.trim()),
        ed25519.replace('\n', "\r\n"),
    ];
    for (n, text) in taken.iter().enumerate() {
        assert!(Identity::key(text).is_ok() && Identity::authority(text, "a/b", None).is_ok(), "number {n}");
    }
    let rsa = "RSA are not supported, only Ed25519 and ECDSA; make one (ssh-keygen -t ed25519";
    let answered = [
        (plain("rsa", &["-t", "rsa", "-b", "2048"]), rsa),
        (plain("rsa-pem", &["-t", "rsa", "-b", "2048", "-m", "PEM"]), rsa),
        (make("rsa-locked", &["-t", "rsa", "-b", "2048", "-N", "secret"]), rsa),
        (plain("dsa", &["-t", "dsa"]), "DSA are not supported"),
        (make("locked", &["-t", "ed25519", "-N", "secret"]), "passphrase"),
        (plain("ec-pem", &["-t", "ecdsa", "-m", "PEM"]), "ssh-keygen -p -N ''"),
        (plain("pkcs8", &["-t", "ecdsa", "-m", "PKCS8"]), "ssh-keygen -p -N ''"),
        (make("pkcs8-locked", &["-t", "ecdsa", "-m", "PKCS8", "-N", "secret"]), "passphrase"),
        (std::fs::read_to_string(dir.path().join("ed25519.pub")).unwrap(), "public half"),
        (ed25519[..ed25519.len() / 2].to_owned(), "no private key"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\n".to_owned(), "puttygen"),
        (String::new(), "empty"),
        ("garbage \u{1f600} \0".to_owned(), "no private key"),
    ];
    for (text, word) in answered {
        let error = Identity::key(&text).err().unwrap_or_else(|| panic!("taken: {word}"));
        assert!(error.to_string().contains(word), "{word}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let rsa = std::fs::read_to_string(dir.path().join("rsa.pub")).unwrap();
    let known = Credentials::new(&ed25519, &format!("10.9.9.9 {rsa}")).unwrap();
    let at = SshTarget {
        address: "10.9.9.9".into(),
        port: 22,
        user: "root".into(),
        connect_timeout: Duration::from_secs(1),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let error = runtime.block_on(refused(&at, &known));
    assert!(matches!(&error, SshError::HostKeyTypeUnsupported { found, .. } if found == "RSA"), "{error}");
}

#[tokio::test]
async fn jump_hosts_are_checked_one_by_one_and_an_error_names_the_hop() {
    let hosts = Hosts::up_with(3, &["--sshd-of", "web-01=MaxSessions 0", "--sshd-of", "web-02=MaxSessions 0"]).await;
    let [first, second, end] = [0, 1, 2].map(|i| target(hosts.host(i)));
    let known = Credentials::new(&hosts.identity(), &hosts.known_hosts()).unwrap();
    let hops = [first.clone(), second.clone()];
    let via = Connection::open_chain(&hops, &end.address, &known).await.unwrap();
    let connection = Arc::new(Connection::open_via(via.clone(), &end, &known).await.unwrap());
    let from = run(&connection, "echo ${SSH_CONNECTION%% *}").await;
    assert_eq!(from, second.address, "the host sees the last hop");

    // Nobody listens there, and who behind the hop is a stranger.
    let nobody = SshTarget { port: 9, ..end.clone() };
    let credentials = Credentials::new(
        &hosts.identity(),
        &hosts.known_hosts().replace(&end.address, &format!("[{}]:9", end.address)),
    );
    let error = Connection::open_via(via.clone(), &nobody, &credentials.unwrap()).await.err().unwrap();
    assert!(matches!(&error, SshError::Unreachable { why, .. } if why.contains(&second.address)), "{error}");
    let others = hosts
        .known_hosts()
        .lines()
        .filter(|line| !line.starts_with(&end.address))
        .fold(String::new(), |all, line| all + line + "\n");
    let swapped = format!(
        "{others}{}",
        hosts
            .known_hosts()
            .lines()
            .find(|line| line.starts_with(&first.address))
            .unwrap()
            .replace(&first.address, &end.address)
    );
    let strange = Credentials::new(&hosts.identity(), &swapped).unwrap();
    let error = Connection::open_via(via.clone(), &end, &strange).await.err().unwrap();
    assert!(matches!(&error, SshError::HostKeyMismatch { address, .. } if *address == end.address), "{error}");

    // The way is lost: the host is not to blame.
    hosts.host(1).hangup().await;
    let error = Pipe::open(connection.clone(), "sleep 1000".to_owned()).await.err().unwrap();
    assert!(
        matches!(&error, SshError::Jump { hop, .. } if *hop == second.address) && error.is_unreachable(),
        "{error}"
    );

    hosts.host(0).reconfigure("AllowTcpForwarding no").await;
    let error = Connection::open_chain(&hops, &end.address, &known).await.err().unwrap();
    assert!(error.to_string().contains(&format!("sshd on {} does not forward", first.address)), "{error}");

    // A hop with another key is told nothing, nor is anybody behind it.
    hosts.host(1).rekey().await;
    hosts.host(0).reconfigure("AllowTcpForwarding yes").await;
    let logins = |log: &str| log.matches("Accepted publickey").count();
    let (middle, last) = (logins(&hosts.host(1).sshd_log().await), logins(&hosts.host(2).sshd_log().await));
    let error = Connection::open_chain(&hops, &end.address, &known).await.err().unwrap();
    let SshError::Jump { hop, cause, .. } = &error else { panic!("{error}") };
    assert!(*hop == second.address && matches!(**cause, SshError::HostKeyMismatch { .. }), "{error}");
    assert_eq!(logins(&hosts.host(1).sshd_log().await), middle);
    assert_eq!(logins(&hosts.host(2).sshd_log().await), last);
    let error = Connection::open_chain(
        &[SshTarget { port: 9, ..first.clone() }],
        &end.address,
        &Credentials::new(&hosts.identity(), &format!("[{}]:9 {}", first.address, public(&new_key()))).unwrap(),
    )
    .await
    .err()
    .unwrap();
    assert!(
        error.is_unreachable() && error.to_string().starts_with(&format!("jump host {}", first.address)),
        "{error}"
    );
}

#[tokio::test]
async fn hosts_answer_on_ipv6_and_on_other_ports_and_known_hosts_names_them_so() {
    let hosts = Hosts::up_with(1, &["--port", "2222"]).await;
    let host = hosts.host(0);
    assert!(hosts.known_hosts().starts_with(&format!("[{}]:2222 ", host.address)));
    let known = |text: String| Credentials::new(&hosts.identity(), &text).unwrap();
    let same_port = known(hosts.known_hosts());
    Connection::open(&target(host), &same_port).await.unwrap();
    let no_port = known(hosts.known_hosts().replace(&format!("[{}]:2222", host.address), &host.address));
    assert!(
        matches!(refused(&target(host), &no_port).await, SshError::HostKeyUnknown { name } if name.ends_with("]:2222"))
    );

    let six = SshTarget { address: host.address6(), ..target(host) };
    let lines = hosts.known_hosts().replace(&host.address, &host.address6());
    Connection::open(&six, &known(lines.clone())).await.unwrap();
    let long: std::net::Ipv6Addr = host.address6().parse().unwrap();
    let long = long.segments().map(|part| format!("{part:04X}")).join(":");
    Connection::open(&SshTarget { address: long, ..six.clone() }, &known(lines)).await.unwrap();
}

fn reachable(group: &HostGroup) -> i32 {
    group.status.as_ref().map_or(0, |status| status.hosts.reachable)
}

fn reason(group: &HostGroup) -> String {
    group.status.as_ref().and_then(|status| status.exceptions.first()).map(|one| one.reason.clone()).unwrap_or_default()
}

fn handled(group: &HostGroup, stamp: &str) -> bool {
    let verb = "landfall.dev/forget-host-key";
    group.status.as_ref().is_some_and(|status| status.last_handled.get(verb).map(String::as_str) == Some(stamp))
}

/// A HostGroup `name` with these hosts, by the Secrets of `prod`.
async fn group(bench: &Bench, name: &str, ssh: serde_json::Value, hosts: &[usize]) {
    // Which every group of the namespace may use from now on.
    for secret in ["prod-identity", "prod-known-hosts"] {
        let label = json!({ "metadata": { "labels": { "use.landfall.dev/ssh": "" } } });
        bench.patch::<k8s_openapi::api::core::v1::Secret>(secret, label).await;
    }
    let mut object = json!({
        "apiVersion": "landfall.dev/v1alpha1", "kind": "HostGroup", "metadata": { "name": name },
        "spec": {
            "ssh": { "user": "root", "credentialsRef": { "name": "prod-identity" } },
            "probe": { "periodSeconds": 1 },
            "hosts": hosts.iter().map(|i| json!({ "name": bench.hosts.host(*i).name, "address": bench.hosts.host(*i).address })).collect::<Vec<_>>(),
        },
    });
    for (key, value) in ssh.as_object().unwrap() {
        object["spec"]["ssh"][key] = value.clone();
    }
    bench.create::<HostGroup>(object).await;
}

#[tokio::test]
async fn a_key_seen_first_is_kept_over_restarts_until_a_person_has_it_forgotten() {
    let mut bench = Bench::new(1).await;
    group(&bench, "lab", json!({ "hostKeys": { "policy": "TrustOnFirstUse" } }), &[0]).await;
    bench.until_group("lab", "reachable", |group| reachable(group) == 1).await;
    bench.operator.kill9().await;
    let host = bench.hosts.host(0).clone();
    host.rekey().await;
    bench.operator.restart().await;
    let before = host.sshd_log().await.matches("Accepted publickey").count();
    let seen = bench.until_group("lab", "refused", |group| reason(group) == "HostKeyMismatch").await;
    let message = &seen.status.as_ref().unwrap().exceptions[0].message;
    assert!(message.contains("forget-host-key") && message.matches("SHA256:").count() == 2, "{message}");
    assert_eq!(host.sshd_log().await.matches("Accepted publickey").count(), before, "nothing was sent");

    let stamp = |value: &str| json!({ "metadata": { "annotations": { "landfall.dev/forget-host-key": value } } });
    bench.patch::<HostGroup>("lab", stamp("web-01")).await;
    bench.until_group("lab", "healed", |group| reachable(group) == 1 && handled(group, "web-01")).await;
    host.rekey().await;
    host.hangup().await;
    bench.until_group("lab", "refused again", |group| reason(group) == "HostKeyMismatch").await;
    bench.patch::<HostGroup>("lab", stamp("web-01/2")).await;
    bench.until_group("lab", "healed again", |group| reachable(group) == 1 && handled(group, "web-01/2")).await;

    // A strict group forgets nothing, and does not become one that takes anybody.
    bench.patch::<HostGroup>("prod", stamp("web-01")).await;
    bench.until_group("prod", "handled", |group| handled(group, "web-01")).await;
    bench.until_group("prod", "refused", |group| reason(group) == "HostKeyMismatch").await;
    let weaker = json!({ "spec": { "ssh": { "hostKeys": { "policy": "TrustOnFirstUse", "knownHostsRef": null } } } });
    let api = bench.space.api::<HostGroup>();
    let patch = kube::api::Patch::Merge(&weaker);
    let refused = api.patch("prod", &Default::default(), &patch).await.unwrap_err().to_string();
    assert!(refused.contains("can't go over to TrustOnFirstUse"), "{refused}");
    let half = json!({ "spec": { "ssh": { "hostKeys": { "knownHostsRef": null } } } });
    let refused =
        api.patch("prod", &Default::default(), &kube::api::Patch::Merge(&half)).await.unwrap_err().to_string();
    assert!(refused.contains("knownHostsRef is required"), "{refused}");
}

#[tokio::test]
async fn hosts_behind_a_jump_host_share_one_connection_through_it_and_its_loss_is_named() {
    let bench = Bench::new(4).await;
    let jump = json!([{ "address": bench.hosts.host(0).address, "user": "deploy" }]);
    let keys = json!({ "policy": "Strict", "knownHostsRef": { "name": "prod-known-hosts" } });
    // By a certificate of our own authority, too: the Secret has `ca`.
    let authority = new_key();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "authority", "labels": { "use.landfall.dev/ssh": "" } },
        "stringData": { "ca": private(&authority) },
    });
    bench.create::<k8s_openapi::api::core::v1::Secret>(secret).await;
    for host in bench.hosts.all() {
        host.sh(&format!("echo '{}' >/run/host/user_ca.pub", public(&authority))).await;
        host.reconfigure("TrustedUserCAKeys /run/host/user_ca.pub").await;
    }
    let ssh = json!({ "hostKeys": keys, "jump": jump, "credentialsRef": { "name": "authority" } });
    group(&bench, "inner", ssh, &[1, 2, 3]).await;
    bench.until_group("inner", "reachable", |group| reachable(group) == 3).await;
    let log = bench.hosts.host(0).sshd_log().await;
    let id = format!("Accepted certificate ID \"{}/inner/{}\"", bench.space.name, bench.hosts.host(0).address);
    assert!(log.contains(&id), "{id}: {log}");
    // Beside that of `prod` to the host itself.
    until("one connection for three hosts", || async { bench.connections()[0] == 2 }).await;

    bench.hosts.host(0).refuse().await;
    bench.hosts.host(0).hangup().await;
    let lost =
        bench.until_group("inner", "lost", |group| reachable(group) == 0 && reason(group) == "Unreachable").await;
    let message = &lost.status.as_ref().unwrap().exceptions[0].message;
    assert!(message.contains(&format!("jump host {}", bench.hosts.host(0).address)), "{message}");
    bench.hosts.host(0).mend().await;
    bench.until_group("inner", "back", |group| reachable(group) == 3).await;
}
