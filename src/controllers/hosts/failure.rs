//! An error of a host as the planners read it: a reason of the closed list, and a message that says what to do.

use crate::{
    api::Reason,
    effects::{host::HostError, program::ProgramError, ssh::SshError},
    model::Failure,
};

/// `None` where the error is not about the host: this operator may not act.
pub fn failure(error: &HostError) -> Option<Failure> {
    if matches!(error, HostError::Shut(_)) {
        return None;
    }
    Some(Failure::new(reason(error), error.class(), error.to_string()))
}

fn reason(error: &HostError) -> Reason {
    match error {
        HostError::Ssh(error) => reason_of_ssh(error),
        HostError::Shut(_) | HostError::Fenced => Reason::Fenced,
        HostError::HostClaimed { .. } => Reason::HostClaimed,
        HostError::FencedByOtherControlPlane { .. } => Reason::FencedByOtherControlPlane,
        HostError::DiskFull { .. } => Reason::DiskFull,
        HostError::Unsupported { .. } => Reason::HostUnsupported,
        HostError::DigestMismatch { .. } => Reason::TransferCorrupt,
        HostError::Tampered { .. } => Reason::ReleaseTampered,
        HostError::Program(ProgramError::Ended(_) | ProgramError::Deadline { .. }) => Reason::Unreachable,
        HostError::JournalMoved { .. }
        | HostError::Busy { .. }
        | HostError::Lost { .. }
        | HostError::Failed { .. }
        | HostError::Program(_)
        | HostError::BadInput { .. } => Reason::HelperFailed,
    }
}

/// The reason of an SSH error, of a host or a git server.
pub fn reason_of_ssh(error: &SshError) -> Reason {
    match error {
        SshError::Jump { cause, .. } => reason_of_ssh(cause),
        SshError::HostKeyMismatch { .. } | SshError::HostKeyRevoked { .. } | SshError::FirstKeyMismatch { .. } => {
            Reason::HostKeyMismatch
        }
        SshError::HostKeyUnknown { .. } | SshError::AuthorityUnknown { .. } => Reason::HostKeyUnknown,
        SshError::HostCertificateRefused { .. } => Reason::HostCertificateInvalid,
        SshError::HostKeyTypeUnsupported { .. } | SshError::UnsupportedKeyType { .. } => Reason::UnsupportedKeyType,
        SshError::KnownHosts { .. } | SshError::BadIdentity { .. } => Reason::SecretInvalid,
        SshError::AuthenticationFailed { .. } => Reason::AuthenticationFailed,
        SshError::NoForwarding { .. } => Reason::HostUnsupported,
        SshError::LocalFile { .. } | SshError::FirstUse { .. } => Reason::StoreUnavailable,
        SshError::Unreachable { .. }
        | SshError::Silent { .. }
        | SshError::Lost { .. }
        | SshError::Deadline { .. }
        | SshError::Protocol { .. } => Reason::Unreachable,
    }
}

/// The same for credentials, before any host is dialled.
pub fn credentials_failure(error: &SshError) -> Failure {
    Failure::terminal(reason_of_ssh(error), error.to_string())
}
