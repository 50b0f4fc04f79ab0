//! Releases: large objects named by the SHA-256 of their bytes. It must not look into them.

use std::{
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{Key, Store, StoreError, keys};
use crate::effects::gate::{Effect, Gate};

const CHUNK: usize = 1024 * 1024;

/// A release in the store, found whole when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// SHA-256 in hex, 64 digits.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// The tar. Read it, never write it.
    pub path: PathBuf,
}

impl Store {
    /// Stores a tar under the digest of the bytes that were stored; doing it again is fine. Effect `store.create`.
    pub async fn put_release(&self, gate: &Gate, tar: &Path) -> Result<Release, StoreError> {
        let (root, tar) = (self.root.clone(), tar.to_owned());
        let subject = format!("release {}", tar.file_name().unwrap_or_default().to_string_lossy());
        gate.pass(Effect::new("store.create", subject), blocking(move || put(&root, &tar))).await
    }

    /// A release, verified again: its bytes still have that digest.
    pub async fn release(&self, digest: &str) -> Result<Release, StoreError> {
        let key = keys::release(digest)?;
        let (path, digest) = (self.root.join(key.as_str()), digest.to_owned());
        blocking(move || verify(&key, path, digest)).await
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| StoreError::Failed { what: "finish its work".into(), why: error.to_string() })?
}

/// Copies and hashes the same bytes in one pass, then links the copy under its digest: there is never half a release under a name.
fn put(root: &Path, tar: &Path) -> Result<Release, StoreError> {
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
    Ok(Release { digest, size, path })
}

fn verify(key: &Key, path: PathBuf, digest: String) -> Result<Release, StoreError> {
    let mut file = File::open(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => StoreError::NotFound { key: key.clone() },
        _ => StoreError::from_io(&format!("read {key}"), &error),
    })?;
    let (found, size) = copy_hashed(&mut file, &mut std::io::sink())
        .map_err(|error| StoreError::from_io(&format!("read {key}"), &error))?;
    if found != digest {
        return Err(StoreError::Damaged { key: key.clone(), found });
    }
    Ok(Release { digest, size, path })
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
