//! Why a step on a host did not succeed, and what that means for the worker.

use crate::{
    api::{Reason, conditions::clip, deployment::Phase},
    effects::{host::HostError, ssh::SshError},
    model::{Failure, rollout::ProcessId},
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

/// A task ended, and not well.
pub(crate) struct TaskFailure {
    pub failure: Failure,
    pub phase: Phase,
    /// The process that lives all the same.
    pub process: Option<ProcessId>,
}

/// Why a step failed.
pub(crate) enum StepError {
    Host(HostError),
    Failed(Failure),
    Task(Box<TaskFailure>),
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

pub(crate) fn recovery(error: &HostError) -> Recovery {
    let fail = |reason| host_failed(reason, &error.to_string(), &[]);
    match error {
        HostError::JournalMoved { .. } | HostError::Busy { .. } => Recovery::Again,
        HostError::Shut(_)
        | HostError::Fenced
        | HostError::HostClaimed { .. }
        | HostError::FencedByOtherControlPlane { .. } => Recovery::Yield,
        HostError::Ssh(SshError::LocalFile { .. }) => Recovery::Fail(fail(Reason::StoreUnavailable)),
        HostError::Program(crate::effects::program::ProgramError::LocalFile { .. }) => {
            Recovery::Fail(fail(Reason::StoreUnavailable))
        }
        HostError::Ssh(_) => Recovery::Disconnected,
        HostError::Program(_) if error.ends_session() => Recovery::Disconnected,
        HostError::DiskFull { .. } => Recovery::Fail(fail(Reason::DiskFull)),
        HostError::DigestMismatch { .. } => Recovery::RetryLimited(fail(Reason::TransferCorrupt)),
        HostError::Unsupported { .. } => Recovery::Fail(fail(Reason::HostUnsupported)),
        HostError::Lost { .. } | HostError::Program(_) => Recovery::RetryLimited(fail(Reason::HelperFailed)),
        HostError::BadInput { .. } | HostError::Failed { .. } => Recovery::Fail(fail(Reason::HelperFailed)),
    }
}
