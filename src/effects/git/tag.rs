//! The one thing we write to a repository.

use super::{GitError, TagOutcome, TagRequest, mirror::Mirror};

pub(super) fn check_name(_name: &str) -> Result<String, GitError> {
    unimplemented!()
}

pub(super) fn target(_m: &Mirror, _name: &str) -> Result<Option<String>, GitError> {
    unimplemented!()
}

pub(super) fn push(_m: &Mirror, _tag: &TagRequest) -> Result<TagOutcome, GitError> {
    unimplemented!()
}
