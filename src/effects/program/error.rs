//! What can go wrong between us and `landfall-host`, and what to do about it. Text that a host chose is cleaned before it gets in here.

use landfall_host_protocol::Refusal;

use crate::{
    effects::{gate::GateShut, ssh::SshError},
    model::Class,
};

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProgramError {
    #[error(transparent)]
    Ssh(#[from] SshError),
    #[error(transparent)]
    Gate(#[from] GateShut),
    #[error("{what} can't be used: {why}")]
    BadInput { what: &'static str, why: String },
    #[error(
        "the group's root can't be used: {why}, so another user could put programs there that run as the SSH user; choose a folder all of \
         whose parents belong to root or the SSH user"
    )]
    UnsafeRoot { why: String },
    #[error("the group's root can't be used: {why}")]
    UnfitRoot { why: String },
    #[error(
        "the landfall-host on the host is older than this operator and does not know {what}; retry once it is replaced there, or deploy another version"
    )]
    Lacks { what: &'static str },
    #[error("the host is a {machine:?}, and landfall has its program for {have} only")]
    UnsupportedMachine { machine: String, have: String },
    #[error(
        "the host runs something else than the command that it was given; look for `ForceCommand` in its sshd_config and for `command=` in \
         the user's authorized_keys{}", said(.0)
    )]
    OtherCommand(String),
    #[error("landfall-host can't be put on the host: {0}")]
    NotInstalled(String),
    #[error("landfall-host does not start on the host{}", said(.0))]
    NotStarted(String),
    #[error("landfall-host on the host speaks no version of the protocol that this landfall speaks: {0}")]
    NoCommonVersion(String),
    #[error("landfall-host on the host broke the protocol: {0}")]
    Protocol(String),
    #[error("landfall-host on the host ended{}", said(.0))]
    Ended(String),
    #[error("landfall-host on the host did not finish {what} within {seconds} s")]
    Deadline { what: &'static str, seconds: u64 },
    #[error("landfall-host on the host did not finish {what} within {seconds} s; it goes on with everything else")]
    TooLate { what: &'static str, seconds: u64 },
    #[error("{what} goes at {rate} bytes a second, {least} are the least")]
    TooSlow { what: &'static str, rate: u64, least: u64 },
    #[error("{name} on this machine can't be read: {why}")]
    LocalFile { name: String, why: String },
    #[error("what the host sent was not read in time")]
    Lagged,
    #[error("the host refuses: {0:?}")]
    Refused(Refusal),
}

fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

impl ProgramError {
    /// What stays so until the host or the group is changed is terminal for this host, never for others.
    pub fn class(&self) -> Class {
        match self {
            Self::Ssh(error) => error.class(),
            Self::Gate(_) => Class::Waiting,
            Self::BadInput { .. }
            | Self::UnsafeRoot { .. }
            | Self::UnfitRoot { .. }
            | Self::UnsupportedMachine { .. }
            | Self::Lacks { .. } => Class::Terminal,
            Self::Refused(refusal) => match refusal {
                Refusal::Fenced | Refusal::JournalMoved { .. } | Refusal::Busy { .. } => Class::Waiting,
                Refusal::Claimed { .. } | Refusal::OtherControlPlane { .. } | Refusal::Unsupported { .. } => {
                    Class::Terminal
                }
                _ => Class::Transient,
            },
            _ => Class::Transient,
        }
    }

    /// The session is gone, or nothing that it says can be trusted: the connection has to be made again.
    pub fn ends_session(&self) -> bool {
        !matches!(
            self,
            Self::Gate(_)
                | Self::BadInput { .. }
                | Self::Lacks { .. }
                | Self::Refused(_)
                | Self::TooLate { .. }
                | Self::TooSlow { .. }
                | Self::LocalFile { .. }
                | Self::Lagged
        )
    }

    pub(super) fn protocol(why: impl Into<String>) -> Self {
        Self::Protocol(why.into())
    }
}
