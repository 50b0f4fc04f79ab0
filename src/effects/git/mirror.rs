//! The bare mirror of one repository: opened, locked, fetched, pinned.

use super::{GitConfig, error::GitError, url::Remote};

/// An open mirror.
pub(super) struct Mirror {}

pub(super) async fn run<T: Send + 'static>(
    _config: &GitConfig,
    _remote: Remote,
    _writes: bool,
    _work: impl FnOnce(&Mirror) -> Result<T, GitError> + Send + 'static,
) -> Result<T, GitError> {
    unimplemented!()
}

pub(super) fn fetch(_mirror: &Mirror) -> Result<(), GitError> {
    unimplemented!()
}

pub(super) fn pin(_mirror: &Mirror, _sha: &str, _uid: &str) -> Result<(), GitError> {
    unimplemented!()
}
