//! What can go wrong with a host, and what to do about it.

use landfall_host_protocol::Refusal;

use super::convert::owner_of;
use crate::{
    effects::{gate::GateShut, program::ProgramError, ssh::SshError},
    model::{Class, ids::Owner},
};

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HostError {
    #[error(transparent)]
    Ssh(#[from] SshError),
    #[error(transparent)]
    Shut(#[from] GateShut),
    /// The program can't be brought there, does not start, or its session ended.
    #[error(transparent)]
    Program(ProgramError),
    #[error("the folder on the host belongs to Deployment {}/{} (host {}); delete that one or choose other hosts", .by.namespace, .by.deployment, .by.host)]
    HostClaimed { by: Box<Owner> },
    #[error("a newer operator has acted on this host; this one may no longer act there")]
    Fenced,
    #[error(
        "another control plane ({epoch}) acted on this host; if this one is to take it over, annotate the Deployment with \
         landfall.dev/adopt={epoch}"
    )]
    FencedByOtherControlPlane { epoch: String },
    #[error("this host has changed since its last check (its journal is at {now}); it is checked again")]
    JournalMoved { now: u64 },
    #[error("a task ({step}) still runs on this host; waiting for it")]
    Busy { step: String },
    #[error("the host's disk is full ({free} bytes free, {needed} needed); free some space below the group's root")]
    DiskFull { free: u64, needed: u64 },
    #[error("{what}")]
    Unsupported { what: String },
    #[error("what arrived on the host is not what was sent (SHA-256 {got}, expected {expected}); it is sent again")]
    DigestMismatch { expected: String, got: String },
    /// A task that the host began and does not know how it ended, or bytes that it does not have any more.
    #[error("the host lost what was under way there: {what}; it is begun again")]
    Lost { what: String },
    /// Nothing is started from a release that somebody changed there.
    #[error("{why}; it is staged again")]
    Tampered { why: String },
    #[error("the host could not do it: {why}")]
    Failed { why: String },
    #[error("{what} can't be used on a host: {why}")]
    BadInput { what: &'static str, why: String },
}

impl From<ProgramError> for HostError {
    fn from(error: ProgramError) -> Self {
        match error {
            ProgramError::Ssh(error) => Self::Ssh(error),
            ProgramError::Gate(shut) => Self::Shut(shut),
            ProgramError::BadInput { what, why } => Self::BadInput { what, why },
            ProgramError::Refused(refusal) => refused(refusal),
            ProgramError::UnsupportedMachine { .. }
            | ProgramError::Lacks { .. }
            | ProgramError::UnsafeRoot { .. }
            | ProgramError::UnfitRoot { .. } => Self::Unsupported { what: error.to_string() },
            other => Self::Program(other),
        }
    }
}

fn refused(refusal: Refusal) -> HostError {
    match refusal {
        Refusal::Fenced => HostError::Fenced,
        Refusal::OtherControlPlane { epoch } => HostError::FencedByOtherControlPlane { epoch },
        Refusal::Claimed { owner } => HostError::HostClaimed { by: Box::new(owner_of(&owner)) },
        Refusal::JournalMoved { now } => HostError::JournalMoved { now },
        Refusal::Busy { step, .. } => HostError::Busy { step },
        Refusal::NotFound { what } => HostError::Lost { what },
        Refusal::Missing { .. } => HostError::Lost { what: "bytes of a release".to_owned() },
        Refusal::DigestMismatch { expected, got } => {
            HostError::DigestMismatch { expected: expected.to_string(), got: got.to_string() }
        }
        Refusal::Full(full) => HostError::DiskFull { free: full.free_bytes, needed: full.needed },
        Refusal::Unsupported { why } => HostError::Unsupported { what: why },
        Refusal::Failed { why } => HostError::Failed { why },
        Refusal::BadInput { field, why } => HostError::Failed { why: format!("{field}: {why}") },
        Refusal::Unknown(later) => HostError::Failed {
            why: format!("its program refuses with `{later}`, which this version of landfall does not know"),
        },
    }
}

impl HostError {
    pub fn class(&self) -> Class {
        match self {
            Self::Ssh(error) => error.class(),
            Self::Program(error) => error.class(),
            Self::Shut(_) | Self::Fenced | Self::JournalMoved { .. } | Self::Busy { .. } => Class::Waiting,
            Self::DiskFull { .. }
            | Self::DigestMismatch { .. }
            | Self::Lost { .. }
            | Self::Tampered { .. }
            | Self::Failed { .. } => Class::Transient,
            Self::HostClaimed { .. }
            | Self::FencedByOtherControlPlane { .. }
            | Self::Unsupported { .. }
            | Self::BadInput { .. } => Class::Terminal,
        }
    }

    /// The session is gone, or nothing that it says can be trusted: the connection has to be made again.
    pub fn ends_session(&self) -> bool {
        match self {
            Self::Ssh(_) => true,
            Self::Program(error) => error.ends_session(),
            _ => false,
        }
    }
}
