//! The bare mirror of one repository: made, locked, fetched, pinned. It is a cache but for the pins, so it is never repaired by guessing.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use git2::{
    AutotagOption, ErrorClass, FetchOptions, Oid, Remote as Connection, RemoteCallbacks, RemoteUpdateFlags, Repository,
    RepositoryInitOptions,
};

use super::{GitConfig, error::GitError, url::Remote};

const HEADS: &str = "+refs/heads/*:refs/heads/*";
const TAGS: &str = "+refs/tags/*:refs/tags/*";

/// An open mirror, in the thread that works on it.
pub(super) struct Mirror {
    pub(super) repo: Repository,
    pub(super) url: String,
    stop: Arc<AtomicBool>,
}

impl Mirror {
    /// Whether the caller has given up; long work asks now and then.
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Callbacks that end a transfer when the caller has given up. Credentials and host keys join here.
    pub(super) fn callbacks<'a>(&self) -> RemoteCallbacks<'a> {
        let (during_fetch, during_talk) = (self.stop.clone(), self.stop.clone());
        let mut callbacks = RemoteCallbacks::new();
        callbacks.transfer_progress(move |_| !during_fetch.load(Ordering::Relaxed));
        callbacks.sideband_progress(move |_| !during_talk.load(Ordering::Relaxed));
        callbacks
    }

    /// A connection to the remote, not yet used.
    pub(super) fn remote(&self) -> Result<Connection<'_>, GitError> {
        self.repo.remote_anonymous(&self.url).map_err(self.failed("name its remote"))
    }

    /// The mirror itself failed.
    pub(super) fn failed(&self, what: &'static str) -> impl Fn(git2::Error) -> GitError + use<> {
        let url = self.url.clone();
        move |error| match full(&error) {
            true => GitError::DiskFull,
            false => GitError::Failed { url: url.clone(), what, why: why(&error) },
        }
    }

    /// The remote failed.
    pub(super) fn unreachable(&self) -> impl Fn(git2::Error) -> GitError + use<> {
        let url = self.url.clone();
        move |error| match full(&error) {
            true => GitError::DiskFull,
            false => GitError::Unreachable { url: url.clone(), why: why(&error) },
        }
    }
}

/// What libgit2 says, cleaned: part of it may be the remote's own words.
pub(super) fn why(error: &git2::Error) -> String {
    super::types::clean(error.message().as_bytes(), 300)
}

fn full(error: &git2::Error) -> bool {
    error.class() == ErrorClass::Os && error.message().contains("No space left on device")
}

/// Runs work on a mirror in a thread of its own. After the deadline the caller gets `TimedOut`, and the work ends at its next look.
pub(super) async fn run<T: Send + 'static>(
    config: &GitConfig,
    remote: Remote,
    writes: bool,
    work: impl FnOnce(&Mirror) -> Result<T, GitError> + Send + 'static,
) -> Result<T, GitError> {
    let (folder, url, deadline) = (config.folder.clone(), remote.url.clone(), config.deadline);
    let stop = Arc::new(AtomicBool::new(false));
    let given_up = GivenUp(stop.clone());
    let task = tokio::task::spawn_blocking(move || {
        let (mirror, _lock) = open(&folder, remote, writes, stop)?;
        work(&mirror)
    });
    let done = tokio::time::timeout(deadline, task).await;
    drop(given_up);
    match done {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => Err(GitError::Failed { url, what: "finish its work", why: error.to_string() }),
        Err(_) => Err(GitError::TimedOut { url, seconds: deadline.as_secs() }),
    }
}

/// Tells the thread when the caller is gone, by deadline or because its future was dropped.
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn open(
    folder: &Path,
    remote: Remote,
    writes: bool,
    stop: Arc<AtomicBool>,
) -> Result<(Mirror, Option<File>), GitError> {
    let io = |what: &'static str| {
        let url = remote.url.clone();
        move |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::StorageFull => GitError::DiskFull,
            _ => GitError::Failed { url: url.clone(), what, why: error.to_string() },
        }
    };
    let name = remote.folder_name();
    let path = folder.join(&name);
    let missing = !path.exists();
    let mut lock = None;
    if writes || missing {
        fs::create_dir_all(folder).map_err(io("make its folder"))?;
        lock = Some(take_lock(&folder.join(format!("{name}.lock")), &stop).map_err(io("take its lock"))?);
    }
    if !path.exists() {
        make(folder, &path).map_err(|error| match full(&error) {
            true => GitError::DiskFull,
            false => GitError::Failed { url: remote.url.clone(), what: "be made", why: why(&error) },
        })?;
    }
    if writes {
        sweep_locks(&path).map_err(io("clear what a killed writer left"))?;
    }
    let repo = Repository::open_bare(&path).map_err(|error| GitError::Failed {
        url: remote.url.clone(),
        what: "be opened",
        why: why(&error),
    })?;
    Ok((Mirror { repo, url: remote.url, stop }, lock.filter(|_| writes)))
}

