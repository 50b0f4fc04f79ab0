//! What lies in the folder and is no object: copies of killed writers that were never linked under their name, and empty folders.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::super::StoreError;

/// No write takes longer.
const STALE_AFTER: Duration = Duration::from_secs(3600);

/// Paths of everything old below `incoming`, and of the backend's own half-written files: no key has a `#`. A path that is no UTF-8 is
/// none of ours.
pub(super) fn find(root: &Path) -> Vec<String> {
    let incoming = root.join("incoming");
    let files = walkdir::WalkDir::new(root).into_iter().flatten().filter(|entry| entry.file_type().is_file());
    let unnamed = files
        .filter(|entry| entry.path().starts_with(&incoming) || entry.file_name().as_encoded_bytes().contains(&b'#'));
    let old = unnamed.filter(|entry| {
        let modified = entry.metadata().ok().and_then(|meta| meta.modified().ok());
        modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age >= STALE_AFTER)
    });
    old.filter_map(|entry| entry.into_path().into_os_string().into_string().ok()).collect()
}

pub(super) fn remove(paths: &[String]) -> Result<(), StoreError> {
    for path in paths.iter().map(PathBuf::from) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::from_io("remove a leftover", &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Folders are no objects, and nobody misses an empty one; one that got something meanwhile stays.
pub(super) fn remove_empty_folders(folder: &Path) {
    for entry in walkdir::WalkDir::new(folder).contents_first(true).into_iter().flatten() {
        if entry.file_type().is_dir() {
            let _ = fs::remove_dir(entry.path());
        }
    }
}
