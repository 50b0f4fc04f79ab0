//! Git repositories: a bare mirror of each in the data folder, and the one thing we write to them, a tag. It must not decide what is built.
//!
//! libgit2 blocks, so each call runs in a thread of its own with a deadline. No hook, filter, submodule or credential helper ever
//! runs. User text never reaches revparse: revisions are full ref names or 40 hex digits.

mod access;
mod checkout;
mod commits;
mod config;
mod error;
mod fetch;
mod folder;
mod job;
pub mod kept_refs;
mod metadata;
mod mirror;
mod mirrors;
mod reach;
mod read;
mod repo_locks;
mod session;
mod shallow_fetch;
mod tag;
mod tls;
mod transport;
mod types;
mod url;

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

pub use self::{
    access::{Access, KEYS, Source, host_of, mirror_of},
    commits::{CommitList, CommitsQuery},
    config::{GitConfig, Limits},
    error::GitError,
    transport::register as register_transports,
    types::{Branch, CheckoutRequest, Commit, ResolvedCommit, TagOutcome, TagRequest},
};
use self::{
    job::{Job, READS, WRITES},
    mirror::Mirror,
    repo_locks::RepoLocks,
    url::Remote,
};
use super::gate::{Effect, Gate};
use crate::model::mirror::Mirror as KnownMirror;

/// Cheap to clone; all clones share one set of locks, so a process needs no second one.
#[derive(Clone, Debug)]
pub struct Git {
    config: GitConfig,
    locks: RepoLocks,
}

impl Git {
    pub fn new(config: GitConfig) -> Self {
        transport::register();
        Self { config, locks: RepoLocks::default() }
    }

    /// Brings the mirror up to date: all heads and tags, pruned. Effect `git.fetch`.
    pub async fn fetch(&self, gate: &Gate, source: &Source) -> Result<(), GitError> {
        self.check(source)?;
        let job = Job { writes: true, long: true, talks: true };
        gate.pass(Effect::new("git.fetch", &source.url), self.run(source, job, fetch::fetch)).await
    }

    /// The mirror's branches that match a pattern (none: all), with their newest 20 commits each; `default_branch` (else the remote's
    /// HEAD) first, then the newest, at most 20.
    pub async fn branches(
        &self,
        source: &Source,
        patterns: &[String],
        default_branch: Option<&str>,
    ) -> Result<Vec<Branch>, GitError> {
        let (patterns, default) = (read::Patterns::new(patterns)?, default_branch.map(str::to_owned));
        self.run(source, READS, move |mirror| read::branches(mirror, &patterns, default.as_deref())).await
    }

    /// One page of a branch that matches a pattern, as the mirror has it: nothing is fetched. `None` where it has nothing yet, or nothing
    /// that this reader has fetched.
    pub async fn commits(
        &self,
        source: &Source,
        patterns: &[String],
        query: CommitsQuery,
    ) -> Result<Option<CommitList>, GitError> {
        let patterns = read::Patterns::new(patterns)?;
        let mirror = self.config.folder.join(access::mirror_of(&source.namespace, &source.url)?);
        if !source.reader.as_deref().is_some_and(|reader| metadata::was_read_by(&mirror, reader)) {
            return Ok(None);
        }
        self.run(source, READS, move |mirror| commits::commits(mirror, &patterns, &query)).await
    }

    /// Name and head of every branch in the mirror that matches both a pattern and a wanted one, the longest untouched first.
    pub async fn heads(
        &self,
        source: &Source,
        patterns: &[String],
        wanted: &[String],
    ) -> Result<Vec<(String, String)>, GitError> {
        let (patterns, wanted) = (read::Patterns::new(patterns)?, read::Patterns::new(wanted)?);
        self.run(source, READS, move |mirror| read::heads_of(mirror, &patterns, &wanted)).await
    }

    /// Names of all tags in the mirror.
    pub async fn tags(&self, source: &Source) -> Result<Vec<String>, GitError> {
        self.run(source, READS, read::tags).await
    }

    /// What a branch, tag or commit id (full, or at least 7 digits where unique) means in the mirror now. The commit must be reachable from a branch that matches a pattern.
    pub async fn resolve(
        &self,
        source: &Source,
        revision: &str,
        patterns: &[String],
    ) -> Result<ResolvedCommit, GitError> {
        let (patterns, revision) = (read::Patterns::new(patterns)?, revision.to_owned());
        self.run(source, READS, move |mirror| read::resolve(mirror, &revision, &patterns)).await
    }

    /// Sees that a commit has this folder (relative; `.` is the root), and that no link stands in its place.
    pub async fn folder(&self, source: &Source, sha: &str, path: &str) -> Result<(), GitError> {
        let (sha, path) = (sha.to_owned(), path.to_owned());
        self.run(source, READS, move |mirror| folder::check(mirror, &sha, &path)).await
    }

    /// Keeps a commit in the mirror under `refs/landfall/<name>` (see [`kept_refs::name`]), so that a later force-push does not lose it.
    /// Idempotent.
    pub async fn pin(&self, source: &Source, sha: &str, name: &str) -> Result<(), GitError> {
        let (sha, uid) = (sha.to_owned(), name.to_owned());
        self.run(source, WRITES, move |mirror| kept_refs::add(mirror, &sha, &uid)).await
    }

    /// All mirrors with their pins, whoever's they are, and what a crash left of some.
    pub async fn mirrors(&self) -> Result<Vec<KnownMirror>, GitError> {
        let folder = self.config.folder.clone();
        self.blocking(move |_| Ok(mirrors::all(&folder))).await
    }

