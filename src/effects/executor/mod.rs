//! Where the scripts of builds run. It must not decide whether to retry, nor read a script's meaning.
//!
//! A plug point: `interface.rs` says what a place to run scripts must do, [`open`] makes the one that is asked for, and each has a folder of
//! its own: `local/` runs them on this machine. The contract that all of them keep is tested in `tests/features/builds/executor/contract.rs`.

mod error;
mod interface;
pub mod local;
mod secrets;
mod types;

use std::sync::Arc;

pub use self::{
    error::ExecutorError,
    interface::{Done, Executor},
    local::{LocalConfig, LocalExecutor},
    secrets::{Secrets, VALUE_MAX},
    types::{AttemptId, BuildStep, Cache, Caches, Exit, ExitReason, Isolation, Limits, StepState},
};

/// Which executor, and how it works.
#[derive(Clone, Debug)]
pub enum ExecutorConfig {
    Local(LocalConfig),
}

/// The executor that the configuration names. One line for each kind.
pub fn open(config: ExecutorConfig) -> Arc<dyn Executor> {
    match config {
        ExecutorConfig::Local(config) => Arc::new(LocalExecutor::new(config)),
    }
}
