//! The files of an attempt's folder: written whole or not at all, and on disk before anybody acts on them.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use super::arrivals::Arrivals;
use crate::effects::clock;

/// Names in an attempt's folder.
pub(super) const STEP: &str = "step.json";
pub(super) const PID: &str = "pid";
pub(super) const LOCK: &str = "lock";
pub(super) const LOG: &str = "log";
/// When the log's bytes arrived.
pub(super) const TIMES: &str = "times";
pub(super) const CANCEL: &str = "cancel";
pub(super) const EXIT: &str = "exit";
pub(super) const RUNNER_LOG: &str = "runner.log";
/// The checkout.
pub(super) const SRC: &str = "src";
/// The script and its environment, seen read-only by the script.
pub(super) const IN: &str = "in";
pub(super) const HOME: &str = "home";
pub(super) const TMP: &str = "tmp";
/// Where the sandbox' root is mounted, inside its namespace alone.
pub(super) const ROOT: &str = "root";

/// Replaces a file: temporary name, sync, rename, sync of the folder.
pub(super) fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    staged(path, bytes)?.persist(path).map_err(|error| error.error)?;
    sync_parent(path)
}

/// The same, but never over an existing file: `AlreadyExists` then.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    staged(path, bytes)?.persist_noclobber(path).map_err(|error| error.error)?;
    sync_parent(path)
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    write_atomic(path, &serde_json::to_vec(value)?)
}

/// `None` where there is no such file.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn staged(path: &Path, bytes: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new_in(parent(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

/// A line of ours in the script's log; its length.
pub(super) fn add_note(dir: &Path, text: &str) -> u64 {
    let line = format!("landfall: {text}\n");
    let written = File::options().create(true).append(true).open(dir.join(LOG)).and_then(|mut log| {
        Arrivals::open(&dir.join(TIMES)).add(log.metadata()?.len(), clock::now().as_second());
        log.write_all(line.as_bytes())
    });
    if written.is_ok() { line.len() as u64 } else { 0 }
}
