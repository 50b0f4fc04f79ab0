//! The tar itself: the same bytes for the same input. Owner 0, time 0, mode 0755 or 0644, entries in the order of their names.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    ops::Bound,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::{
    ReleaseError,
    select::{Entry, RUN},
};
use crate::{api::build::Artifact, model::version::LISTED};

/// A tar that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Packed {
    pub tar: PathBuf,
    /// SHA-256 of the tar in hex, of the very bytes that were written.
    pub digest: String,
    /// Bytes of the tar.
    pub size: u64,
    /// The first regular files by name, without `run.json`; at most as many as a record lists.
    pub artifacts: Vec<Artifact>,
    /// How many there are.
    pub artifact_count: u64,
}

/// Writes the tar of what was selected below `base` under a temporary name, syncs and renames it.
pub(super) fn write(
    base: &Path,
    entries: &BTreeMap<String, Entry>,
    run: &[u8],
    tar: &Path,
) -> Result<Packed, ReleaseError> {
    let io = |error: io::Error| ReleaseError::io("write the release", &error);
    let folder = tar.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).map_err(io)?;
    let file = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
    let mut builder = Builder::new(Hashing::new(io::BufWriter::new(file)));
    let (mut artifacts, mut artifact_count) = (Vec::new(), 0);
    let mut note = |artifact: Option<Artifact>| {
        artifact_count += u64::from(artifact.is_some());
        artifacts.extend(artifact.filter(|_| artifact_count <= LISTED as u64));
    };
    // `run.json` has its place in the order of names like every other.
    for (name, entry) in entries.range::<str, _>((Bound::Unbounded, Bound::Excluded(RUN))) {
        note(append(&mut builder, base, name, entry)?);
    }
    builder.append_data(&mut header(EntryType::Regular, run.len() as u64, 0o644), RUN, run).map_err(io)?;
    for (name, entry) in entries.range::<str, _>((Bound::Excluded(RUN), Bound::Unbounded)) {
        note(append(&mut builder, base, name, entry)?);
    }
    let hashed = builder.into_inner().map_err(io)?;
    let (digest, size) = (format!("{:x}", hashed.hash.finalize()), hashed.size);
    let file = hashed.inner.into_inner().map_err(|error| io(error.into_error()))?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(tar).map_err(|error| io(error.error))?;
    Ok(Packed { tar: tar.to_owned(), digest, size, artifacts, artifact_count })
}

fn append<W: Write>(
    tar: &mut Builder<W>,
    base: &Path,
    name: &str,
    entry: &Entry,
) -> Result<Option<Artifact>, ReleaseError> {
    let io = |error: io::Error| ReleaseError::io(format!("pack {name}"), &error);
    match entry {
        Entry::Folder => {
            let mut header = header(EntryType::Directory, 0, 0o755);
            tar.append_data(&mut header, format!("{name}/"), io::empty()).map_err(io)?;
            Ok(None)
        }
        Entry::Link { target } => {
            tar.append_link(&mut header(EntryType::Symlink, 0, 0o777), name, target).map_err(io)?;
            Ok(None)
        }
        Entry::File { from, executable } => {
            let changed = || ReleaseError::ArtifactChanged { path: name.to_owned() };
            let (file, size) = open(&base.join(from.as_deref().unwrap_or(name))).map_err(io)?.ok_or_else(changed)?;
            let mut header = header(EntryType::Regular, size, if *executable { 0o755 } else { 0o644 });
            let mut reader = Hashing::new(file);
            tar.append_data(&mut header, name, (&mut reader).take(size)).map_err(io)?;
            let grown = reader.inner.read(&mut [0]).map_err(io)? > 0;
            if reader.size != size || grown {
                return Err(changed());
            }
            let digest = format!("sha256:{:x}", reader.hash.finalize());
            Ok(Some(Artifact { name: name.to_owned(), digest, size: i64::try_from(size).unwrap_or(i64::MAX) }))
        }
    }
}

/// A regular file, opened without following a link and without waiting for a pipe; `None` where it became something else.
fn open(path: &Path) -> io::Result<Option<(File, u64)>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let about = file.metadata()?;
    Ok(about.is_file().then_some((file, about.len())))
}

fn header(kind: EntryType, size: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Counts and hashes what passes, either way.
struct Hashing<T> {
    inner: T,
    hash: Sha256,
    size: u64,
}

impl<T> Hashing<T> {
    fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new(), size: 0 }
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.passed(bytes.get(..n).unwrap_or_default());
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.passed(buffer.get(..n).unwrap_or_default());
        Ok(n)
    }
}
