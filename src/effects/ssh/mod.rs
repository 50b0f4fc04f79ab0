//! SSH to one host: a connection with a pinned host key, commands, and streams through it. A host is untrusted input: every wait has a
//! deadline outside the library, every answer a cap. It must not know what is done on a host.

mod error;

pub use error::SshError;

use std::time::Duration;

/// Where a host's sshd listens and as whom we log in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SshTarget {
    /// Name or IP address, without port.
    pub address: String,
    pub port: u16,
    pub user: String,
    /// For the way from the first packet to the accepted key.
    pub connect_timeout: Duration,
}

/// What proves who we are and who they are.
#[derive(Clone)]
pub struct Credentials {
    identity: String,
    known_hosts: String,
}

impl Credentials {
    /// `identity`: a private key in OpenSSH format without passphrase. `known_hosts`: lines of that format.
    pub fn new(identity: &str, known_hosts: &str) -> Result<Self, SshError> {
        Ok(Self { identity: identity.to_owned(), known_hosts: known_hosts.to_owned() })
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(***)")
    }
}
