//! Who we are and whom we talk to: the private key of a Secret, and the lines of known_hosts that are about one address.
//! Keys are compared whole; a name is never looked up anywhere else.

use std::{fmt, sync::Arc};

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::{
    Algorithm, HashAlg, PrivateKey, PublicKey,
    ssh_key::known_hosts::{Entry, HostPatterns, Marker},
};

use super::SshError;

/// What proves who we are and who they are. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {
    identity: Arc<PrivateKey>,
    known_hosts: Arc<str>,
}

impl Credentials {
    /// `identity`: a private key in OpenSSH format without passphrase. `known_hosts`: lines of that format.
    pub fn new(identity: &str, known_hosts: &str) -> Result<Self, SshError> {
        for (mark, found) in [("BEGIN RSA PRIVATE KEY", "RSA"), ("BEGIN DSA PRIVATE KEY", "DSA")] {
            if identity.contains(mark) {
                return Err(SshError::UnsupportedKeyType { found: found.to_owned() });
            }
        }
        let key = PrivateKey::from_openssh(identity.trim()).map_err(|error| match error {
            russh::keys::ssh_key::Error::AlgorithmUnknown
            | russh::keys::ssh_key::Error::AlgorithmUnsupported { .. } => {
                SshError::UnsupportedKeyType { found: "RSA, DSA or another".to_owned() }
            }
            other => SshError::BadIdentity { why: other.to_string() },
        })?;
        if !supported(&key.algorithm()) {
            return Err(SshError::UnsupportedKeyType { found: key.algorithm().to_string() });
        }
        if key.is_encrypted() {
            return Err(SshError::BadIdentity { why: "it has a passphrase".to_owned() });
        }
        Ok(Self { identity: Arc::new(key), known_hosts: known_hosts.into() })
    }

    pub(super) fn identity(&self) -> Arc<PrivateKey> {
        self.identity.clone()
    }

    /// The keys that this address may show, of types that can be verified. Never empty.
    pub(super) fn expected(&self, address: &str, port: u16) -> Result<Expected, SshError> {
        let name = if port == 22 { address.to_owned() } else { format!("[{address}]:{port}") };
        let (mut keys, mut revoked, mut unsupported) = (Vec::new(), Vec::new(), Vec::new());
        for (index, line) in self.known_hosts.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            let Ok(entry) = line.parse::<Entry>() else {
                if line
                    .split(' ')
                    .next()
                    .is_some_and(|names| names.split(',').any(|one| one.eq_ignore_ascii_case(&name)))
                {
                    return Err(SshError::KnownHosts { line: index + 1 });
                }
                continue;
            };
            if !names(entry.host_patterns(), &name) {
                continue;
            }
            match (entry.marker(), supported(&entry.public_key().algorithm())) {
                (Some(Marker::Revoked), _) => revoked.push(entry.public_key().clone()),
                (Some(Marker::CertAuthority), _) => {}
                (None, true) => keys.push(entry.public_key().clone()),
                (None, false) => unsupported.push(entry.public_key().algorithm().to_string()),
            }
        }
        keys.retain(|key| !revoked.iter().any(|bad| bad.key_data() == key.key_data()));
        match (keys.is_empty(), unsupported.is_empty()) {
            (false, _) => Ok(Expected { keys }),
            (true, false) => Err(SshError::HostKeyTypeUnsupported { name, found: unsupported.join(", ") }),
            (true, true) => Err(SshError::HostKeyUnknown { name }),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

/// The keys of one address.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    keys: Vec<PublicKey>,
}

impl Expected {
    pub fn contains(&self, key: &PublicKey) -> bool {
        self.keys.iter().any(|known| known.key_data() == key.key_data())
    }

    /// Only these are asked for: a server that has two keys must not show the one that we can't check.
    pub fn algorithms(&self) -> Vec<Algorithm> {
        let mut found: Vec<Algorithm> = Vec::new();
        for key in &self.keys {
            if !found.contains(&key.algorithm()) {
                found.push(key.algorithm());
            }
        }
        found
    }

    pub fn fingerprints(&self) -> String {
        self.keys.iter().map(fingerprint).collect::<Vec<_>>().join(" or ")
    }
}

pub(super) fn fingerprint(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}

fn supported(algorithm: &Algorithm) -> bool {
    matches!(algorithm, Algorithm::Ed25519 | Algorithm::Ecdsa { .. })
}

fn names(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::Patterns(patterns) => patterns.iter().any(|one| one.eq_ignore_ascii_case(name)),
        HostPatterns::HashedName { salt, hash } => Hmac::<sha1::Sha1>::new_from_slice(salt)
            .is_ok_and(|mac| mac.chain_update(name.to_ascii_lowercase()).verify_slice(hash).is_ok()),
    }
}