    /// Deletes a mirror. False: it has changed since it was listed, and stays. Idempotent. Effect `mirror.delete`.
    pub(crate) async fn delete_mirror(&self, gate: &Gate, seen: KnownMirror) -> Result<bool, GitError> {
        let (effect, path) = (Effect::new("mirror.delete", seen.name.clone()), self.config.folder.join(&seen.name));
        let lock = path.with_extension("git");
        gate.pass(effect, self.exclusive(lock, move |_, stop| mirrors::remove(&path, &seen, stop))).await
    }

    /// Deletes the pin of a commit. Idempotent. Effect `pin.delete`.
    pub(crate) async fn delete_pin(&self, gate: &Gate, name: &str) -> Result<(), GitError> {
        let deletion = async {
            let (folder, pin) = (self.config.folder.clone(), name.to_owned());
            for mirror in self.blocking(move |_| Ok(mirrors::with_pin(&folder, &pin))).await? {
                let pin = name.to_owned();
                self.exclusive(mirror, move |mirror, stop| kept_refs::remove(mirror, &pin, stop)).await?;
            }
            Ok(())
        };
        gate.pass(Effect::new("pin.delete", name), deletion).await
    }

    /// Writes exactly that commit's files into `dest`, without `.git`. What stood at `dest` is replaced; a crash leaves no half checkout
    /// under that name. Refused where an entry leads out of the tree, where the commit has no folder `path`, or where content of that folder
    /// lies elsewhere (submodules, LFS) and the request does not take that.
    pub async fn checkout(&self, source: &Source, request: &CheckoutRequest, dest: &Path) -> Result<(), GitError> {
        let (request, dest) = (request.clone(), dest.to_owned());
        let job = Job { long: true, ..READS };
        self.run(source, job, move |mirror| {
            folder::check(mirror, &request.sha, &request.path)?;
            checkout::checkout(mirror, &request, &dest)
        })
        .await
    }

    /// The same without the mirror: the remote is asked for this one commit, without its history. Not every server gives it, and `file://`
    /// never does. Effect `git.fetch`.
    pub async fn checkout_one(
        &self,
        gate: &Gate,
        source: &Source,
        request: &CheckoutRequest,
        dest: &Path,
    ) -> Result<(), GitError> {
        let failed = |error: std::io::Error| GitError::Failed {
            url: source.url.clone(),
            what: "make a folder for one commit",
            why: error.to_string(),
        };
        std::fs::create_dir_all(&self.config.folder).map_err(failed)?;
        let folder = tempfile::Builder::new().prefix(mirrors::ONE).tempdir_in(&self.config.folder).map_err(failed)?;
        let config = GitConfig { folder: folder.path().to_owned(), ..self.config.clone() };
        let (request, dest) = (request.clone(), dest.to_owned());
        let job = Job { writes: true, long: true, talks: true };
        let work = mirror::run(&config, &self.locks, source, job, move |mirror| {
            shallow_fetch::fetch(mirror, &request.sha)?;
            folder::check(mirror, &request.sha, &request.path)?;
            checkout::checkout(mirror, &request, &dest)
        });
        gate.pass(Effect::new("git.fetch", &source.url), work).await
    }

    /// The commit that a tag names at the remote now (asked, not taken from the mirror); `None` where there is no such tag.
    pub async fn tag_target(&self, source: &Source, tag: &str) -> Result<Option<String>, GitError> {
        let name = tag::check_name(tag)?;
        self.run(source, Job { talks: true, ..READS }, move |mirror| tag::target(mirror, &name)).await
    }

    /// Pushes an annotated tag. An existing one is never moved: on our commit it is a success, on another a `TagConflict`. Effect `git.tag`.
    pub async fn push_tag(&self, gate: &Gate, source: &Source, tag: TagRequest) -> Result<TagOutcome, GitError> {
        self.check(source)?;
        tag::check_name(&tag.name)?;
        let (effect, job) = (Effect::new("git.tag", tag.name.clone()), Job { talks: true, ..WRITES });
        gate.pass(effect, self.run(source, job, move |mirror| tag::push(mirror, &tag))).await
    }

    /// Refuses a bad URL before the gate is passed.
    fn check(&self, source: &Source) -> Result<(), GitError> {
        Remote::parse(&source.url, self.config.allow_file).map(|_| ())
    }

    /// Runs blocking work on one existing mirror of any namespace, with no other task of this process on it.
    async fn exclusive<T: Send + 'static>(
        &self,
        mirror: PathBuf,
        work: impl FnOnce(&Path, &CancellationToken) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        let (url, deadline) = (mirror.display().to_string(), self.config.deadline);
        let lock = tokio::time::timeout(deadline, self.locks.exclusive(&mirror)).await;
        let lock = lock.map_err(|_| GitError::TimedOut { url, seconds: deadline.as_secs() })?;
        self.blocking(move |stop| {
            let _lock = lock;
            work(&mirror, stop)
        })
        .await
    }

    /// Runs blocking work without a lock; `stop` tells it when nobody waits for it any more.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&CancellationToken) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        let (url, deadline) = (self.config.folder.display().to_string(), self.config.deadline);
        let stop = CancellationToken::new();
        let _given_up = stop.clone().drop_guard();
        match tokio::time::timeout(deadline, tokio::task::spawn_blocking(move || work(&stop))).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => Err(GitError::Failed { url, what: "finish its work", why: error.to_string() }),
            Err(_) => Err(GitError::TimedOut { url, seconds: deadline.as_secs() }),
        }
    }

    /// Runs blocking work on a mirror, under its lock where it writes.
    async fn run<T: Send + 'static>(
        &self,
        source: &Source,
        job: Job,
        work: impl FnOnce(&Mirror) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        mirror::run(&self.config, &self.locks, source, job, work).await
    }
}
