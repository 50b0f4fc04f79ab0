//! The operator's end: the bundle of one release for hosts that hold nothing, or one earlier release. It reads tars and writes bytes; the
//! same bytes for the same two releases, so that one bundle serves many hosts and a cut upload goes on.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use landfall_host_protocol::{Digest, EntryKind};
use sha2::{Digest as _, Sha256};
use zstd::stream::write::Encoder;

use crate::{
    delta,
    format::{DELTA, END, MAGIC, SAME, WHOLE, WINDOW_LOG, write_number},
    manifest::contents,
    release::Release,
    similar::Candidates,
};

const LEVEL: i32 = 3;
/// Bytes kept before the place that is looked at, for a pending literal.
const PENDING: u64 = 160 << 10;

/// A bundle that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub sha256: Digest,
    /// Bytes of the bundle.
    pub size: u64,
    /// Bytes of contents that the base has, of contents that are made from one of the base's, and of contents that come whole.
    pub same: u64,
    pub from_base: u64,
    pub whole: u64,
}

/// Writes the bundle of a release. `base`: the release that the hosts hold; `None`: every file is in the bundle.
pub fn write(release: &Release, base: Option<&Release>, out: impl Write) -> io::Result<Written> {
    let mut hashing = Hashing { inner: out, hash: Sha256::new(), size: 0 };
    hashing.write_all(MAGIC)?;
    let mut encoder = Encoder::new(&mut hashing, LEVEL)?;
    encoder.window_log(WINDOW_LOG)?;
    let mut out = io::BufWriter::with_capacity(128 << 10, encoder);

    let held: BTreeMap<&Digest, u64> = base.map(held).unwrap_or_default();
    let candidates = base.map(|base| (base, Candidates::new(base.manifest())));
    let (mut same, mut from_base, mut whole) = (0, 0, 0);
    for content in contents(release.manifest()) {
        let result = content.sha256.to_bytes();
        if held.get(content.sha256) == Some(&content.size) {
            out.write_all(&[SAME])?;
            out.write_all(&result)?;
            same += content.size;
            continue;
        }
        let missing = || io::Error::other(format!("{} is not in the release", content.first.path));
        let mut target = release.content(content.sha256, content.size).ok_or_else(missing)?.keeping(PENDING);
        let like = candidates.as_ref().and_then(|(base, candidates)| {
            let candidate = candidates.best(&content.first.path, content.size)?;
            Some((candidate, base.content(candidate.sha256, candidate.size)?))
        });
        if let Some((candidate, mut window)) = like {
            out.write_all(&[DELTA])?;
            out.write_all(&result)?;
            out.write_all(&candidate.sha256.to_bytes())?;
            write_number(&mut out, candidate.size)?;
            delta::write(&mut window, &mut target, &mut out)?;
            from_base += content.size;
            continue;
        }
        out.write_all(&[WHOLE])?;
        out.write_all(&result)?;
        let mut at = 0;
        while at < content.size {
            let bytes = target.from(at, 1)?;
            out.write_all(bytes)?;
            at += bytes.len() as u64;
        }
        whole += content.size;
    }
    out.write_all(&[END])?;
    let encoder = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    encoder.finish()?.flush()?;
    let sha256 = Digest::from_bytes(hashing.hash.finalize().into());
    Ok(Written { sha256, size: hashing.size, same, from_base, whole })
}

/// Contents of a release, with their sizes.
fn held(base: &Release) -> BTreeMap<&Digest, u64> {
    let files = base.manifest().entries.iter().filter_map(|entry| match &entry.kind {
        EntryKind::File { size, sha256, .. } => Some((sha256, *size)),
        EntryKind::Folder | EntryKind::Link { .. } => None,
    });
    files.collect()
}

/// Counts and hashes what is written.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..n).unwrap_or_default());
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
