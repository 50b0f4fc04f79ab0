//! Where a task's files lie, and which task folders are kept.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use landfall_host_protocol::{TaskId, TaskResult};
use serde::{Deserialize, Serialize};

use crate::{files, folder::Folder, gate, process::Identity};

/// Task folders that are kept beside the one under way.
const KEPT_TASKS: usize = 10;
/// Results of removals that are kept in the root.
const KEPT_REMOVALS: usize = 20;

pub(super) fn task(folder: &Folder, id: &TaskId) -> PathBuf {
    folder.task(id).join("task")
}

pub(super) fn lock(folder: &Folder, id: &TaskId) -> PathBuf {
    folder.task(id).join("lock")
}

/// Says in the lock, which it holds, who runs the task. On a full disk nobody is named, and the lock tells as much.
pub(super) fn name_runner(mut lock: &File) {
    let Some(line) = Identity::own().and_then(|own| files::record_line(&own).ok()) else { return };
    let _ = lock.set_len(0).and_then(|()| lock.write_all(&line));
}

/// Who took the task's lock last.
pub(super) fn runner(folder: &Folder, id: &TaskId) -> Option<Identity> {
    files::read_record(&lock(folder, id)).ok().flatten()
}

pub(super) fn events(folder: &Folder, id: &TaskId) -> PathBuf {
    folder.task(id).join("events")
}

pub(super) fn cancel(folder: &Folder, id: &TaskId) -> PathBuf {
    folder.task(id).join("cancel")
}

pub(super) fn result(folder: &Folder, id: &TaskId) -> PathBuf {
    folder.task(id).join("result")
}

/// Bytes that are given back when the end is written, so that a full disk does not hide how a task ended.
pub(super) fn reserve(folder: &Folder, id: &TaskId) -> PathBuf {
    folder.task(id).join("reserve")
}

/// What the runner itself says when it breaks.
pub(super) fn complaint(folder: &Folder, id: &TaskId) -> PathBuf {
    folder.task(id).join("runner")
}

/// The result of a task that removed its folder.
pub(super) fn removed(folder: &Folder, id: &TaskId) -> PathBuf {
    let name = folder.task(id).file_name().unwrap_or_default().to_string_lossy().into_owned();
    removals(folder.root()).join(format!("{}.{name}", folder.name()))
}

/// The result of a removal as it is kept.
#[derive(Serialize, Deserialize)]
struct Removal {
    #[serde(flatten)]
    result: TaskResult,
    /// Of two removals the one with the higher number came later.
    #[serde(default)]
    order: u64,
}

fn order_of(removal: &Path) -> u64 {
    files::read_record::<Removal>(removal).ok().flatten().map_or(0, |removal| removal.order)
}

fn removals(root: &Path) -> PathBuf {
    root.join(".landfall/removed")
}

