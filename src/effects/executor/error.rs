//! What can go wrong with the local executor, and what to do about it.

use super::types::AttemptId;
use crate::{
    effects::{gate::GateShut, logs::LogError, store::StoreError},
    model::Class,
};

#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    #[error(
        "the local executor can't isolate a script on this machine ({missing}), so it runs none; run the operator as root with \
         CAP_SYS_ADMIN and util-linux, or start it with --local-executor=trusted where everybody who edits a Project is trusted with \
         this whole machine"
    )]
    ExecutorUnsafe { missing: String },
    #[error("{name:?} can't be an environment variable of a build: {why}")]
    BadEnv { name: String, why: &'static str },
    #[error("the cache {name} can't be at {path:?}: {why}; give it another path in build.caches of the project")]
    CacheRefused { name: String, path: String, why: String },
    #[error("attempt {attempt} has no checkout at {path}; check the commit out there before the start")]
    NoCheckout { attempt: AttemptId, path: String },
    #[error("the data folder's disk is full; free some space, it goes on by itself")]
    DiskFull,
    #[error("could not {what}: {why}")]
    Failed { what: String, why: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Shut(#[from] GateShut),
}

impl From<LogError> for ExecutorError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::File(error) => Self::io("read a build's log", &error),
            LogError::Store(error) => error.into(),
        }
    }
}

impl ExecutorError {
    pub fn class(&self) -> Class {
        match self {
            Self::DiskFull | Self::Failed { .. } | Self::NoCheckout { .. } => Class::Transient,
            Self::Shut(_) => Class::Waiting,
            Self::Store(error) => error.class(),
            Self::ExecutorUnsafe { .. } | Self::BadEnv { .. } | Self::CacheRefused { .. } => Class::Terminal,
        }
    }

    pub(super) fn io(what: impl Into<String>, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Failed { what: what.into(), why: error.to_string() },
        }
    }
}
