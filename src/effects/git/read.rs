//! Reading a mirror: branches, commits, what a revision means.

use super::{Branch, GitError, ResolvedCommit, mirror::Mirror};

/// The globs of `source.branches`.
pub(super) struct Patterns {}

impl Patterns {
    pub(super) fn new(_patterns: &[String]) -> Result<Self, GitError> {
        unimplemented!()
    }
}

pub(super) fn branches(_m: &Mirror, _p: &Patterns, _default: Option<&str>) -> Result<Vec<Branch>, GitError> {
    unimplemented!()
}

pub(super) fn resolve(_m: &Mirror, _revision: &str, _p: &Patterns) -> Result<ResolvedCommit, GitError> {
    unimplemented!()
}