/// Keeps the result of a task that removed its folder, or found none.
pub(crate) fn write_removed(folder: &Folder, id: &TaskId, result: &TaskResult) -> io::Result<()> {
    gate::pass("removed.write", || {
        if files::create_folder(&removals(folder.root()), 0o700)? {
            files::sync_parent(&removals(folder.root()))?;
        }
        let order = entries(&removals(folder.root())).map(|path| order_of(&path)).max().unwrap_or(0).saturating_add(1);
        files::write_record(&removed(folder, id), &Removal { result: result.clone(), order })
    })?;
    // One that came at the same moment may have the same number.
    let written = removed(folder, id);
    let old = oldest(&removals(folder.root()), KEPT_REMOVALS, order_of);
    for path in old.into_iter().filter(|path| *path != written) {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// The folder is there again, and its journal starts at 0: results of its earlier life would be taken for those of later tasks.
pub(super) fn forget_removed(folder: &Folder) {
    let prefix = format!("{}.", folder.name());
    for entry in std::fs::read_dir(removals(folder.root())).into_iter().flatten().flatten() {
        let name = entry.file_name();
        // The name of a task has no dot, that of a project may have one.
        if name.to_str().and_then(|name| name.strip_prefix(&prefix)).is_some_and(|rest| !rest.contains('.')) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Removes the folders of old tasks, but for those that are needed; what can't be removed stays.
pub(super) fn collect(folder: &Folder, needed: &[TaskId]) {
    let needed: Vec<PathBuf> = needed.iter().map(|id| folder.task(id)).collect();
    for path in oldest(&folder.tasks(), KEPT_TASKS, number_of).into_iter().filter(|path| !needed.contains(path)) {
        let _ = gate::pass("task.collect", || files::remove_below(folder.root(), &path));
    }
}

/// Number of the journal at which a task was begun: its folder's name ends with it.
fn number_of(task: &Path) -> Option<u64> {
    task.file_name()?.to_str()?.rsplit('-').next()?.parse().ok()
}

/// All but the `kept` newest entries, by a number of our own: the host's clock may be wrong by years.
fn oldest<N: Ord>(folder: &Path, kept: usize, number: impl Fn(&Path) -> N) -> Vec<PathBuf> {
    let mut entries: Vec<(N, PathBuf)> = entries(folder).map(|path| (number(&path), path)).collect();
    entries.sort();
    let old = entries.len().saturating_sub(kept);
    entries.into_iter().take(old).map(|(_, path)| path).collect()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use landfall_host_protocol::{FolderName, Outcome};

    use super::*;

    #[test]
    fn a_removal_is_told_by_a_clock_that_was_set_back() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path(), FolderName::new("shop", "web"));
        std::fs::create_dir_all(removals(root.path())).unwrap();
        let now = u64::try_from(crate::clock::wall_millis()).unwrap();
        let later = SystemTime::UNIX_EPOCH + Duration::from_millis(now + 3_600_000);
        for n in 0..30 {
            let file = std::fs::File::create(removals(root.path()).join(format!("shop.db.{n}"))).unwrap();
            file.set_modified(later).unwrap();
        }
        let id = TaskId { uid: "uid".to_owned(), rollout: "1.0".to_owned(), attempt: 1, n: 0 };
        write_removed(&folder, &id, &TaskResult { outcome: Outcome::Succeeded, journal: 0 }).unwrap();
        assert!(removed(&folder, &id).exists());
        assert!(std::fs::read_dir(removals(root.path())).unwrap().count() <= KEPT_REMOVALS + 1);
    }

    fn dated(path: &Path, years: u64) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(years * 365 * 24 * 3600);
        std::fs::File::open(path).unwrap().set_modified(time).unwrap();
    }

    // R14
    #[test]
    fn the_removals_that_came_last_are_kept_whatever_the_clock_says() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path(), FolderName::new("shop", "web"));
        let id = |n: u64| TaskId { uid: "uid".to_owned(), rollout: "1.0".to_owned(), attempt: 1, n };
        for n in 0..KEPT_REMOVALS as u64 + 5 {
            let result = TaskResult { outcome: Outcome::Succeeded, journal: n };
            write_removed(&folder, &id(n), &result).unwrap();
            dated(&removed(&folder, &id(n)), 90 - n);
            let read: TaskResult = files::read_record(&removed(&folder, &id(n))).unwrap().unwrap();
            assert_eq!(read, result);
        }
        let kept: Vec<u64> = (0..KEPT_REMOVALS as u64 + 5).filter(|n| removed(&folder, &id(*n)).exists()).collect();
        assert_eq!(kept, (5..KEPT_REMOVALS as u64 + 5).collect::<Vec<_>>());
    }

    // R14
    #[test]
    fn the_tasks_that_came_last_are_kept_whatever_the_clock_says() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path(), FolderName::new("shop", "web"));
        let id = |n: u64| TaskId { uid: "uid".to_owned(), rollout: "1.0".to_owned(), attempt: 1, n };
        for n in 0..15 {
            std::fs::create_dir_all(folder.task(&id(n * 3))).unwrap();
            dated(&folder.task(&id(n * 3)), 90 - n);
        }
        collect(&folder, &[id(42)]);
        let kept: Vec<u64> = (0..15).filter(|n| folder.task(&id(n * 3)).exists()).collect();
        assert_eq!(kept, (5..15).collect::<Vec<_>>());
    }
}
