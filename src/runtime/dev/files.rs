//! Private files: what this module writes is readable by its user alone, and a reader never sees half of it.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use super::error::DevError;

/// Makes the folder and its parents, mode 0700 where they are new.
pub(crate) fn private_folder(path: &Path) -> Result<(), DevError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(DevError::file("cannot create the folder", path))
}

/// Whether the path is a real folder (no link) that belongs to this user and that no other user can write to.
pub(crate) fn is_ours_alone(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| {
        found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0
    })
}

/// Writes the file whole, mode 0600, by way of a neighbour and a rename.
pub(crate) fn write_private(path: &Path, content: &str) -> Result<(), DevError> {
    let write = || -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().prefix(".landfall-").tempfile_in(folder)?;
        file.write_all(content.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|refused| refused.error)?;
        Ok(())
    };
    write().map_err(DevError::file("cannot write", path))
}

/// A log of a child, started empty; the one of the last start is kept as `<name>.1`.
pub(crate) fn fresh_log(path: &Path) -> Result<(), DevError> {
    if path.exists() {
        let mut old = path.as_os_str().to_owned();
        old.push(".1");
        fs::rename(path, old).map_err(DevError::file("cannot keep the old log", path))?;
    }
    append(path).map(drop)
}

/// Opens a log to append to.
pub fn append(path: &Path) -> Result<fs::File, DevError> {
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(DevError::file("cannot open the log", path))
}

/// The last lines of a log, at most `bytes` of it; what can't be read is empty.
pub fn tail(path: &Path, bytes: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
        let mut end = Vec::new();
        file.take(bytes).read_to_end(&mut end)?;
        Ok(end)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).trim_end().to_owned()
}
