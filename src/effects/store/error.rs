//! What can go wrong with the store, and what to do about it.

use super::keys::{BadPart, Key};
use crate::{effects::gate::GateShut, model::Class};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the store's disk is full, so {key} was not written; free some space below the data folder, it goes on by itself"
    )]
    DiskFull { key: String },
    #[error("the store has no {key}; it was never written, or somebody removed it from the data folder")]
    NotFound { key: Key },
    #[error(
        "{key} in the store is damaged: its SHA-256 is {found}; restore that file from a backup or build the version again"
    )]
    Damaged { key: Key, found: String },
    #[error("{key} is larger than {limit} bytes and was not read whole; this is no record of landfall's")]
    TooLarge { key: Key, limit: u64 },
    #[error(transparent)]
    BadKey(#[from] BadPart),
    #[error(transparent)]
    Shut(#[from] GateShut),
    #[error("the store could not {what}: {why}; see that the data folder is there and may be written")]
    Failed { what: String, why: String },
}

impl StoreError {
    pub fn class(&self) -> Class {
        match self {
            Self::DiskFull { .. } | Self::Failed { .. } => Class::Transient,
            Self::Shut(_) => Class::Waiting,
            Self::NotFound { .. } | Self::Damaged { .. } | Self::TooLarge { .. } | Self::BadKey(_) => Class::Terminal,
        }
    }

    pub(super) fn from_io(what: &str, error: &std::io::Error) -> Self {
        if is_full(error) {
            return Self::DiskFull { key: what.to_owned() };
        }
        Self::Failed { what: what.to_owned(), why: error.to_string() }
    }

    pub(super) fn from_backend(key: &Key, what: &str, error: object_store::Error) -> Self {
        if matches!(error, object_store::Error::NotFound { .. }) {
            return Self::NotFound { key: key.clone() };
        }
        if chain(&error).any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(is_full)) {
            return Self::DiskFull { key: key.to_string() };
        }
        let why = chain(&error).map(ToString::to_string).last().unwrap_or_default();
        Self::Failed { what: format!("{what} {key}"), why }
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}
