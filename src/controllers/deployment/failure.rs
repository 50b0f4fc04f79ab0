//! Why a step on a host did not succeed, and what that means for the turn.

use crate::{
    api::{Reason, conditions::clip},
    effects::{class::Class, host::HostError},
};

/// A verdict about the host: it failed in this attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: Reason,
    pub message: String,
}

impl Failure {
    /// `lines`: what was said last.
    pub fn new(reason: Reason, message: &str, lines: &[String]) -> Self {
        let said = match lines.is_empty() {
            true => String::new(),
            false => format!("; it said last: {}", lines.join(" | ")),
        };
        Self { reason, message: clip(&format!("{message}{said}"), 1500) }
    }
}

/// What to do about an error of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// Look again and go on.
    Again,
    /// Look again and go on, but not for ever.
    Few(Failure),
    /// The host was lost, or does not let us in (any more).
    Lost,
    /// This operator may not act, or not on this host. The planner decides anew.
    Leave,
    Fail(Failure),
}

pub fn then(error: &HostError, reason: Reason) -> Then {
    let fail = |reason| Failure::new(reason, &error.to_string(), &[]);
    match error {
        HostError::JournalMoved { .. } | HostError::Busy { .. } => Then::Again,
        HostError::Shut(_)
        | HostError::Fenced
        | HostError::HostClaimed { .. }
        | HostError::FencedByOtherControlPlane { .. } => Then::Leave,
        HostError::Ssh(error) if error.class() == Class::Transient => Then::Lost,
        HostError::Ssh(crate::effects::ssh::SshError::NoForwarding { .. }) => Then::Fail(fail(Reason::HostUnsupported)),
        HostError::Ssh(crate::effects::ssh::SshError::LocalFile { .. }) => Then::Fail(fail(Reason::StoreUnavailable)),
        HostError::Ssh(_) => Then::Lost,
        HostError::DiskFull { .. } => Then::Fail(fail(Reason::DiskFull)),
        HostError::PortInUse { .. } => Then::Fail(fail(Reason::PortInUse)),
        HostError::DigestMismatch { .. } => Then::Few(fail(Reason::TransferCorrupt)),
        HostError::Unsupported { .. } => Then::Fail(fail(Reason::HostUnsupported)),
        HostError::Protocol { .. } => Then::Few(fail(Reason::HelperFailed)),
        HostError::BadInput { .. } => Then::Fail(fail(Reason::HelperFailed)),
        HostError::StepFailed { step, why, last_lines } => {
            Then::Fail(Failure::new(reason, &format!("{step} failed on the host: {why}"), last_lines))
        }
    }
}
