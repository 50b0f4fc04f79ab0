//! What a loss of power would undo: in a debug build with `LANDFALL_HOST_UNSYNCED=DIR` every change that goes through [`crate::files`] is
//! noted in DIR before it is made, and struck out when its file or folder is synced. [`roll_back`] then does what the power's loss would
//! have done: unsynced contents are gone, unsynced entries of folders are as they were. It covers nothing that bypasses `files`.
//!
//! A rename lasts once one of its two folders is synced: file systems with a journal do both ends at once. DIR must be on the file
//! system of the files: old contents are kept there by hard links.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use serde::{Deserialize, Serialize};

/// One change that is not on the disk yet.
#[derive(Debug, Serialize, Deserialize)]
enum Note {
    /// `name` in `folder` was something else, which is kept as `<number>.old`; without that file there was nothing.
    Entry { folder: PathBuf, name: PathBuf },
    /// `from` became `folder/name`; what was there is kept as `<number>.old`.
    Renamed { from: PathBuf, folder: PathBuf, name: PathBuf },
    /// The file with this inode, kept as `<number>.file`, had so many bytes on the disk.
    Content { inode: u64, synced: u64 },
}

static FOLDER: LazyLock<Option<PathBuf>> =
    LazyLock::new(|| std::env::var_os("LANDFALL_HOST_UNSYNCED").map(PathBuf::from));

/// Where changes are noted; `None`: nowhere, as always in a release build.
fn notes() -> Option<&'static Path> {
    if cfg!(debug_assertions) { FOLDER.as_deref() } else { None }
}

/// Whether changes are noted.
pub(crate) fn is_on() -> bool {
    notes().is_some()
}

/// After `path` was made by others than [`crate::files`].
pub(crate) fn made(path: &Path) {
    let Some((notes, folder, name)) = parts(path) else { return };
    note(notes, &Note::Entry { folder, name }, None);
}

/// Before `path` is created, replaced or removed.
pub(crate) fn entry(path: &Path) {
    let Some((notes, folder, name)) = parts(path) else { return };
    note(notes, &Note::Entry { folder, name }, Some(path));
}

/// Before `from` is renamed to `to`.
pub(crate) fn rename(from: &Path, to: &Path) {
    let Some((notes, folder, name)) = parts(to) else { return };
    note(notes, &Note::Renamed { from: from.to_owned(), folder, name }, Some(to));
}

/// After a file was opened for writing and before anything is written: `synced` bytes of it are on the disk.
pub(crate) fn content(path: &Path, synced: u64) {
    let Some(notes) = notes() else { return };
    let Ok(inode) = fs::symlink_metadata(path).map(|found| found.ino()) else { return };
    let known = numbers(notes).into_iter().filter_map(|number| read(notes, number));
    if known.into_iter().any(|note| matches!(note, Note::Content { inode: other, .. } if other == inode)) {
        return;
    }
    note(notes, &Note::Content { inode, synced }, Some(path));
}

/// Before a whole tree is removed: it is moved to the notes instead, and goes when `path`'s folder is synced. False: notes are off.
pub(crate) fn set_aside(path: &Path) -> bool {
    let Some((notes, folder, name)) = parts(path) else { return false };
    let number = note(notes, &Note::Entry { folder, name }, None);
    fs::rename(path, old(notes, number)).is_ok()
}

/// After a file was synced.
pub(crate) fn synced_file(inode: u64) {
    strike(|note| matches!(note, Note::Content { inode: other, .. } if *other == inode));
}

/// After a folder was synced.
pub(crate) fn synced_folder(path: &Path) {
    strike(|note| match note {
        Note::Entry { folder, .. } => folder == path,
        Note::Renamed { from, folder, .. } => folder == path || from.parent() == Some(path),
        Note::Content { .. } => false,
    });
}

/// Undoes, latest first, what is noted in `notes` and not synced. The processes that wrote there must have ended.
pub fn roll_back(notes: &Path) -> io::Result<()> {
    for number in numbers(notes).into_iter().rev() {
        match read(notes, number) {
            Some(Note::Content { synced, .. }) => {
                let kept = fs::OpenOptions::new().write(true).open(old(notes, number))?;
                if kept.metadata()?.len() > synced {
                    kept.set_len(synced)?;
                }
            }
            Some(Note::Entry { folder, name }) => restore(&old(notes, number), &folder.join(name))?,
            Some(Note::Renamed { from, folder, name }) => {
                let to = folder.join(name);
                if !exists(&from) && exists(&to) {
                    fs::rename(&to, &from)?;
                    restore(&old(notes, number), &to)?;
                }
            }
            None => {}
        }
        forget(notes, number);
    }
    Ok(())
}

fn restore(kept: &Path, path: &Path) -> io::Result<()> {
    if exists(kept) {
        if exists(path) && same(kept, path) {
            return Ok(());
        }
        remove(path)?;
        if path.parent().is_some_and(exists) {
            fs::rename(kept, path)?;
        }
        return Ok(());
    }
    remove(path)
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn same(a: &Path, b: &Path) -> bool {
    let inode = |path: &Path| fs::symlink_metadata(path).map(|found| (found.dev(), found.ino())).ok();
    inode(a) == inode(b)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn parts(path: &Path) -> Option<(&'static Path, PathBuf, PathBuf)> {
    let notes = notes()?;
    Some((notes, path.parent()?.to_owned(), PathBuf::from(path.file_name()?)))
}

/// Writes the note; `keeps`: what its hard link is kept of, where it is no folder.
fn note(notes: &Path, note: &Note, keeps: Option<&Path>) -> u64 {
    let number = numbers(notes).last().map_or(0, |last| last + 1);
    if let Some(path) = keeps.filter(|path| fs::symlink_metadata(path).is_ok_and(|found| !found.is_dir())) {
        let linked = rustix::fs::linkat(
            rustix::fs::CWD,
            path,
            rustix::fs::CWD,
            old(notes, number),
            rustix::fs::AtFlags::empty(),
        );
        if let Err(error) = linked {
            eprintln!("landfall-host: {} can't be kept: {error}", path.display());
        }
    }
    let text = serde_json::to_string(note).unwrap_or_default();
    if let Err(error) = fs::write(notes.join(format!("{number}.note")), text) {
        eprintln!("landfall-host: no note of what is not synced: {error}");
    }
    number
}

fn strike(is_synced: impl Fn(&Note) -> bool) {
    let Some(notes) = notes() else { return };
    for number in numbers(notes) {
        if read(notes, number).is_some_and(|note| is_synced(&note)) {
            forget(notes, number);
        }
    }
}

fn forget(notes: &Path, number: u64) {
    let _ = fs::remove_file(notes.join(format!("{number}.note")));
    let _ = remove(&old(notes, number));
}

fn old(notes: &Path, number: u64) -> PathBuf {
    notes.join(format!("{number}.old"))
}

fn read(notes: &Path, number: u64) -> Option<Note> {
    serde_json::from_slice(&fs::read(notes.join(format!("{number}.note"))).ok()?).ok()
}

fn numbers(notes: &Path) -> Vec<u64> {
    let mut numbers: Vec<u64> = fs::read_dir(notes)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".note")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}
