//! The folder's lock: flock on `lock`, whose holder is named in it. Under it owner, fence and journal number are checked and written; it
//! is held for moments, and nothing is read from or written to a connection meanwhile. The shell helper takes the same lock.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::Duration,
};

use landfall_host_protocol::{FenceToken, Refusal};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    process::Signal,
};
use serde::{Deserialize, Serialize};

use crate::{
    clock, files,
    folder::Folder,
    process::{self, Found, Identity},
};

/// How long the lock is waited for.
const TIMEOUT: Duration = Duration::from_secs(20);
/// After this time a holder is stuck: it is stopped, or its disk hangs.
const STUCK_AFTER: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Who holds the lock, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub what: String,
    /// With it a holder that is stuck and has a lower one is ended.
    pub fence: Option<FenceToken>,
}

impl From<&str> for Holder {
    fn from(what: &str) -> Self {
        Self { what: what.to_owned(), fence: None }
    }
}

/// What stands in the file while the lock is held.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    process: Identity,
    what: String,
    fence: Option<FenceToken>,
}

/// The lock, until this is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock. The folder's `.landfall` must be there.
    pub fn take(folder: &Folder, holder: impl Into<Holder>) -> Result<Self, Refusal> {
        let (holder, path) = (holder.into(), folder.lock());
        let since = clock::monotonic();
        let mut file = open(&path)?;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // A lock that moved away with its folder is none.
                Ok(()) if is_at(&file, &path) => break,
                Ok(()) => file = open(&path)?,
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(error) => return Err(files::refusal(&error.into(), &path, 0)),
            }
            let waited = since.elapsed();
            if waited > STUCK_AFTER {
                end_stuck(&path, &holder);
            }
            if waited > TIMEOUT {
                return Err(Refusal::Failed { why: held_by(&path) });
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        let mut lock = Self { file };
        // On a full disk the holder stays without a name, and is a holder all the same.
        let _ = lock.name(&holder);
        Ok(lock)
    }

    fn name(&mut self, holder: &Holder) -> io::Result<()> {
        let process = Identity::own().ok_or(io::ErrorKind::NotFound)?;
        let named = Named { process, what: holder.what.clone(), fence: holder.fence.clone() };
        let line = files::record_line(&named)?;
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&line)
    }
}

fn open(path: &Path) -> Result<File, Refusal> {
    files::open_to_lock(path).map_err(|error| files::refusal(&error, path, 0))
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), std::fs::symlink_metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

fn named(path: &Path) -> Option<Named> {
    files::read_record(path).ok()?
}

fn held_by(path: &Path) -> String {
    match named(path) {
        Some(Named { process, what, .. }) => {
            format!("process {} ({what}) does not let go of {}", process.pid, path.display())
        }
        None => format!("another process does not let go of {}", path.display()),
    }
}

/// Ends a holder that an operator of a lower token left behind, where it is proved to be the one that is named and to have the lock open.
fn end_stuck(path: &Path, holder: &Holder) {
    let (Some(ours), Some(named)) = (&holder.fence, named(path)) else { return };
    if !named.fence.as_ref().is_some_and(|theirs| ours.is_later_than(theirs)) {
        return;
    }
    let Found::Alive(handle) = process::find(&named.process) else { return };
    if has_open(named.process.pid, path) {
        let _ = handle.signal(Signal::KILL);
    }
}

fn has_open(pid: i32, path: &Path) -> bool {
    let Ok(lock) = std::fs::metadata(path) else { return false };
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors
        .filter_map(|descriptor| std::fs::metadata(descriptor.path()).ok())
        .any(|open| (open.dev(), open.ino()) == (lock.dev(), lock.ino()))
}

#[cfg(test)]
mod tests {
    use landfall_host_protocol::FolderName;

    use super::*;

    fn folder(root: &Path) -> Folder {
        let folder = Folder::new(root, FolderName::new("shop", "web"));
        std::fs::create_dir_all(folder.dot()).unwrap();
        folder
    }

    #[test]
    fn a_second_holder_waits_for_the_first() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        let first = Lock::take(&folder, "first").unwrap();
        let named = named(&folder.lock()).unwrap();
        assert_eq!((named.what.as_str(), named.process), ("first", Identity::own().unwrap()));
        std::thread::scope(|scope| {
            let second = scope.spawn(|| Lock::take(&folder, "second").map(|_| ()));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!second.is_finished());
            drop(first);
            assert_eq!(second.join().unwrap(), Ok(()));
        });
    }

    #[test]
    fn a_lock_that_moved_away_with_its_folder_is_none() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        let moved = Lock::take(&folder, "the one that removes").unwrap();
        std::fs::rename(folder.path(), root.path().join("trash")).unwrap();
        std::fs::create_dir_all(folder.dot()).unwrap();
        let _new = Lock::take(&folder, "the next").unwrap();
        drop(moved);
    }
}