/// Every writer holds our lock, so libgit2's own lock files that lie here now are those of a writer that was killed. They would
/// refuse every fetch from then on.
fn sweep_locks(mirror: &Path) -> std::io::Result<()> {
    let stale = walkdir::WalkDir::new(mirror)
        .into_iter()
        .filter_entry(|entry| entry.file_name() != "objects")
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file() && entry.path().extension().is_some_and(|end| end == "lock"));
    for entry in stale {
        fs::remove_file(entry.path())?;
    }
    Ok(())
}

fn take_lock(path: &Path, stop: &AtomicBool) -> std::io::Result<File> {
    let file = File::options().create(true).append(true).open(path)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if stop.load(Ordering::Relaxed) => {
                return Err(std::io::Error::other("another task holds it for too long"));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Made under another name and renamed, so that a crash leaves no half mirror. No template: there are no hooks.
fn make(folder: &Path, path: &Path) -> Result<(), git2::Error> {
    let making: PathBuf = path.with_extension("making");
    let io = |error: std::io::Error| git2::Error::new(git2::ErrorCode::GenericError, ErrorClass::Os, error.to_string());
    if making.exists() {
        fs::remove_dir_all(&making).map_err(io)?;
    }
    let mut options = RepositoryInitOptions::new();
    options.bare(true).mkpath(true).external_template(false).initial_head("main");
    let repo = Repository::init_opts(&making, &options)?;
    let mut config = repo.config()?;
    // A pin that was answered for must survive a power cut.
    config.set_bool("core.fsyncObjectFiles", true)?;
    config.set_bool("core.logAllRefUpdates", false)?;
    fs::rename(&making, path).map_err(io)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}

/// All heads and tags, pruned before the new tips are written: a branch `a` that became `a/b` would stand in its own way.
pub(super) fn fetch(mirror: &Mirror) -> Result<(), GitError> {
    let failed = mirror.unreachable();
    let mut remote = mirror.remote()?;
    let mut options = FetchOptions::new();
    options.remote_callbacks(mirror.callbacks()).download_tags(AutotagOption::None).update_fetchhead(false);
    remote.download(&[HEADS, TAGS], Some(&mut options)).map_err(&failed)?;
    let head = remote.default_branch().ok().and_then(|head| head.as_str().ok().map(str::to_owned));
    remote.prune(None).map_err(&failed)?;
    remote
        .update_tips(None, RemoteUpdateFlags::empty(), AutotagOption::None, Some("fetch"))
        .map_err(mirror.failed("take over the fetched branches"))?;
    if let Some(head) = head {
        mirror.repo.set_head(&head).map_err(mirror.failed("note the default branch"))?;
    }
    remote.disconnect().map_err(&failed)
}

/// The ref is forced: the same Build resolves once, so another commit under its uid can't be wanted any more.
pub(super) fn pin(mirror: &Mirror, sha: &str, uid: &str) -> Result<(), GitError> {
    let name = format!("refs/landfall/{uid}");
    if uid.contains('/') || !git2::Reference::is_valid_name(&name) {
        return Err(GitError::BadTagName { name: uid.to_owned(), why: "it is no uid" });
    }
    let commit = commit(mirror, sha)?;
    mirror.repo.reference(&name, commit.id(), true, "pinned").map(|_| ()).map_err(mirror.failed("pin a commit"))
}

/// A commit by its full id, if the mirror has it.
pub(super) fn commit<'a>(mirror: &'a Mirror, sha: &str) -> Result<git2::Commit<'a>, GitError> {
    let gone = || GitError::CommitGone { sha: super::types::clean(sha.as_bytes(), 64) };
    let id = full_id(sha).ok_or_else(gone)?;
    mirror.repo.find_commit(id).map_err(|_| gone())
}

/// Exactly 40 hex digits; libgit2 would take an abbreviation for an id padded with zeros.
pub(super) fn full_id(text: &str) -> Option<Oid> {
    let hex = text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| Oid::from_str(text).ok()).flatten()
}
