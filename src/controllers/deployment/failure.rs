//! Why a step on a host did not succeed, and what that means for the worker.

use landfall_host_protocol as protocol;

use crate::{
    api::{Reason, conditions::clip, deployment::Phase},
    effects::{host::HostError, program::ProgramError, ssh::SshError},
    fleet::FleetError,
    model::{Class, Failure, rollout::ProcessId},
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

/// Failure of a task on the host, in words that say what helps.
pub(crate) fn task_failed(failure: &protocol::Failure) -> Failure {
    use protocol::Reason as Of;
    let why = failure.why.as_str();
    let (reason, message) = match failure.reason {
        Of::DiskFull => (Reason::DiskFull, why.to_owned()),
        Of::HostUnsupported => (Reason::HostUnsupported, why.to_owned()),
        Of::PortInUse => (Reason::PortInUse, why.to_owned()),
        Of::ProcessDied if failure.step == protocol::StepName::MinReady => {
            (Reason::ProcessDied, format!("{why}, after it was ready; its output is in shared/log on the host"))
        }
        Of::ProcessDied => {
            (Reason::ProcessDied, format!("{why}, before it was ready; its output is in shared/log on the host"))
        }
        Of::NotReady => (Reason::NotReady, why.to_owned()),
        Of::StopFailed => (Reason::StopFailed, why.to_owned()),
        Of::SwitchFailed => (Reason::SwitchFailed, why.to_owned()),
        Of::StartFailed => (Reason::StartFailed, why.to_owned()),
        Of::ReleaseTampered => (Reason::ReleaseTampered, tampered(why)),
        Of::LeftoverSuspected => (
            Reason::LeftoverSuspected,
            format!("{why}. Nothing is started beside them: end them on the host, then retry"),
        ),
        Of::ExecFormat => {
            let helps = "build the version for the machines that it runs on, or select other hosts";
            (Reason::ExecFormat, format!("{why}; {helps}"))
        }
        Of::AwaitingSecrets => {
            let helps =
                "it is not kept on the host and comes with a start by the operator alone; check the Secret, then retry";
            (Reason::AwaitingSecrets, format!("{why}; {helps}"))
        }
        Of::HookFailed => (Reason::HookFailed, why.to_owned()),
        Of::DrainFailed => {
            let helps = "to go on without its drain: annotate the Deployment with landfall.dev/skip-drain (the reason); an update then waits for \
                         landfall.dev/retry";
            (Reason::DrainFailed, format!("{why}; {helps}"))
        }
        Of::StageFailed | Of::Lost | Of::Internal | Of::Unknown => (Reason::HelperFailed, why.to_owned()),
    };
    let message = match &failure.full {
        Some(full) => HostError::DiskFull { free: full.free_bytes, needed: full.needed }.to_string(),
        None => message,
    };
    host_failed(reason, &message, &failure.lines)
}

fn tampered(why: &str) -> String {
    format!(
        "{why}; nothing is started from it, and it is staged again. Where that comes back: find who writes below releases/ on the host"
    )
}

fn too_slow(error: &HostError) -> String {
    format!("{error} (upload.minBytesPerSecond of its HostGroup); what arrived is not sent again")
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
    /// The release could not be put together from what the host has of this version: the whole one is sent.
    Delta {
        version: String,
        why: String,
    },
    /// A value of a Secret can't be had now, or is another than that of the decision: nothing was begun.
    Values(Failure),
    /// The host has a new goal.
    Superseded,
    /// There was no session in time, and nothing is known of what was begun.
    Unreached,
}

impl From<FleetError> for StepError {
    fn from(error: FleetError) -> Self {
        match error {
            FleetError::Host(error) => Self::Host(error.into()),
            FleetError::Unreached(_) | FleetError::NotReachedYet | FleetError::Forgotten => Self::Unreached,
        }
    }
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
    /// Its line is too slow: it is set aside, and no other host waits for it.
    SetAside(Failure),
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
        HostError::Program(ProgramError::LocalFile { .. }) => Recovery::Fail(fail(Reason::StoreUnavailable)),
        HostError::Program(ProgramError::TooSlow { .. }) => {
            Recovery::SetAside(Failure::new(Reason::UploadTooSlow, Class::Transient, too_slow(error)))
        }
        HostError::Ssh(_) => Recovery::Disconnected,
        HostError::Program(_) if error.ends_session() => Recovery::Disconnected,
        HostError::DiskFull { .. } => Recovery::Fail(fail(Reason::DiskFull)),
        HostError::DigestMismatch { .. } => Recovery::RetryLimited(fail(Reason::TransferCorrupt)),
        HostError::Unsupported { .. } => Recovery::Fail(fail(Reason::HostUnsupported)),
        HostError::Tampered { why } => {
            Recovery::RetryLimited(host_failed(Reason::ReleaseTampered, &tampered(why), &[]))
        }
        HostError::Lost { .. } | HostError::Program(_) => Recovery::RetryLimited(fail(Reason::HelperFailed)),
        HostError::BadInput { .. } | HostError::Failed { .. } => Recovery::Fail(fail(Reason::HelperFailed)),
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Full, StepName};

    use super::*;

    fn failure(reason: protocol::Reason, why: &str) -> protocol::Failure {
        protocol::Failure {
            step: StepName::Start,
            reason,
            why: why.to_owned(),
            lines: Vec::new(),
            ended: None,
            full: None,
            strangers: Vec::new(),
        }
    }

    #[test]
    fn each_reason_of_a_host_has_words_that_say_what_helps() {
        use protocol::Reason as Of;
        for (of, why, reason, helps) in [
            (Of::ReleaseTampered, "files of v2 were changed on the host: app", Reason::ReleaseTampered, "staged again"),
            (Of::LeftoverSuspected, "processes run: 7 (java)", Reason::LeftoverSuspected, "end them on the host"),
            (Of::ExecFormat, "app: Exec format error", Reason::ExecFormat, "build the version for the machines"),
            (Of::AwaitingSecrets, "the secret value A is not on the host", Reason::AwaitingSecrets, "check the Secret"),
            (Of::ProcessDied, "exited with status 1", Reason::ProcessDied, "shared/log"),
            (Of::StageFailed, "no room", Reason::HelperFailed, "no room"),
        ] {
            let told = task_failed(&failure(of, why));
            assert_eq!(told.reason, reason);
            assert!(told.message.starts_with(why) && told.message.contains(helps), "{}", told.message);
        }
    }

    #[test]
    fn a_full_disk_is_told_in_bytes() {
        let full = Full { path: "/srv".into(), free_bytes: 5, free_inodes: None, needed: 9, quota: false };
        let told = task_failed(&protocol::Failure { full: Some(full), ..failure(protocol::Reason::DiskFull, "full") });
        assert!(told.message.contains("5 bytes free, 9 needed"), "{}", told.message);
    }

    #[test]
    fn a_release_that_was_changed_is_staged_again_a_few_times() {
        let recovery = recovery(&HostError::Tampered { why: "files of v2 were changed on the host: app".into() });
        let Recovery::RetryLimited(failure) = recovery else { panic!("{recovery:?}") };
        assert_eq!(failure.reason, Reason::ReleaseTampered);
    }
}
