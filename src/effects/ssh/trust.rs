//! How a host's identity is verified: a pinned key, a certificate of a known authority, or the key that was seen first.
//! Keys are compared whole. Nothing is sent to a server that is not verified.

use std::{fmt, net::IpAddr, sync::Arc};

use futures::future::BoxFuture;
use russh::keys::{
    Algorithm, Certificate, EcdsaCurve, HashAlg, PublicKey, PublicKeyOrCertificate, ssh_key::certificate::CertType,
};

use super::{
    SshError,
    identity::Identity,
    known_hosts::{Lines, lines_about, name_of},
    printable,
};

/// Our identity, and how theirs is verified. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {
    identity: Identity,
    trust: HostTrust,
}

/// What identifies the host.
#[derive(Clone)]
pub enum HostTrust {
    /// One of the keys that these lines of known_hosts have for the address.
    Pinned(Arc<str>),
    /// A certificate signed by an `@cert-authority` of these lines; plain keys are not taken, listed or not.
    Authority(Arc<str>),
    /// The first key that is seen, and from then on no other.
    FirstUse(Arc<dyn FirstUse>),
}

/// Where the keys that were seen first are kept. Errors are for people.
pub trait FirstUse: Send + Sync {
    /// The key on record, as one line of OpenSSH's format.
    fn known<'a>(&'a self, address: &'a str, port: u16) -> BoxFuture<'a, Result<Option<String>, String>>;

    /// Keeps the key unless there is one, and answers which is on record then.
    fn keep<'a>(&'a self, address: &'a str, port: u16, key: &'a str) -> BoxFuture<'a, Result<String, String>>;
}

impl Credentials {
    /// `identity`: a private key in OpenSSH format without passphrase. `known_hosts`: lines of that format, whose keys are pinned.
    pub fn new(identity: &str, known_hosts: &str) -> Result<Self, SshError> {
        Ok(Self::of(Identity::key(identity)?, HostTrust::Pinned(known_hosts.into())))
    }

