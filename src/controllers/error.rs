//! Why a reconcile ended early; all of it is expected to be transient. What needs a person is no error here: it is a status that a planner
//! wrote.

use crate::{
    effects::{
        gate::GateShut,
        store::{StoreError, keys::BadPart},
    },
    model::{Class, Failure},
};

pub use crate::effects::api_server::api_message;

#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error("the object changed under this decision")]
    Outdated,
    #[error("the object is gone")]
    NotFound,
    #[error("the API server: {}", api_message(.0))]
    Api(kube::Error),
    #[error("the status can't be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    GateShut(#[from] GateShut),
    #[error("{message}")]
    Effect { class: Class, message: String },
    /// A fault of landfall itself: a reconcile panicked or did not end.
    #[error("a fault in landfall, please report it: {0}")]
    Internal(String),
}

impl From<kube::Error> for ReconcileError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 409 => ReconcileError::Outdated,
            other => ReconcileError::Api(other),
        }
    }
}

impl From<Failure> for ReconcileError {
    fn from(failure: Failure) -> Self {
        Self::Effect { class: failure.class, message: failure.message }
    }
}

impl From<StoreError> for ReconcileError {
    fn from(error: StoreError) -> Self {
        Self::Effect { class: error.class(), message: error.to_string() }
    }
}

impl From<BadPart> for ReconcileError {
    fn from(error: BadPart) -> Self {
        Self::Effect { class: Class::Terminal, message: error.to_string() }
    }
}
