//! What can go wrong between us and a host's sshd, and what to do about it. Text that a host chose is cleaned before it gets in here.

use crate::model::Class;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SshError {
    #[error("{address} can't be reached: {why}; check that the machine is up and that its sshd listens there")]
    Unreachable { address: String, why: String },
    #[error(
        "{address} accepts connections and then says nothing for {seconds} s ({what}); it may be overloaded or frozen, or something else \
         than sshd listens there"
    )]
    Silent { address: String, what: &'static str, seconds: u64 },
    #[error(
        "{address} shows the host key {got} where known_hosts has {expected}: nothing was sent. If the machine was reinstalled, replace \
         its line in known_hosts; if not, something intercepts the connection"
    )]
    HostKeyMismatch { address: String, expected: String, got: String },
    #[error(
        "known_hosts has no line for {name}; add one (ssh-keyscan -t ed25519,ecdsa prints it; compare its fingerprint on the machine)"
    )]
    HostKeyUnknown { name: String },
    #[error("the known keys of {name} are of no supported type, only {found}; it takes its Ed25519 or ECDSA key")]
    HostKeyTypeUnsupported { name: String, found: String },
    #[error("{name} shows {key}, which is marked @revoked in known_hosts: nothing was sent; give the host a new key")]
    HostKeyRevoked { name: String, key: String },
    #[error(
        "known_hosts has no @cert-authority line whose patterns fit {name}; add one: @cert-authority NAMES KEY, with the public key of the \
         authority that signs the hosts"
    )]
    AuthorityUnknown { name: String },
    #[error("{address} does not prove by a certificate who it is, and nothing was sent: {why}")]
    HostCertificateRefused { address: String, why: String },
    #[error(
        "{address} shows the host key {got}; the one that was seen there first is {expected}: nothing was sent. If the machine was \
         reinstalled, annotate the HostGroup with landfall.dev/forget-host-key=HOST; if not, something intercepts the connection"
    )]
    FirstKeyMismatch { address: String, expected: String, got: String },
    #[error("the key that {name} showed first can't be kept or read: {why}; nothing was sent to it")]
    FirstUse { name: String, why: String },
    #[error("jump host {hop} to {address}: {cause}")]
    Jump { hop: String, address: String, cause: Box<SshError> },
    #[error("line {line} of known_hosts can't be read; a line is: names, key type, key")]
    KnownHosts { line: usize },
    #[error(
        "{address} does not accept our key for user {user:?}; add the key to that user's authorized_keys (where `ca` signs certificates: name \
         its public half in TrustedUserCAKeys of sshd_config, and see that the clocks agree)"
    )]
    AuthenticationFailed { address: String, user: String },
    #[error(
        "keys of type {found} are not supported, only Ed25519 and ECDSA; make one (ssh-keygen -t ed25519 -N '') and put it into the Secret \
         instead"
    )]
    UnsupportedKeyType { found: String },
    #[error(
        "`identity` (or `ca`) of the credentials is no private key in OpenSSH format without a passphrase ({why}); ssh-keygen -t ed25519 -N '' \
         makes one"
    )]
    BadIdentity { why: String },
    #[error("the connection to {address} was lost while {what}: {why}")]
    Lost { address: String, what: &'static str, why: String },
    #[error("{address} did not finish {what} within {seconds} s")]
    Deadline { address: String, what: &'static str, seconds: u64 },
    #[error(
        "sshd on {address} does not forward connections; set `AllowTcpForwarding local` there (readiness is asked through the connection, and \
         what is behind a jump host is reached so)"
    )]
    NoForwarding { address: String },
    #[error("{name} on this machine can't be read: {why}")]
    LocalFile { name: String, why: String },
    #[error("{address} broke the SSH protocol: {why}")]
    Protocol { address: String, why: String },
}

impl SshError {
    /// What stays so until the host, the Secret or known_hosts is changed is terminal for this host, never for others.
    pub fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::Lost { .. }
            | Self::Deadline { .. }
            | Self::LocalFile { .. }
            | Self::Protocol { .. }
            | Self::FirstUse { .. }
            | Self::AuthenticationFailed { .. } => Class::Transient,
            Self::Jump { cause, .. } => cause.class(),
            Self::HostKeyMismatch { .. }
            | Self::HostKeyUnknown { .. }
            | Self::HostKeyTypeUnsupported { .. }
            | Self::HostKeyRevoked { .. }
            | Self::AuthorityUnknown { .. }
            | Self::HostCertificateRefused { .. }
            | Self::FirstKeyMismatch { .. }
            | Self::KnownHosts { .. }
            | Self::UnsupportedKeyType { .. }
            | Self::BadIdentity { .. }
            | Self::NoForwarding { .. } => Class::Terminal,
        }
    }

    /// Whether the host was not reached at all or was lost, as opposed to having answered with a no.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Jump { cause, .. } => cause.is_unreachable(),
            other => matches!(
                other,
                Self::Unreachable { .. } | Self::Silent { .. } | Self::Lost { .. } | Self::Deadline { .. }
            ),
        }
    }
}