    pub fn of(identity: Identity, trust: HostTrust) -> Self {
        Self { identity, trust }
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What this address may show.
    pub(super) async fn expected(&self, address: &str, port: u16) -> Result<Expected, SshError> {
        let name = name_of(address, port);
        let (rule, revoked) = match &self.trust {
            HostTrust::Pinned(text) => pinned(&name, lines_about(text, address, port)?)?,
            HostTrust::Authority(text) => authorities(&name, lines_about(text, address, port)?)?,
            HostTrust::FirstUse(kept) => {
                let failed = |why| SshError::FirstUse { name: name.clone(), why };
                match kept.known(address, port).await.map_err(failed)? {
                    Some(line) => {
                        let key = line.parse::<PublicKey>().map_err(|error| failed(error.to_string()))?;
                        (Rule::First(key), Vec::new())
                    }
                    None => (Rule::AnyKey(kept.clone()), Vec::new()),
                }
            }
        };
        Ok(Expected { address: address.to_owned(), port, rule, revoked })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

fn pinned(name: &str, lines: Lines) -> Result<(Rule, Vec<PublicKey>), SshError> {
    let Lines { mut keys, revoked, unsupported, .. } = lines;
    let listed = keys.first().cloned();
    keys.retain(|key| !has(&revoked, key));
    match (keys.is_empty(), listed, unsupported.is_empty()) {
        (false, ..) => Ok((Rule::Keys(keys), revoked)),
        (true, Some(key), _) => Err(SshError::HostKeyRevoked { name: name.to_owned(), key: fingerprint(&key) }),
        (true, None, false) => {
            Err(SshError::HostKeyTypeUnsupported { name: name.to_owned(), found: unsupported.join(", ") })
        }
        (true, None, true) => Err(SshError::HostKeyUnknown { name: name.to_owned() }),
    }
}

fn authorities(name: &str, lines: Lines) -> Result<(Rule, Vec<PublicKey>), SshError> {
    let Lines { mut authorities, revoked, unsupported_authorities: unsupported, .. } = lines;
    let listed = authorities.first().cloned();
    authorities.retain(|key| !has(&revoked, key));
    match (authorities.is_empty(), listed, unsupported.is_empty()) {
        (false, ..) => Ok((Rule::Authorities(authorities), revoked)),
        (true, Some(key), _) => Err(SshError::HostKeyRevoked { name: name.to_owned(), key: fingerprint(&key) }),
        (true, None, false) => {
            let found = format!("{} of an @cert-authority", unsupported.join(", "));
            Err(SshError::HostKeyTypeUnsupported { name: name.to_owned(), found })
        }
        (true, None, true) => Err(SshError::AuthorityUnknown { name: name.to_owned() }),
    }
}

/// What one address may show.
#[derive(Clone)]
pub(super) struct Expected {
    address: String,
    port: u16,
    rule: Rule,
    revoked: Vec<PublicKey>,
}

#[derive(Clone)]
enum Rule {
    Keys(Vec<PublicKey>),
    Authorities(Vec<PublicKey>),
    /// The key that was seen first.
    First(PublicKey),
    /// None was seen yet; the first one is kept here.
    AnyKey(Arc<dyn FirstUse>),
}

impl Expected {
    /// Plain keys that are asked for: of the types that we can check, or a server that has two would show the one that we can't.
    pub(crate) fn algorithms(&self) -> Vec<Algorithm> {
        let mut found: Vec<Algorithm> = Vec::new();
        let keys = match &self.rule {
            Rule::Keys(keys) => keys.as_slice(),
            Rule::First(key) => std::slice::from_ref(key),
            Rule::Authorities(_) => return found,
            Rule::AnyKey(_) => return every_algorithm(),
        };
        for key in keys {
            if !found.contains(&key.algorithm()) {
                found.push(key.algorithm());
            }
        }
        found
    }

    /// Certificates that are asked for, by the type of the key in them.
    pub(crate) fn certificate_algorithms(&self) -> Vec<Algorithm> {
        if matches!(self.rule, Rule::Authorities(_)) { every_algorithm() } else { Vec::new() }
    }

    /// Whether that is the host. `now`: seconds since 1970. The server has proved by then that it holds the key.
    pub async fn verify(&self, shown: &PublicKeyOrCertificate, now: u64) -> Result<(), SshError> {
        match (&self.rule, shown) {
            (Rule::Authorities(known), PublicKeyOrCertificate::Certificate(shown)) => {
                let refused = |why| SshError::HostCertificateRefused { address: self.address.clone(), why };
                check(shown, known, &self.revoked, &self.address, now).map_err(refused)
            }
            (_, PublicKeyOrCertificate::PublicKey { key, .. }) => self.verify_key(key).await,
            (_, PublicKeyOrCertificate::Certificate(_)) => Err(self.mismatch("a certificate".to_owned())),
        }
    }

    async fn verify_key(&self, key: &PublicKey) -> Result<(), SshError> {
        if has(&self.revoked, key) {
            let name = name_of(&self.address, self.port);
            return Err(SshError::HostKeyRevoked { name, key: fingerprint(key) });
        }
        let known = match &self.rule {
            Rule::Keys(keys) => has(keys, key),
            Rule::First(first) => first.key_data() == key.key_data(),
            Rule::Authorities(_) => return Err(self.no_certificate(&[key.algorithm().to_string()])),
            Rule::AnyKey(kept) => return self.first_seen(kept.as_ref(), key).await,
        };
        if known { Ok(()) } else { Err(self.mismatch(fingerprint(key))) }
    }

    /// Kept before anything is sent. Where another task was quicker, the key that it kept counts.
    async fn first_seen(&self, kept: &dyn FirstUse, key: &PublicKey) -> Result<(), SshError> {
        let failed = |why| SshError::FirstUse { name: name_of(&self.address, self.port), why };
        let line =
            PublicKey::new(key.key_data().clone(), "").to_openssh().map_err(|error| failed(error.to_string()))?;
        let recorded = kept.keep(&self.address, self.port, &line).await.map_err(failed)?;
        let recorded = recorded.parse::<PublicKey>().map_err(|error| failed(error.to_string()))?;
        if recorded.key_data() == key.key_data() {
            return Ok(());
        }
        Err(Self { rule: Rule::First(recorded), ..self.clone() }.mismatch(fingerprint(key)))
    }

    /// The host shows `got`, which is not what it has to show.
    pub fn mismatch(&self, got: String) -> SshError {
        let address = self.address.clone();
        match &self.rule {
            Rule::First(key) => SshError::FirstKeyMismatch { address, expected: fingerprint(key), got },
            Rule::Keys(keys) => {
                let expected = keys.iter().map(fingerprint).collect::<Vec<_>>().join(" or ");
                SshError::HostKeyMismatch { address, expected, got }
            }
            Rule::Authorities(_) => self.no_certificate(&[got]),
            Rule::AnyKey(_) => SshError::HostKeyTypeUnsupported { name: address, found: got },
        }
    }

    /// The server has no key of the types that were asked for.
    pub fn no_common_algorithm(&self, theirs: &[String]) -> SshError {
        match &self.rule {
            Rule::Keys(_) | Rule::First(_) => self.mismatch(format!("a key of another type ({})", theirs.join(", "))),
            Rule::Authorities(_) => self.no_certificate(theirs),
            Rule::AnyKey(_) => self.mismatch(theirs.join(", ")),
        }
    }

    fn no_certificate(&self, theirs: &[String]) -> SshError {
        let address = self.address.clone();
        let why = format!(
            "it shows no certificate of an Ed25519 or ECDSA key, only {}; sign its key (ssh-keygen -s CA -I NAME -h -n {address} \
             ssh_host_ed25519_key.pub) and name the file by HostCertificate in its sshd_config",
            theirs.join(", ")
        );
        SshError::HostCertificateRefused { address, why }
    }
}

/// The whole of what makes a host certificate one for this address.
fn check(
    shown: &Certificate,
    authorities: &[PublicKey],
    revoked: &[PublicKey],
    address: &str,
    now: u64,
) -> Result<(), String> {
    let authority = PublicKey::new(shown.signature_key().clone(), "");
    let key = PublicKey::new(shown.public_key().clone(), "");
    if let Some(bad) = [&authority, &key].into_iter().find(|key| has(revoked, key)) {
        return Err(format!("its key or authority {} is marked @revoked in known_hosts", fingerprint(bad)));
    }
    if !has(authorities, &authority) {
        let known = authorities.iter().map(fingerprint).collect::<Vec<_>>().join(" or ");
        return Err(format!(
            "it is signed by {}, and known_hosts has @cert-authority {known}",
            fingerprint(&authority)
        ));
    }
    if shown.cert_type() != CertType::Host {
        return Err("it is a user's certificate; sign the host's key with ssh-keygen -h".to_owned());
    }
    let (after, before) = (shown.valid_after(), shown.valid_before());
    if now < after || now >= before {
        return Err(format!("it is valid from {} until {} only; sign it again", when(after), when(before)));
    }
    let print = authority.fingerprint(HashAlg::Sha256);
    shown.validate_at(now, [&print]).map_err(|_| "its signature is wrong".to_owned())?;
    if !shown.valid_principals().iter().any(|one| same_address(one, address)) {
        let names = match shown.valid_principals() {
            [] => "no host".to_owned(),
            names => printable(names.join(", ").as_bytes()),
        };
        return Err(format!("it names {names}, not {address}; sign it with -n {address}"));
    }
    match shown.critical_options().keys().next() {
        Some(option) => Err(format!(
            "it has the critical option {}, and a host's certificate has none",
            printable(option.as_bytes())
        )),
        None => Ok(()),
    }
}

/// No patterns here, unlike in known_hosts: a certificate without names, or with `*`, fits no address.
fn same_address(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
        || matches!((one.parse::<IpAddr>(), other.parse::<IpAddr>()), (Ok(one), Ok(other)) if one == other)
}

fn when(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "ever".to_owned(), |time| time.to_string())
}

fn has(keys: &[PublicKey], key: &PublicKey) -> bool {
    keys.iter().any(|known| known.key_data() == key.key_data())
}

fn every_algorithm() -> Vec<Algorithm> {
    let curve = |curve| Algorithm::Ecdsa { curve };
    vec![Algorithm::Ed25519, curve(EcdsaCurve::NistP256), curve(EcdsaCurve::NistP384), curve(EcdsaCurve::NistP521)]
}

pub(super) fn fingerprint(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}
