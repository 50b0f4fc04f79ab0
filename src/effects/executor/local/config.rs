//! How the local executor works, as the command line says.

use std::path::PathBuf;

use super::super::types::Isolation;

/// How the local executor works.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// Its own folder: `<data>/executor`.
    pub folder: PathBuf,
    /// Kept out of the sandbox' sight: the data folder, kubeconfigs, keys of the control plane.
    pub hidden: Vec<PathBuf>,
    pub isolation: Isolation,
    /// The program that runs a step detached: this program's own path, with the hidden subcommand `build-step`.
    pub runner: PathBuf,
    /// Output beyond this many bytes is cut out of the middle of the log.
    pub max_log_bytes: u64,
}
