//! A build step and what is known of it. Plain values; they also are the files of its folder.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use crate::model::exit::ExitReason;

/// One attempt of one Build.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AttemptId {
    /// The Build's uid.
    pub uid: String,
    /// From 1.
    pub attempt: i64,
}

impl AttemptId {
    pub fn new(uid: impl Into<String>, attempt: i64) -> Self {
        Self { uid: uid.into(), attempt }
    }
}

impl std::fmt::Display for AttemptId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.uid, self.attempt)
    }
}

/// What to run. The checkout must lie at `Executor::checkout_dir` by then.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildStep {
    /// Run with `/bin/sh -e`, or by itself where it begins with `#!`.
    pub script: String,
    /// Added to what every build sees (`CI`, `PATH`, `HOME`, `LANG`); a later name wins. Names are `[A-Za-z_][A-Za-z0-9_]*`.
    pub env: Vec<(String, String)>,
    /// Where the script begins, relative to the checkout and within it; empty or `.`: its root.
    #[serde(default)]
    pub folder: String,
    /// For the whole script.
    pub timeout: Duration,
    /// Time without a byte of output after which it counts as hung.
    pub idle_timeout: Duration,
    /// Folders that it finds as the last one left them.
    #[serde(default)]
    pub caches: Option<Caches>,
    #[serde(default)]
    pub limits: Limits,
}

/// The caches of one project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caches {
    pub namespace: String,
    /// The Project's uid.
    pub project: String,
    pub folders: Vec<Cache>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    pub name: String,
    /// `~/…` in the script's home, or relative to the checkout; no `..`.
    pub path: String,
    /// Beyond this it is thrown away.
    pub max_bytes: u64,
}

impl std::fmt::Debug for BuildStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("BuildStep").field("script", &self.script.len()).field("env", &names).finish_non_exhaustive()
    }
}

/// How a step ended, from its `exit` record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub reason: ExitReason,
    /// The script's exit code; 128 + n where signal n ended it. `None` where it was killed or never began.
    pub code: Option<i32>,
    pub message: Option<String>,
    pub started_at: Timestamp,
    pub at: Timestamp,
    /// Bytes in the log file.
    pub log_bytes: u64,
    /// Bytes of output that were cut out of its middle.
    pub log_cut: u64,
}

impl Exit {
    pub fn succeeded(&self) -> bool {
        self.reason == ExitReason::Completed && self.code == Some(0)
    }
}

/// What is known of an attempt now. Never guessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepState {
    /// Never begun: starting it is safe.
    Absent,
    Running {
        since: Timestamp,
        last_output_at: Timestamp,
        log_bytes: u64,
    },
    Exited(Exit),
    /// It began, its runner is dead and left no record (a reboot, a kill). None of its processes lives on in a sandbox.
    Lost {
        since: Timestamp,
    },
}

/// How much of a sandbox a script gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// A uid, pid and mount namespace of its own, without capabilities; refused (`ExecutorUnsafe`) where that can't be had.
    Sandboxed,
    /// The operator's own user and files: only where everybody who edits a Project is trusted with them.
    Trusted,
}

/// What a script may take of the machine; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Thousandths of a processor.
    pub cpu: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    pub pids: Option<u64>,
}
