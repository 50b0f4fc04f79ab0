//! Git repositories: a bare mirror of each in the data folder, and the one thing we write to them, a tag. It must not decide what is built.
//!
//! libgit2 blocks, so each call runs in a thread of its own with a deadline. No hook, filter, submodule or credential helper ever
//! runs. User text never reaches revparse: revisions are full ref names or 40 hex digits.

mod checkout;
mod error;
mod mirror;
mod read;
mod tag;
mod types;
mod url;

use std::{path::PathBuf, time::Duration};

pub use self::{
    error::GitError,
    types::{Branch, Commit, ResolvedCommit, TagOutcome, TagRequest},
};
use self::{mirror::Mirror, url::Remote};
use super::gate::{Effect, Gate};

/// How git is reached. Credentials and transports join here.
#[derive(Clone, Debug)]
pub struct GitConfig {
    /// Where the mirrors lie: `<data>/git`.
    pub folder: PathBuf,
    /// Whether `file://` is taken (`--allow-file-git`).
    pub allow_file: bool,
    /// For one call, the wait for the mirror's lock included.
    pub deadline: Duration,
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Git {
    config: GitConfig,
}

impl Git {
    pub fn new(config: GitConfig) -> Self {
        Self { config }
    }

    /// Brings the mirror up to date: all heads and tags, pruned. Effect `git.fetch`.
    pub async fn fetch(&self, gate: &Gate, url: &str) -> Result<(), GitError> {
        let remote = Remote::parse(url, self.config.allow_file)?;
        gate.pass(Effect::new("git.fetch", url), self.run(remote, true, mirror::fetch)).await
    }

    /// The mirror's branches that match a pattern (none: all), with their newest 20 commits each; `default_branch` (else the remote's
    /// HEAD) first, then the newest, at most 20.
    pub async fn branches(
        &self,
        url: &str,
        patterns: &[String],
        default_branch: Option<&str>,
    ) -> Result<Vec<Branch>, GitError> {
        let remote = Remote::parse(url, self.config.allow_file)?;
        let (patterns, default) = (read::Patterns::new(patterns)?, default_branch.map(str::to_owned));
        self.run(remote, false, move |mirror| read::branches(mirror, &patterns, default.as_deref())).await
    }

    /// What a branch, tag or full commit id means in the mirror now. The commit must be reachable from a branch that matches a pattern.
    pub async fn resolve(&self, url: &str, revision: &str, patterns: &[String]) -> Result<ResolvedCommit, GitError> {
        let remote = Remote::parse(url, self.config.allow_file)?;
        let (patterns, revision) = (read::Patterns::new(patterns)?, revision.to_owned());
        self.run(remote, false, move |mirror| read::resolve(mirror, &revision, &patterns)).await
    }

    /// Keeps a commit in the mirror under `refs/landfall/<build uid>`, so that a later force-push does not lose it. Idempotent.
    pub async fn pin(&self, url: &str, sha: &str, build_uid: &str) -> Result<(), GitError> {
        let remote = Remote::parse(url, self.config.allow_file)?;
        let (sha, uid) = (sha.to_owned(), build_uid.to_owned());
        self.run(remote, true, move |mirror| mirror::pin(mirror, &sha, &uid)).await
    }

    /// Writes exactly that commit's files into `dest`, without `.git`. What stood at `dest` is replaced; a crash leaves no half checkout
    /// under that name. Refused where an entry leads out of the tree.
    pub async fn checkout(&self, url: &str, sha: &str, dest: &std::path::Path) -> Result<(), GitError> {
        let remote = Remote::parse(url, self.config.allow_file)?;
        let (sha, dest) = (sha.to_owned(), dest.to_owned());
        self.run(remote, false, move |mirror| checkout::checkout(mirror, &sha, &dest)).await
    }

    /// The commit that a tag names at the remote now (asked, not taken from the mirror); `None` where there is no such tag.
    pub async fn tag_target(&self, url: &str, tag: &str) -> Result<Option<String>, GitError> {
        let remote = Remote::parse(url, self.config.allow_file)?;
        let name = tag::check_name(tag)?;
        self.run(remote, false, move |mirror| tag::target(mirror, &name)).await
    }

    /// Pushes an annotated tag. An existing one is never moved: on our commit it is a success, on another a `TagConflict`. Effect `git.tag`.
    pub async fn push_tag(&self, gate: &Gate, url: &str, tag: TagRequest) -> Result<TagOutcome, GitError> {
        let remote = Remote::parse(url, self.config.allow_file)?;
        tag::check_name(&tag.name)?;
        let effect = Effect::new("git.tag", tag.name.clone());
        gate.pass(effect, self.run(remote, true, move |mirror| tag::push(mirror, &tag))).await
    }

    /// Runs blocking work on a mirror, under its lock where it writes.
    async fn run<T: Send + 'static>(
        &self,
        remote: Remote,
        writes: bool,
        work: impl FnOnce(&Mirror) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        mirror::run(&self.config, remote, writes, work).await
    }
}
