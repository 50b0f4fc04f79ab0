//! Where the scripts of builds run. It must not decide whether to retry, nor read a script's meaning.
//!
//! A plug point: `interface.rs` says what a place to run scripts must do, `factory.rs` makes the one that is asked for, and each has a folder
//! of its own: `local/` runs them on this machine. The contract that all of them keep is tested in `tests/features/builds/executor/contract.rs`.

mod error;
mod factory;
mod interface;
pub mod local;
mod secrets;
mod types;

pub use self::{
    error::ExecutorError,
    factory::{ExecutorConfig, open},
    interface::{Done, Executor},
    local::{LocalConfig, LocalExecutor},
    secrets::{Secrets, VALUE_MAX},
    types::{AttemptId, BuildStep, Cache, Caches, Exit, ExitReason, Isolation, Limits, StepState},
};
