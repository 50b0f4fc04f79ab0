//! The local executor: runs a build's script on this machine, detached and out of sight of everything that is not its business.
//! It must not decide whether to retry, nor read the script's meaning.
//!
//! Each attempt has a folder below `<data>/executor/<build uid>/<attempt>/` with `step.json`, `src/` (the checkout), `pid`, `log`,
//! `cancel` and `exit`. A runner process of our own survives the operator, enforces the timeouts and writes `exit`; whoever comes later
//! finds it by pid, start time and boot id. An attempt begins at most once.

mod error;
pub mod log;
mod types;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
};

pub use self::{
    error::ExecutorError,
    types::{AttemptId, BuildStep, ExecutorConfig, Exit, ExitReason, Isolation, StepState},
};
use super::{gate::Gate, store::Store};

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct LocalExecutor {
    config: ExecutorConfig,
}

impl LocalExecutor {
    pub fn new(config: ExecutorConfig) -> Self {
        Self { config }
    }

    /// Whether this machine can isolate scripts; `ExecutorUnsafe` where not. Tried once, then remembered. Always fine when trusted.
    pub async fn check(&self) -> Result<(), ExecutorError> {
        unimplemented!()
    }

    /// Where the checkout of an attempt has to lie before its start (`Git::checkout` writes it).
    pub fn checkout_dir(&self, attempt: &AttemptId) -> PathBuf {
        self.dir(attempt).join("src")
    }

    fn dir(&self, attempt: &AttemptId) -> PathBuf {
        self.config.folder.join(&attempt.uid).join(attempt.attempt.to_string())
    }

    /// Starts an attempt; one that was begun before is left alone, whatever became of it. Effect `build.start`.
    /// Returns when its runner is on record (or it was before).
    pub async fn start(&self, _gate: &Gate, _attempt: &AttemptId, _step: BuildStep) -> Result<(), ExecutorError> {
        unimplemented!()
    }

    /// What is known of an attempt now.
    pub async fn state(&self, _attempt: &AttemptId) -> Result<StepState, ExecutorError> {
        unimplemented!()
    }

    /// Ends an attempt with all its processes; one that ended, or never began, is left alone. Effect `build.cancel`.
    /// Returns when the record is written, or after 15 s: `state` tells.
    pub async fn cancel(&self, _gate: &Gate, _attempt: &AttemptId) -> Result<(), ExecutorError> {
        unimplemented!()
    }

    /// Raw bytes of the log file from `offset`, at most 1 MiB; empty at the end, or where there is none. Show them only through `log::clean`.
    pub async fn log(&self, _attempt: &AttemptId, _offset: u64) -> Result<Vec<u8>, ExecutorError> {
        unimplemented!()
    }

    /// The last `n` lines, cleaned for display.
    pub async fn last_lines(&self, _attempt: &AttemptId, _n: usize) -> Result<Vec<String>, ExecutorError> {
        unimplemented!()
    }

    /// Copies the log into the store as `logs/<uid>/<attempt>/<n>`, pieces of 1 MiB: the whole ones while it runs, the last one when
    /// it has ended. Idempotent. Returns how many pieces are sealed.
    pub async fn seal(&self, _gate: &Gate, _store: &Store, _attempt: &AttemptId) -> Result<u64, ExecutorError> {
        unimplemented!()
    }

    /// Removes the folders of all attempts that don't run and are not in `keep`. Returns those removed.
    pub async fn collect_garbage(&self, _keep: &BTreeSet<AttemptId>) -> Result<Vec<AttemptId>, ExecutorError> {
        unimplemented!()
    }
}

/// What `landfall build-step DIR` does: the runner of one attempt. Hidden from users; not for calling from a runtime.
pub fn run_step(_dir: &Path) -> ExitCode {
    unimplemented!()
}
