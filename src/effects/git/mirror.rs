//! The bare mirror of one repository: made, locked, opened. It is a cache but for the pins, so it is never repaired by guessing.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use git2::{ErrorClass, Oid, Remote as Connection, RemoteCallbacks, Repository, RepositoryInitOptions};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    access::Source,
    config::{GitConfig, LARGEST_OBJECT, Limits},
    error::GitError,
    job::Job,
    repo_locks::RepoLocks,
    session::RemoteSession,
    transport,
    url::Remote,
};

/// An open mirror, in the thread that works on it.
pub(super) struct Mirror {
    pub(super) repo: Repository,
    pub(super) url: String,
    pub(super) source: Source,
    pub(super) limits: Limits,
    session: RemoteSession,
}

impl Mirror {
    /// Whether the caller has given up; long work asks now and then.
    pub(super) fn stopped(&self) -> bool {
        self.session.stop.is_cancelled()
    }

    pub(super) fn stop(&self) -> CancellationToken {
        self.session.stop.clone()
    }

    /// Callbacks that end a transfer when the caller has given up, or when more comes than is taken.
    pub(super) fn callbacks<'a>(&self) -> RemoteCallbacks<'a> {
        let (during_fetch, during_sideband, limits, url) =
            (self.session.clone(), self.session.stop.clone(), self.limits, self.url.clone());
        let mut callbacks = RemoteCallbacks::new();
        callbacks.transfer_progress(move |progress| {
            let (bytes, objects) = (progress.received_bytes() as u64, progress.total_objects() as u64);
            let why = match (bytes > limits.fetch_bytes, objects > limits.objects) {
                (true, _) => format!("one fetch has more than {} MiB", limits.fetch_bytes >> 20),
                (_, true) => format!("one fetch has {objects} objects, and {} are taken at most", limits.objects),
                _ => return !during_fetch.stop.is_cancelled(),
            };
            during_fetch.record_failure(GitError::TooLarge { url: url.clone(), why });
            false
        });
        callbacks.sideband_progress(move |_| !during_sideband.is_cancelled());
        callbacks
    }

    /// A connection to the remote, not yet used.
    pub(super) fn remote(&self) -> Result<Connection<'_>, GitError> {
        self.session.clear_failure();
        self.repo.remote_anonymous(&self.url).map_err(self.failed("name its remote"))
    }

    /// The mirror itself failed.
    pub(super) fn failed(&self, what: &'static str) -> impl Fn(git2::Error) -> GitError + use<> {
        let url = self.url.clone();
        move |error| match no_room(&error, &url) {
            Some(no_room) => no_room,
            None => GitError::Failed { url: url.clone(), what, why: why(&error) },
        }
    }

    /// The remote failed. Our transport knows better than libgit2 what happened.
    pub(super) fn unreachable(&self) -> impl Fn(git2::Error) -> GitError + use<> {
        let (url, session) = (self.url.clone(), self.session.clone());
        move |error| match (no_room(&error, &url), session.take_failure()) {
            (Some(no_room), _) => no_room,
            (None, Some(failure)) => failure,
            (None, None) => GitError::Unreachable { url: url.clone(), why: why(&error) },
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

/// Neither the disk nor memory takes it.
fn no_room(error: &git2::Error, url: &str) -> Option<GitError> {
    let url = || url.to_owned();
    if full(error) {
        return Some(GitError::DiskFull);
    }
    let memory = error.class() == ErrorClass::NoMemory;
    // libgit2 has no code for it.
    if (memory && transport::was_too_large()) || error.message().contains("overly large object") {
        let why = format!("it has an object of more than {} MiB", LARGEST_OBJECT >> 20);
        return Some(GitError::TooLarge { url: url(), why });
    }
    let why = "all of git had the memory that it may have; it is tried again".to_owned();
    memory.then(|| GitError::Failed { url: url(), what: "get more memory", why })
}

/// Runs work on a mirror in a thread of its own, when it is its turn. After the deadline, which counts from now, the caller gets `TimedOut`,
/// and the work ends at its next check.
pub(super) async fn run<T: Send + 'static>(
    config: &GitConfig,
    locks: &RepoLocks,
    source: &Source,
    job: Job,
    work: impl FnOnce(&Mirror) -> Result<T, GitError> + Send + 'static,
) -> Result<T, GitError> {
    let remote = Remote::parse(&source.url, config.allow_file)?;
    let (url, stop) = (remote.url.clone(), CancellationToken::new());
    let (folder, name, limits) = (config.folder.clone(), remote.folder_name(&source.namespace), config.limits);
    let source = source.clone();
    let session = RemoteSession::new(
        remote,
        Arc::new(source.access.clone()),
        config.silence,
        stop.clone(),
        tokio::runtime::Handle::current(),
    )
    .allow_local(config.allow_local);
    let cancel_on_drop = CancelOnDrop(stop.drop_guard());
    let task = async {
        let path = folder.join(&name);
        let alone = job.writes || !path.exists();
        let lock = locks.take(&path, &source.namespace, job, alone).await;
        let work = move || {
            let _lock = lock;
            let _current = session.enter();
            let (mirror, _file_lock) = open(&folder, &name, job.writes, source, limits, session)?;
            work(&mirror)
        };
        tokio::task::spawn_blocking(work).await
    };
    let deadline = if job.long { config.fetch_deadline } else { config.deadline };
    let done = tokio::time::timeout(deadline, task).await;
    drop(cancel_on_drop);
    match done {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => Err(GitError::Failed { url, what: "finish its work", why: error.to_string() }),
        Err(_) => Err(GitError::TimedOut { url, seconds: deadline.as_secs() }),
    }
}

/// Tells the thread when the caller is gone, by deadline or because its future was dropped.
struct CancelOnDrop(#[allow(dead_code)] DropGuard);

fn open(
    folder: &Path,
    name: &str,
    writes: bool,
    source: Source,
    limits: Limits,
    session: RemoteSession,
) -> Result<(Mirror, Option<File>), GitError> {
    let remote = session.url();
    let io = |what: &'static str| {
        let url = remote.clone();
        move |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::StorageFull => GitError::DiskFull,
            _ => GitError::Failed { url: url.clone(), what, why: error.to_string() },
        }
    };
    let path = folder.join(name);
    let missing = !path.exists();
    let mut lock = None;
    if writes || missing {
        fs::create_dir_all(folder).map_err(io("make its folder"))?;
        lock = Some(take_lock(&folder.join(format!("{name}.lock")), &session.stop).map_err(io("take its lock"))?);
    }
    if !path.exists() {
        make(folder, &path).map_err(|error| match full(&error) {
            true => GitError::DiskFull,
            false => GitError::Failed { url: remote.clone(), what: "be made", why: why(&error) },
        })?;
    }
    if writes {
        delete_stale_locks(&path).map_err(io("clear what a killed writer left"))?;
    }
    let repo = Repository::open_bare(&path).map_err(|error| GitError::Failed {
        url: remote.clone(),
        what: "be opened",
        why: why(&error),
    })?;
    Ok((Mirror { repo, url: remote, source, limits, session }, lock.filter(|_| writes)))
}

