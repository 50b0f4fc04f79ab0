//! Why a step on a host did not succeed, and what that means for the task.

use crate::{
    api::{Reason, conditions::clip},
    effects::host::HostError,
    model::{Class, Failure},
};

/// Length of a failure's message.
const MESSAGE_BYTES: usize = 1500;

/// Failure of a host in this attempt. `lines`: the last lines of output.
pub(crate) fn host_failed(reason: Reason, message: &str, lines: &[String]) -> Failure {
    let output = match lines.is_empty() {
        true => String::new(),
        false => format!("; last output: {}", lines.join(" | ")),
    };
    Failure::terminal(reason, clip(&format!("{message}{output}"), MESSAGE_BYTES))
}

/// Why a step failed.
pub(crate) enum StepError {
    Host(HostError),
    Failed(Failure),
    /// The host has a new goal.
    Superseded,
}

impl From<HostError> for StepError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

/// What to do about an error of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// Check the host again and continue.
    Again,
    /// Check the host again and continue, a limited number of times.
    RetryLimited(Failure),
    /// The connection was lost, or sign-in is refused.
    Disconnected,
    /// This operator may not act, or not on this host: the planner decides again.
    Yield,
    Fail(Failure),
}

pub(crate) fn recovery(error: &HostError, reason: Reason) -> Recovery {
    let fail = |reason| host_failed(reason, &error.to_string(), &[]);
    match error {
        HostError::JournalMoved { .. } | HostError::Busy { .. } => Recovery::Again,
        HostError::Shut(_)
        | HostError::Fenced
        | HostError::HostClaimed { .. }
        | HostError::FencedByOtherControlPlane { .. } => Recovery::Yield,
        HostError::Ssh(error) if error.class() == Class::Transient => Recovery::Disconnected,
        HostError::Ssh(crate::effects::ssh::SshError::NoForwarding { .. }) => {
            Recovery::Fail(fail(Reason::HostUnsupported))
        }
        HostError::Ssh(crate::effects::ssh::SshError::LocalFile { .. }) => {
            Recovery::Fail(fail(Reason::StoreUnavailable))
        }
        HostError::Ssh(_) => Recovery::Disconnected,
        HostError::DiskFull { .. } => Recovery::Fail(fail(Reason::DiskFull)),
        HostError::PortInUse { .. } => Recovery::Fail(fail(Reason::PortInUse)),
        HostError::DigestMismatch { .. } => Recovery::RetryLimited(fail(Reason::TransferCorrupt)),
        HostError::Unsupported { .. } => Recovery::Fail(fail(Reason::HostUnsupported)),
        HostError::Protocol { .. } => Recovery::RetryLimited(fail(Reason::HelperFailed)),
        HostError::BadInput { .. } => Recovery::Fail(fail(Reason::HelperFailed)),
        HostError::StepFailed { step, why, last_lines } => {
            Recovery::Fail(host_failed(reason, &format!("{step} failed on the host: {why}"), last_lines))
        }
    }
}
