//! What a mirror says of itself, beside what git keeps there: whose it is, which Projects have read it, when it was fetched last.

use std::{fs, io, path::Path};

use super::{error::GitError, mirror::Mirror};

const FOLDER: &str = "landfall";
const READERS: &str = "readers";
const NAMESPACE: &str = "namespace";

/// Records a fetch. A Project that could read the repository now may read the mirror, also when the server is away.
pub(super) fn fetched(mirror: &Mirror) -> Result<(), GitError> {
    let note = || {
        let folder = mirror.repo.path().join(FOLDER);
        fs::create_dir_all(folder.join(READERS))?;
        if let Some(reader) = mirror.source.reader.as_deref().filter(|reader| is_uid(reader)) {
            fs::write(folder.join(READERS).join(reader), "")?;
        }
        fs::write(folder.join(NAMESPACE), &mirror.source.namespace)
    };
    note().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull => GitError::DiskFull,
        _ => GitError::Failed { url: mirror.url.clone(), what: "note that it was fetched", why: error.to_string() },
    })
}

/// Whether this Project has fetched it.
pub(super) fn was_read_by(mirror: &Path, reader: &str) -> bool {
    is_uid(reader) && mirror.join(FOLDER).join(READERS).join(reader).exists()
}

/// `None`: it was not fetched yet, or by a version that took no notes.
pub(super) fn namespace(mirror: &Path) -> Option<String> {
    fs::read_to_string(mirror.join(FOLDER).join(NAMESPACE)).ok()
}

/// When it was fetched last, as far as is known.
pub(super) fn touched(mirror: &Path) -> io::Result<std::time::SystemTime> {
    let files = [mirror.join(FOLDER).join(NAMESPACE), mirror.join("HEAD"), mirror.to_owned()];
    let known = files.iter().find_map(|file| fs::metadata(file).ok());
    known.ok_or(io::ErrorKind::NotFound)?.modified()
}

fn is_uid(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