/// Every writer holds our lock, so libgit2's own lock files that lie here now are those of a writer that was killed. They would
/// refuse every fetch from then on.
fn delete_stale_locks(mirror: &Path) -> std::io::Result<()> {
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

/// Waits for the lock of a mirror's writers. Whoever asks is this process' only one to wait for it, by [`RepoLocks`].
pub(super) fn lock(mirror: &Path, stop: &CancellationToken) -> std::io::Result<File> {
    let name = mirror.file_name().unwrap_or_default().to_string_lossy();
    take_lock(&mirror.with_file_name(format!("{name}.lock")), stop)
}

/// Waits where another process holds it, for example an operator that is just ending.
fn take_lock(path: &Path, stop: &CancellationToken) -> std::io::Result<File> {
    let file = File::options().create(true).append(true).open(path)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if stop.is_cancelled() => {
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use sha1::{Digest, Sha1};

    use super::*;

    const BASE: usize = 0x10000;

    /// As zlib has it, not compressed.
    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![0x78, 0x01];
        let blocks = bytes.chunks(0xffff).collect::<Vec<_>>();
        for (n, block) in blocks.iter().enumerate() {
            let size = u16::try_from(block.len()).unwrap();
            out.push(u8::from(n + 1 == blocks.len()));
            out.extend([size.to_le_bytes(), (!size).to_le_bytes()].concat());
            out.extend(*block);
        }
        let sums = bytes.iter().fold((1_u32, 0_u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        });
        out.extend((sums.1 << 16 | sums.0).to_be_bytes());
        out
    }

    /// A variable-length integer, 7 bits per byte, the lowest first; the first byte has `first` bits of it beside the kind.
    fn number(kind: u8, first: u32, mut n: usize) -> Vec<u8> {
        let mut out = vec![kind | u8::try_from(n & ((1 << first) - 1)).unwrap()];
        n >>= first;
        while n > 0 {
            *out.last_mut().unwrap() |= 0x80;
            out.push(u8::try_from(n & 0x7f).unwrap());
            n >>= 7;
        }
        out
    }

    /// A blob, and a delta that makes so many times that blob of it with a byte for each.
    fn bomb(times: usize) -> Vec<u8> {
        let base = vec![b'x'; BASE];
        let id = Sha1::new().chain_update(format!("blob {BASE}\0")).chain_update(&base).finalize();
        let delta = [number(0, 7, BASE), number(0, 7, BASE * times), vec![0x80; times]].concat();
        let mut pack = [b"PACK".to_vec(), 2_u32.to_be_bytes().to_vec(), 2_u32.to_be_bytes().to_vec()].concat();
        pack.extend([number(3 << 4, 4, BASE), zlib(&base)].concat());
        pack.extend([number(7 << 4, 4, delta.len()), id.to_vec(), zlib(&delta)].concat());
        let end = Sha1::digest(&pack);
        pack.extend(end);
        pack
    }

    #[test]
    fn a_small_pack_that_says_it_is_gigabytes_is_refused_and_never_made() {
        transport::register();
        let folder = tempfile::tempdir().unwrap();
        let repo = Repository::init_bare(folder.path()).unwrap();
        let take = |times| {
            let odb = repo.odb().unwrap();
            let mut writer = odb.packwriter().unwrap();
            let pack = bomb(times);
            assert!(pack.len() < 2 * BASE, "{}", pack.len());
            writer.write_all(&pack).unwrap();
            writer.commit().map_err(|error| no_room(&error, "https://h/x").unwrap().to_string())
        };
        take(16).unwrap();
        let refused = take(LARGEST_OBJECT / BASE + 1).unwrap_err();
        assert!(refused.contains("more than 512 MiB") && refused.contains("https://h/x"), "{refused}");
    }
}
