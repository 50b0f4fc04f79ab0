//! What git answers, as plain values. All of it comes from outside, and is stripped of control characters.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// 40 lower-case hex digits.
    pub sha: String,
    /// The first line of the message, at most 200 characters.
    pub subject: String,
    /// The author's name, at most 100 characters.
    pub author: String,
    /// The committer's time.
    pub time: Timestamp,
}

/// One branch with its newest commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// Without `refs/heads/`.
    pub name: String,
    /// Its head, 40 hex digits.
    pub head: String,
    /// At most 20, newest first.
    pub commits: Vec<Commit>,
}

/// What a revision meant at the moment when it was resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedCommit {
    pub commit: Commit,
    /// An allowed branch from which the commit is reachable: the one that was named, else one whose head it is, else the default one, else the first by name.
    pub branch: String,
}

/// A commit to check out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckoutRequest {
    /// 40 hex digits.
    pub sha: String,
    /// Folder that the commit must have (relative; `.` is the root). The whole commit is checked out.
    pub path: String,
    /// Take a commit with submodules in that folder; theirs are empty folders.
    pub ignore_submodules: bool,
    /// Take a commit with Git LFS pointers in that folder; they are written as they are.
    pub ignore_lfs: bool,
}

impl CheckoutRequest {
    /// Refuses what refers to content elsewhere.
    pub fn new(sha: impl Into<String>, path: impl Into<String>) -> Self {
        Self { sha: sha.into(), path: path.into(), ignore_submodules: false, ignore_lfs: false }
    }
}

/// An annotated tag to push. The same request makes the same tag object, however often it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRequest {
    /// Without `refs/tags/`.
    pub name: String,
    /// The commit that it names, 40 hex digits.
    pub sha: String,
    /// Its first lines; the Build's uid should be in it.
    pub message: String,
    /// The recorded end of the build: a crash between push and record must not make another tag object.
    pub tagged_at: Timestamp,
}

/// How a push of a tag ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagOutcome {
    Pushed,
    /// The remote has a tag of that name on our commit, whoever made it.
    AlreadyThere,
}

/// Text from outside for a status.
pub(super) use crate::model::text::one_line as clean;
