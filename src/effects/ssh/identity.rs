//! Our identity: a private key of a Secret, or an authority of a Secret with which a certificate for one connection is signed. What is
//! signed lives minutes and in memory only.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use russh::keys::{
    Algorithm, Certificate, PrivateKey, PrivateKeyWithHashAlg,
    ssh_key::{
        self,
        certificate::{Builder, CertType},
        private::{Ed25519Keypair, KeypairData},
    },
};

use super::SshError;
use crate::effects::clock;

/// Seconds before now at which a certificate begins, and after which it ends: eight minutes, for clocks that differ by less than three. sshd asks for
/// its validity only at the login; a connection that stands goes on.
const CLOCK_SKEW_SECONDS: u64 = 180;
const CERTIFICATE_SECONDS: u64 = 300;

/// What we show to a server. Cheap to clone.
#[derive(Clone)]
pub enum Identity {
    Key(Arc<PrivateKey>),
    Authority(Arc<Authority>),
}

/// A key whose signature servers trust (`TrustedUserCAKeys`), and what certificates of it say.
pub struct Authority {
    key: PrivateKey,
    /// Before the address in every certificate's key id, which sshd logs.
    key_id: String,
    /// The one principal; the login's user where there is none.
    principal: Option<String>,
}

/// What is shown at one login.
pub(super) enum Proof {
    Key(PrivateKeyWithHashAlg),
    Certificate(Arc<PrivateKey>, Box<Certificate>),
}

impl Identity {
    /// A private key in OpenSSH format without passphrase: Ed25519 or ECDSA.
    pub fn key(text: &str) -> Result<Self, SshError> {
        Ok(Self::Key(Arc::new(private_key(text)?)))
    }

    /// Such a key of an authority that signs users. `key_id` (`namespace/group`) stands in every certificate.
    pub fn authority(text: &str, key_id: &str, principal: Option<&str>) -> Result<Self, SshError> {
        let key = private_key(text)?;
        let (key_id, principal) = (key_id.to_owned(), principal.map(str::to_owned));
        Ok(Self::Authority(Arc::new(Authority { key, key_id, principal })))
    }

    pub(super) fn prove(&self, user: &str, address: &str) -> Result<Proof, SshError> {
        match self {
            Self::Key(key) => Ok(Proof::Key(PrivateKeyWithHashAlg::new(key.clone(), None))),
            Self::Authority(authority) => authority.sign(user, address).map_err(|error| SshError::BadIdentity {
                why: format!("no certificate could be signed with `ca`: {error}"),
            }),
        }
    }
}

impl Authority {
    /// A fresh key that only this connection knows, and a certificate that lets it log in as one principal and forward, nothing else:
    /// no terminal, no agent, no X11.
    fn sign(&self, user: &str, address: &str) -> Result<Proof, ssh_key::Error> {
        let pair = Ed25519Keypair::from_seed(&rand::random());
        let key = PrivateKey::new(KeypairData::Ed25519(pair), "")?;
        let now = u64::try_from(clock::now().as_second()).unwrap_or_default();
        let nonce: [u8; 32] = rand::random();
        let public = key.public_key().key_data().clone();
        let mut certificate =
            Builder::new(nonce, public, now.saturating_sub(CLOCK_SKEW_SECONDS), now + CERTIFICATE_SECONDS)?;
        let (serial, key_id) = (serial(now), format!("{}/{address}", self.key_id));
        certificate
            .cert_type(CertType::User)?
            .serial(serial)?
            .key_id(&key_id)?
            .valid_principal(self.principal.as_deref().unwrap_or(user))?
            .extension("permit-port-forwarding", "")?;
        let certificate = certificate.sign(&self.key)?;
        tracing::info!(serial, key_id, "a user certificate was signed for one connection");
        Ok(Proof::Certificate(Arc::new(key), Box::new(certificate)))
    }
}

/// Never the same twice in one process, and growing over restarts: seconds, then a count.
fn serial(now: u64) -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let least = now << 20;
    let next = |last: u64| Some(last.saturating_add(1).max(least));
    LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
        .map_or(least, |last| last.saturating_add(1).max(least))
}

fn private_key(text: &str) -> Result<PrivateKey, SshError> {
    let text = text.trim();
    refuse_other_formats(text)?;
    let key = PrivateKey::from_openssh(text).map_err(|error| match error {
        ssh_key::Error::AlgorithmUnknown | ssh_key::Error::AlgorithmUnsupported { .. } => {
            SshError::UnsupportedKeyType { found: "that landfall does not know".to_owned() }
        }
        other => SshError::BadIdentity { why: other.to_string() },
    })?;
    if !supported(&key.algorithm()) {
        return Err(SshError::UnsupportedKeyType { found: named(&key.algorithm()) });
    }
    if key.is_encrypted() {
        return Err(SshError::BadIdentity { why: "it has a passphrase".to_owned() });
    }
    Ok(key)
}

/// By their first line: what a person sees and has to turn into OpenSSH's format.
fn refuse_other_formats(text: &str) -> Result<(), SshError> {
    let first = text.lines().next().unwrap_or_default();
    let unsupported = |found: &str| Err(SshError::UnsupportedKeyType { found: found.to_owned() });
    let bad = |why: &str| Err(SshError::BadIdentity { why: why.to_owned() });
    if first.contains("BEGIN RSA PRIVATE KEY") {
        return unsupported("RSA");
    }
    if first.contains("BEGIN DSA PRIVATE KEY") {
        return unsupported("DSA");
    }
    if text.is_empty() {
        return bad("it is empty");
    }
    if first.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return bad("it is in PEM format and has a passphrase; ssh-keygen -p -N '' -f FILE mends both");
    }
    if first.contains("BEGIN EC PRIVATE KEY") || first.contains("BEGIN PRIVATE KEY") {
        return bad("it is in PEM format; ssh-keygen -p -N '' -f FILE converts it to OpenSSH's");
    }
    if first.starts_with("PuTTY-User-Key-File") {
        return bad("it is in PuTTY's format; puttygen FILE -O private-openssh-new -o NEW turns it into OpenSSH's");
    }
    if first.starts_with("ssh-") || first.starts_with("ecdsa-") {
        return bad("it is the public half; the private one begins with -----BEGIN OPENSSH PRIVATE KEY-----");
    }
    Ok(())
}

/// RSA is left out: its only implementation in Rust can leak the key by timing (RUSTSEC-2023-0071, not mended), and `cargo deny` refuses it.
pub(super) fn supported(algorithm: &Algorithm) -> bool {
    matches!(algorithm, Algorithm::Ed25519 | Algorithm::Ecdsa { .. })
}

/// As people call it.
pub(super) fn named(algorithm: &Algorithm) -> String {
    match algorithm {
        Algorithm::Rsa { .. } => "RSA".to_owned(),
        Algorithm::Dsa => "DSA".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_grow_even_within_a_second() {
        let (a, b) = (serial(1_700_000_000), serial(1_700_000_000));
        assert!(a < b && b < serial(1_700_000_001));
    }
}
