//! Releases in the folder: files named by the SHA-256 of their bytes. It must not look into them.

use std::{
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::super::{Key, StoreError, interface::Release, keys};
use crate::effects::payload::Payload;

const CHUNK: usize = 1024 * 1024;

/// Copies and hashes the same bytes in one pass, then links the copy under its digest: there is never half a release under a name.
pub(super) fn put(root: &Path, tar: &Path) -> Result<Release, StoreError> {
    let io = |what: &'static str| move |error: std::io::Error| StoreError::from_io(what, &error);
    let folder = root.join("releases/sha256");
    let incoming = root.join("incoming");
    for folder in [&folder, &incoming] {
        std::fs::create_dir_all(folder).map_err(io("make the folder of releases"))?;
    }
    let mut source = File::open(tar).map_err(io("read the packed release"))?;
    let mut copy = tempfile::NamedTempFile::new_in(&incoming).map_err(io("store a release"))?;
    let (digest, size) = copy_hashed(&mut source, copy.as_file_mut()).map_err(io("store a release"))?;
    copy.as_file().sync_all().map_err(io("store a release"))?;
    let key = keys::release(&digest)?;
    let path = root.join(key.as_str());
    match copy.persist_noclobber(&path) {
        Ok(_) => sync_folders(&[&folder, &root.join("releases"), root]).map_err(io("store a release"))?,
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            verify(&key, path.clone(), digest.clone())?;
        }
        Err(error) => return Err(StoreError::from_io("store a release", &error.error)),
    }
    Ok(Release { digest, size, tar: Payload::file(path) })
}

pub(super) fn verify(key: &Key, path: PathBuf, digest: String) -> Result<Release, StoreError> {
    let mut file = File::open(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => StoreError::NotFound { key: key.clone() },
        _ => StoreError::from_io(&format!("read {key}"), &error),
    })?;
    let (found, size) = copy_hashed(&mut file, &mut std::io::sink())
        .map_err(|error| StoreError::from_io(&format!("read {key}"), &error))?;
    if found != digest {
        return Err(StoreError::Damaged { key: key.clone(), found });
    }
    Ok(Release { digest, size, tar: Payload::file(path) })
}

fn copy_hashed(source: &mut impl Read, target: &mut impl Write) -> std::io::Result<(String, u64)> {
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0_u64, vec![0_u8; CHUNK]);
    loop {
        let n = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = buffer.get(..n).unwrap_or_default();
        hash.update(bytes);
        target.write_all(bytes)?;
        size += n as u64;
    }
    Ok((format!("{:x}", hash.finalize()), size))
}

fn sync_folders(folders: &[&Path]) -> std::io::Result<()> {
    folders.iter().try_for_each(|folder| File::open(folder)?.sync_all())
}
