//! What can go wrong with an act on a host, and what to do about it.

use crate::{
    effects::{gate::GateShut, ssh::SshError},
    model::{Class, ids::Owner},
};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error(transparent)]
    Ssh(#[from] SshError),
    #[error(transparent)]
    Shut(#[from] GateShut),
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
    #[error("step {step} ({act}) still runs on this host; waiting for it")]
    Busy { act: String, step: String },
    #[error("the host's disk is full ({free} bytes free, {needed} needed); free some space below the group's root")]
    DiskFull { free: u64, needed: u64 },
    #[error("the host lacks {tool}; install it there")]
    Unsupported { tool: String },
    #[error("what arrived on the host is not what was sent (SHA-256 {got}, expected {expected}); it is sent again")]
    DigestMismatch { expected: String, got: String },
    #[error("another process answers on port {port} of the host; stop it, or let the application take another port")]
    PortInUse { port: u16 },
    /// `last_lines`: the last output of the step, cleaned, at most 8 KiB a line.
    #[error("{step} failed on the host: {why}{}", last(.last_lines))]
    StepFailed { step: String, why: String, last_lines: Vec<String> },
    #[error(
        "the host's answer can't be understood ({why}); is its login shell a POSIX shell, and is the file system below the root writable?"
    )]
    Protocol { why: String },
    #[error("{what} can't be used on a host: {why}")]
    BadInput { what: &'static str, why: String },
}

fn last(lines: &[String]) -> String {
    match lines.last() {
        Some(line) => format!("; last output: {line}"),
        None => String::new(),
    }
}

impl HostError {
    pub fn class(&self) -> Class {
        match self {
            Self::Ssh(error) => error.class(),
            Self::Shut(_) | Self::Fenced | Self::JournalMoved { .. } | Self::Busy { .. } => Class::Waiting,
            Self::DiskFull { .. }
            | Self::PortInUse { .. }
            | Self::DigestMismatch { .. }
            | Self::StepFailed { .. }
            | Self::Protocol { .. } => Class::Transient,
            Self::HostClaimed { .. }
            | Self::FencedByOtherControlPlane { .. }
            | Self::Unsupported { .. }
            | Self::BadInput { .. } => Class::Terminal,
        }
    }
}
