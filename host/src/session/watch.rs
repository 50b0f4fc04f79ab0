//! Which files changed, told by inotify. Where it is not to be had, or misses something, the session's poll of one second finds it: a
//! fingerprint of the records.

use std::{collections::BTreeMap, fs, mem::MaybeUninit, os::fd::OwnedFd, os::unix::fs::MetadataExt, path::Path};

use landfall_host_protocol::FolderName;
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};

use crate::folder::Folder;

/// What a watch is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Watched {
    Root,
    Folder(FolderName),
    Task,
    Log,
}

/// What changed since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Folders came or went, or the kernel lost count.
    pub(super) all: bool,
    pub(super) folders: Vec<FolderName>,
    pub(super) tasks: bool,
    pub(super) logs: bool,
}

pub(super) struct Watch {
    inotify: Option<OwnedFd>,
    watched: BTreeMap<i32, Watched>,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { inotify: init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok(), watched: BTreeMap::new() }
    }

    /// Readable when something changed.
    pub(super) fn fd(&self) -> Option<&OwnedFd> {
        self.inotify.as_ref()
    }

    pub(super) fn root(&mut self, path: &Path) {
        let names = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        self.add(path, names, Watched::Root);
    }

    /// The folder itself, where `current` lies, and its records. Again and again without harm.
    pub(super) fn folder(&mut self, folder: &Folder) {
        let names = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        self.add(&folder.path(), names, Watched::Folder(folder.name().clone()));
        self.add(&folder.dot(), names | WatchFlags::MODIFY, Watched::Folder(folder.name().clone()));
    }

    pub(super) fn task(&mut self, folder: &Path) {
        let flags = WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::MOVED_TO | WatchFlags::DELETE_SELF;
        self.add(folder, flags, Watched::Task);
    }

    pub(super) fn log(&mut self, folder: &Path) {
        self.add(folder, WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::MOVED_TO, Watched::Log);
    }

    /// Nobody follows a task any more.
    pub(super) fn no_task(&mut self) {
        self.remove(&Watched::Task);
    }

    /// Nobody follows a log any more.
    pub(super) fn no_log(&mut self) {
        self.remove(&Watched::Log);
    }

    fn add(&mut self, path: &Path, flags: WatchFlags, watched: Watched) {
        let Some(inotify) = &self.inotify else { return };
        if let Ok(id) = add_watch(inotify, path, flags | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW) {
            self.watched.insert(id, watched);
        }
    }

    fn remove(&mut self, what: &Watched) {
        let Some(inotify) = &self.inotify else { return };
        self.watched.retain(|id, watched| {
            let ends = watched == what;
            if ends {
                let _ = remove_watch(inotify, *id);
            }
            !ends
        });
    }

    /// Reads all that the kernel holds.
    pub(super) fn read(&mut self) -> Changes {
        let mut changes = Changes::default();
        let Some(inotify) = &self.inotify else { return changes };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(inotify, &mut buffer);
        while let Ok(event) = reader.next() {
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                changes = Changes { all: true, tasks: true, logs: true, ..changes };
                continue;
            }
            let watched = self.watched.get(&event.wd());
            match watched {
                Some(Watched::Root) => changes.all = true,
                Some(Watched::Folder(name)) => {
                    let file = event.file_name().map(|name| name.to_bytes()).unwrap_or_default();
                    if !is_noise(file) && !changes.folders.contains(name) {
                        changes.folders.push(name.clone());
                    }
                }
                Some(Watched::Task) => changes.tasks = true,
                Some(Watched::Log) => changes.logs = true,
                None => {}
            }
            if event.events().contains(ReadFlags::IGNORED) {
                let id = event.wd();
                self.watched.remove(&id);
            }
        }
        changes
    }
}

/// Files that come and go in every act and of which no fact is made: the lock, and new content under a temporary name.
fn is_noise(name: &[u8]) -> bool {
    name == b"lock" || name.ends_with(b".new") || name.starts_with(b".") && name != b".landfall"
}

/// Identity, size and change time of what a folder's facts are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(Vec<Option<(u64, u64, i64, i64)>>);

pub(super) fn fingerprint(folder: &Folder) -> Fingerprint {
    let stat = |path: &Path| {
        let metadata = fs::symlink_metadata(path).ok()?;
        Some((metadata.ino(), metadata.size(), metadata.ctime(), metadata.ctime_nsec()))
    };
    let files = [folder.current(), folder.owner(), folder.fence(), folder.journal(), folder.state()];
    Fingerprint(files.iter().map(|path| stat(path)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_record_names_its_folder_and_the_lock_does_not() {
        let root = tempfile::tempdir().unwrap();
        let name = FolderName::new("shop", "web");
        let folder = Folder::new(root.path(), name.clone());
        fs::create_dir_all(folder.dot()).unwrap();
        let mut watch = Watch::new();
        watch.root(root.path());
        watch.folder(&folder);
        assert_eq!(watch.read(), Changes::default());
        fs::write(folder.lock(), "1").unwrap();
        fs::write(folder.dot().join("state.new"), "1").unwrap();
        assert_eq!(watch.read(), Changes::default());
        let before = fingerprint(&folder);
        fs::rename(folder.dot().join("state.new"), folder.state()).unwrap();
        assert_eq!(watch.read(), Changes { folders: vec![name.clone()], ..Changes::default() });
        assert_ne!(fingerprint(&folder), before);
        fs::rename(folder.path(), root.path().join("gone")).unwrap();
        assert!(watch.read().all);
    }
}
