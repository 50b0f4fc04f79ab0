//! A release of the operator: its tar, read once and verified, and where each file lies in it.
//!
//! It writes nothing.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use landfall_host_protocol::{Digest, Entry, EntryKind, Manifest};
use sha2::{Digest as _, Sha256};
use tar::{Archive, EntryType};

use crate::{
    manifest::{self, ManifestError},
    window::Window,
};

/// Why a tar is no release.
#[derive(Debug)]
pub enum ReleaseError {
    /// It can't be read, or is no tar.
    Io(io::Error),
    /// It is another release than the one that was asked for.
    Digest { expected: Digest, got: Digest },
    /// It holds what no release may hold.
    Content(ManifestError),
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the release can't be read: {error}"),
            Self::Digest { expected, got } => write!(f, "the release is damaged: SHA-256 {got}, expected {expected}"),
            Self::Content(error) => write!(f, "the release can't be unpacked: {error}"),
        }
    }
}

impl std::error::Error for ReleaseError {}

impl From<io::Error> for ReleaseError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A release whose digest was verified.
#[derive(Debug)]
pub struct Release {
    tar: File,
    manifest: Manifest,
    /// Where a content begins in the tar.
    offsets: BTreeMap<Digest, u64>,
}

impl Release {
    /// Reads a tar from its begin to its end; the file is held open. `digest`: of the tar, that is the version's.
    pub fn read(mut tar: File, digest: &Digest) -> Result<Self, ReleaseError> {
        tar.seek(SeekFrom::Start(0))?;
        let mut archive = Archive::new(Hashing { inner: &tar, hash: Sha256::new() });
        let mut entries: BTreeMap<String, EntryKind> = BTreeMap::new();
        let mut offsets = BTreeMap::new();
        let mut buffer = vec![0; 256 << 10];
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = text(&entry.path_bytes())?.trim_end_matches('/').to_owned();
            let refused = |why: String| ReleaseError::Content(ManifestError::new(&path, why));
            let kind = match entry.header().entry_type() {
                EntryType::Directory => EntryKind::Folder,
                EntryType::Symlink => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    EntryKind::Link { target: text(&target)?.to_owned() }
                }
                EntryType::Regular => {
                    let (mode, size) = (entry.header().mode()? & 0o7777, entry.size());
                    let offset = entry.raw_file_position();
                    let mut hash = Sha256::new();
                    let mut passed = 0;
                    loop {
                        let n = entry.read(&mut buffer)?;
                        if n == 0 {
                            break;
                        }
                        hash.update(buffer.get(..n).unwrap_or_default());
                        passed += n as u64;
                    }
                    if passed != size {
                        return Err(refused(format!("{passed} bytes of {size}")));
                    }
                    let sha256 = Digest::from_bytes(hash.finalize().into());
                    offsets.entry(sha256.clone()).or_insert(offset);
                    EntryKind::File { mode, size, sha256 }
                }
                other => return Err(refused(format!("files, folders and links are packed, not {other:?}"))),
            };
            if entries.insert(path.clone(), kind).is_some() {
                return Err(refused("it is there twice".to_owned()));
            }
        }
        let mut rest = archive.into_inner();
        io::copy(&mut rest, &mut io::sink())?;
        let got = Digest::from_bytes(rest.hash.finalize().into());
        if got != *digest {
            return Err(ReleaseError::Digest { expected: digest.clone(), got });
        }
        add_folders(&mut entries);
        let entries = entries.into_iter().map(|(path, kind)| Entry { path, kind }).collect();
        let manifest = Manifest { release: got, entries };
        manifest::check(&manifest).map_err(ReleaseError::Content)?;
        Ok(Self { tar, manifest, offsets })
    }

    /// What it consists of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// A content of `size` bytes; `None` where it is none of this release.
    pub(crate) fn content(&self, sha256: &Digest, size: u64) -> Option<Window<'_>> {
        self.offsets.get(sha256).map(|offset| Window::new(&self.tar, *offset, size))
    }
}

/// Folders that are only named in the paths of what lies in them.
fn add_folders(entries: &mut BTreeMap<String, EntryKind>) {
    let paths: Vec<String> = entries.keys().cloned().collect();
    for path in &paths {
        let mut at = path.as_str();
        while let Some((parent, _)) = at.rsplit_once('/') {
            if entries.contains_key(parent) {
                break;
            }
            entries.insert(parent.to_owned(), EntryKind::Folder);
            at = parent;
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, ReleaseError> {
    std::str::from_utf8(bytes).map_err(|_| {
        ReleaseError::Content(ManifestError::new(&String::from_utf8_lossy(bytes), "its name or target is no UTF-8"))
    })
}

/// Hashes what is read.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..n).unwrap_or_default());
        Ok(n)
    }
}
