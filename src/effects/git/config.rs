//! How git is reached, and the most that is taken of a repository.

use std::{path::PathBuf, time::Duration};

/// How git is reached.
#[derive(Clone, Debug)]
pub struct GitConfig {
    /// Where the mirrors lie: `<data>/git`.
    pub folder: PathBuf,
    /// Whether `file://` is taken (`--allow-file-git`).
    pub allow_file: bool,
    /// Whether this machine's own loopback and link-local addresses may be dialled (`--allow-local-git`).
    pub allow_local: bool,
    /// For one call, the wait for its turn and for the mirror's lock included.
    pub deadline: Duration,
    /// The same for a fetch, which may bring a whole history.
    pub fetch_deadline: Duration,
    /// Time without a byte after which a server counts as gone.
    pub silence: Duration,
    pub limits: Limits,
}

impl GitConfig {
    /// Without `file://` and local addresses, and with the usual deadlines and limits.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            allow_file: false,
            allow_local: false,
            deadline: Duration::from_secs(120),
            fetch_deadline: Duration::from_secs(1800),
            silence: Duration::from_secs(60),
            limits: Limits::default(),
        }
    }
}

/// Limits on what is taken of a repository; source code stays far below them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of one fetch.
    pub fetch_bytes: u64,
    /// Of one fetch.
    pub objects: u64,
    /// Files, folders and links of one checkout.
    pub entries: u64,
    /// Of all files of one checkout.
    pub checkout_bytes: u64,
    /// Of one file; libgit2 holds it in memory.
    pub file_bytes: u64,
}

/// Of one file, and so of any object: a process has one limit for what libgit2 makes in memory.
pub(super) const LARGEST_OBJECT: usize = 512 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            fetch_bytes: 20 << 30,
            objects: 50_000_000,
            entries: 1_000_000,
            checkout_bytes: 20 << 30,
            file_bytes: LARGEST_OBJECT as u64,
        }
    }
}
