//! The host's end: a bundle becomes files. Whatever the bundle holds, nothing but the manifest's files is made, none is larger than the
//! manifest says, and each is hashed before it counts. It holds a window of each file and the 2 MiB that zstd may go back.
//!
//! Where files lie, folders, links, modes, syncs and names are the caller's.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    os::unix::fs::FileExt,
};

use landfall_host_protocol::{Digest, Entry, Manifest};
use sha2::{Digest as _, Sha256};
use zstd::stream::read::Decoder;

use crate::{
    format::{DELTA, END, MAGIC, SAME, WHOLE, WINDOW_LOG, read_byte, read_number, unzigzag},
    manifest::{Content, check, contents},
    window::Window,
};

/// What the caller does for [`apply`].
pub trait Files {
    /// A file of the base release with this content; `None` where there is none. It need not be verified.
    fn base(&mut self, sha256: &Digest) -> io::Result<Option<File>>;

    /// A new, empty file for an entry of the manifest, to be read and written.
    fn create(&mut self, entry: &Entry) -> io::Result<File>;

    /// The file is whole and was hashed: mode, sync.
    fn finish(&mut self, entry: &Entry, file: File) -> io::Result<()>;
}

/// Where the bytes of a release came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Bytes that were copied from files of the base, and from files with the same content.
    pub copied: u64,
    /// Bytes that were in the bundle.
    pub sent: u64,
}

/// Why a release could not be assembled. After all of them but [`ApplyError::Read`] and [`ApplyError::Write`] the bundle without a base
/// may help.
#[derive(Debug)]
pub enum ApplyError {
    /// The bundle is not one for this manifest.
    Malformed { entry: Option<String>, why: String },
    /// The base release has no such file.
    BaseMissing { entry: String, base: Digest },
    /// A file of the base can't be read, or is shorter than it was.
    Base { entry: String, error: io::Error },
    /// What came out is not what the manifest says: a file of the base was changed, or the bundle is wrong.
    Mismatch { entry: String, expected: Digest, got: Digest },
    /// The bundle can't be read.
    Read(io::Error),
    /// A file can't be made or written.
    Write { entry: String, error: io::Error },
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { entry: Some(entry), why } => write!(f, "the bundle is wrong at {entry}: {why}"),
            Self::Malformed { entry: None, why } => write!(f, "the bundle is wrong: {why}"),
            Self::BaseMissing { entry, base } => write!(f, "{entry} is made from a file that is not here ({base})"),
            Self::Base { entry, error } => write!(f, "{entry} is made from a file that can't be read: {error}"),
            Self::Mismatch { entry, expected, got } => write!(f, "{entry} has SHA-256 {got}, expected {expected}"),
            Self::Read(error) => write!(f, "the bundle can't be read: {error}"),
            Self::Write { entry, error } => write!(f, "{entry} can't be written: {error}"),
        }
    }
}

impl std::error::Error for ApplyError {}

/// Bytes that are moved at once.
const PIECE: usize = 64 << 10;

/// Makes every file of a manifest from a bundle. After an error what was made is to be removed.
pub fn apply(manifest: &Manifest, bundle: impl Read, files: &mut impl Files) -> Result<Applied, ApplyError> {
    check(manifest).map_err(|error| ApplyError::Malformed { entry: Some(error.entry), why: error.why })?;
    let mut records = Records::open(bundle)?;
    let mut applied = Applied::default();
    for content in contents(manifest) {
        let entry = content.first;
        let kind = records.header(&content)?;
        let file = files.create(entry).map_err(|error| write_failed(entry, error))?;
        match kind {
            SAME => {
                let base = base(files, entry, content.sha256)?;
                copy_whole(&base, &file, &content, entry)?;
                applied.copied += content.size;
            }
            WHOLE => {
                let mut sink = Sink::new(&file, entry, content.size);
                records.literal(&mut sink, content.size)?;
                applied.sent += content.size;
                sink.finish(content.sha256)?;
            }
            DELTA => {
                let sha256 = records.digest(entry)?;
                let size = records.number(entry)?;
                let base = base(files, entry, &sha256)?;
                let length = base.metadata().map_err(|error| base_failed(entry, error))?.len();
                if length != size {
                    let error = io::Error::other(format!("it has {length} bytes instead of {size}"));
                    return Err(base_failed(entry, error));
                }
                let mut sink = Sink::new(&file, entry, content.size);
                records.delta(&mut Window::new(&base, 0, size), &mut sink, &mut applied)?;
                sink.finish(content.sha256)?;
            }
            other => return Err(malformed(entry, format!("a record of the unknown kind {other}"))),
        }
        for other in &content.others {
            let copy = files.create(other).map_err(|error| write_failed(other, error))?;
            copy_whole(&file, &copy, &content, other)?;
            applied.copied += content.size;
            files.finish(other, copy).map_err(|error| write_failed(other, error))?;
        }
        files.finish(entry, file).map_err(|error| write_failed(entry, error))?;
    }
    records.close()?;
    Ok(applied)
}

fn base(files: &mut impl Files, entry: &Entry, sha256: &Digest) -> Result<File, ApplyError> {
    let base = files.base(sha256).map_err(|error| base_failed(entry, error))?;
    base.ok_or_else(|| ApplyError::BaseMissing { entry: entry.path.clone(), base: sha256.clone() })
}

/// Copies by reflink or within the kernel where the file system can, then hashes what came out.
fn copy_whole(from: &File, to: &File, content: &Content<'_>, entry: &Entry) -> Result<(), ApplyError> {
    let write = |error| write_failed(entry, error);
    let mut source = from;
    io::Seek::rewind(&mut source).map_err(|error| base_failed(entry, error))?;
    // One byte more would show that the file has grown.
    let mut source = source.take(content.size.saturating_add(1));
    let mut target = to;
    let copied = io::copy(&mut source, &mut target).map_err(write)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    loop {
        let n = to.read_at(&mut buffer, at).map_err(write)?;
        if n == 0 {
            break;
        }
        hash.update(buffer.get(..n).unwrap_or_default());
        at += n as u64;
    }
    let got = finished(hash);
    if copied != content.size || got != *content.sha256 {
        return Err(ApplyError::Mismatch { entry: entry.path.clone(), expected: content.sha256.clone(), got });
    }
    Ok(())
}

fn finished(hash: Sha256) -> Digest {
    Digest::from_bytes(hash.finalize().into())
}

fn write_failed(entry: &Entry, error: io::Error) -> ApplyError {
    ApplyError::Write { entry: entry.path.clone(), error }
}

fn base_failed(entry: &Entry, error: io::Error) -> ApplyError {
    ApplyError::Base { entry: entry.path.clone(), error }
}

fn malformed(entry: &Entry, why: impl Into<String>) -> ApplyError {
    ApplyError::Malformed { entry: Some(entry.path.clone()), why: why.into() }
}

/// The records of a bundle, as they come.
struct Records<'a, R: Read> {
    from: BufReader<Decoder<'a, BufReader<Noting<R>>>>,
}

impl<R: Read> Records<'_, R> {
    fn open(bundle: R) -> Result<Self, ApplyError> {
        let mut raw = BufReader::with_capacity(PIECE, Noting { inner: bundle, failed: None });
        let mut magic = [0; MAGIC.len()];
        let read = raw.read_exact(&mut magic);
        if let Some(kind) = raw.get_ref().failed {
            return Err(ApplyError::Read(kind.into()));
        }
        if read.is_err() || magic != MAGIC {
            return Err(ApplyError::Malformed { entry: None, why: "it begins with other bytes".to_owned() });
        }
        let open = |raw| -> io::Result<Self> {
            let mut decoder = Decoder::with_buffer(raw)?;
            decoder.window_log_max(WINDOW_LOG)?;
            Ok(Self { from: BufReader::with_capacity(PIECE, decoder) })
        };
        open(raw).map_err(ApplyError::Read)
    }

    /// Why bytes could not be had: the bundle's file, or what is in it.
    fn failed(&self, entry: Option<&Entry>, error: &io::Error) -> ApplyError {
        match self.from.get_ref().get_ref().get_ref().failed {
            Some(kind) => ApplyError::Read(kind.into()),
            None => {
                let entry = entry.map(|entry| entry.path.clone());
                let early = error.kind() == io::ErrorKind::UnexpectedEof;
                let why = if early { "it ends too early".to_owned() } else { error.to_string() };
                ApplyError::Malformed { entry, why }
            }
        }
    }

    /// The kind of the next record, which has to be that of this content.
    fn header(&mut self, content: &Content<'_>) -> Result<u8, ApplyError> {
        let entry = content.first;
        let kind = read_byte(&mut self.from).map_err(|error| self.failed(Some(entry), &error))?;
        if kind == END {
            return Err(malformed(entry, "it is not in the bundle"));
        }
        let result = self.digest(entry)?;
        if result != *content.sha256 {
            return Err(malformed(entry, format!("the bundle has {result} in its place")));
        }
        Ok(kind)
    }

    fn digest(&mut self, entry: &Entry) -> Result<Digest, ApplyError> {
        let mut bytes = [0; 32];
        self.from.read_exact(&mut bytes).map_err(|error| self.failed(Some(entry), &error))?;
        Ok(Digest::from_bytes(bytes))
    }

    fn number(&mut self, entry: &Entry) -> Result<u64, ApplyError> {
        read_number(&mut self.from).map_err(|error| self.failed(Some(entry), &error))
    }

    /// So many bytes of the bundle.
    fn literal(&mut self, sink: &mut Sink<'_>, length: u64) -> Result<(), ApplyError> {
        let mut left = length;
        while left > 0 {
            let bytes = match self.from.fill_buf() {
                Ok([]) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => Ok(bytes.len()),
                Err(error) => Err(error),
            };
            let bytes = bytes.map_err(|error| self.failed(Some(sink.entry), &error))?;
            let most = bytes.min(usize::try_from(left).unwrap_or(usize::MAX));
            sink.write(self.from.buffer().get(..most).unwrap_or_default())?;
            self.from.consume(most);
            left -= most as u64;
        }
        Ok(())
    }

    /// Ops until the sink is full.
    fn delta(&mut self, base: &mut Window<'_>, sink: &mut Sink<'_>, applied: &mut Applied) -> Result<(), ApplyError> {
        let entry = sink.entry;
        let mut expected: u64 = 0;
        while sink.left > 0 {
            let literal = self.number(entry)?;
            sink.expect(literal)?;
            self.literal(sink, literal)?;
            applied.sent += literal;
            let copy = self.number(entry)?;
            expected = expected.saturating_add(literal);
            if copy > 0 {
                sink.expect(copy)?;
                let distance = unzigzag(self.number(entry)?);
                let offset = expected.checked_add_signed(distance);
                let within = |offset: &u64| offset.checked_add(copy).is_some_and(|end| end <= base.length());
                let offset = offset.filter(within).ok_or_else(|| malformed(entry, "a copy reaches out of its base"))?;
                sink.copy(base, offset, copy)?;
                applied.copied += copy;
                expected = offset + copy;
            } else if literal == 0 {
                return Err(malformed(entry, "an op does nothing"));
            }
        }
        Ok(())
    }

    /// Nothing is left.
    fn close(mut self) -> Result<(), ApplyError> {
        let wrong = |why: &str| Err(ApplyError::Malformed { entry: None, why: why.to_owned() });
        match read_byte(&mut self.from) {
            Ok(END) => {}
            Ok(_) => return wrong("it holds more than the manifest's files"),
            Err(error) => return Err(self.failed(None, &error)),
        }
        match self.from.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => wrong("it goes on after its end"),
            Err(error) => Err(self.failed(None, &error)),
        }
    }
}

/// A file that is being made, no larger than the manifest says.
struct Sink<'a> {
    out: BufWriter<&'a File>,
    hash: Sha256,
    entry: &'a Entry,
    left: u64,
}

impl<'a> Sink<'a> {
    fn new(file: &'a File, entry: &'a Entry, size: u64) -> Self {
        Self { out: BufWriter::with_capacity(PIECE, file), hash: Sha256::new(), entry, left: size }
    }

    /// Refuses what would be too many bytes before the first of them is written.
    fn expect(&self, length: u64) -> Result<(), ApplyError> {
        if length > self.left {
            return Err(malformed(self.entry, "it has more bytes than the manifest says"));
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ApplyError> {
        self.expect(bytes.len() as u64)?;
        self.hash.update(bytes);
        self.out.write_all(bytes).map_err(|error| write_failed(self.entry, error))?;
        self.left -= bytes.len() as u64;
        Ok(())
    }

    fn copy(&mut self, base: &mut Window<'_>, offset: u64, length: u64) -> Result<(), ApplyError> {
        let mut done = 0;
        while done < length {
            let most = usize::try_from(length - done).unwrap_or(usize::MAX);
            let bytes = base.from(offset + done, 1).map_err(|error| base_failed(self.entry, error))?;
            let bytes = bytes.get(..most.min(bytes.len())).unwrap_or_default();
            if bytes.is_empty() {
                return Err(base_failed(self.entry, io::ErrorKind::UnexpectedEof.into()));
            }
            self.write(bytes)?;
            done += bytes.len() as u64;
        }
        Ok(())
    }

    fn finish(mut self, expected: &Digest) -> Result<(), ApplyError> {
        self.out.flush().map_err(|error| write_failed(self.entry, error))?;
        let got = finished(self.hash);
        if got != *expected {
            return Err(ApplyError::Mismatch { entry: self.entry.path.clone(), expected: expected.clone(), got });
        }
        Ok(())
    }
}

/// Remembers that the bundle itself could not be read, which zstd would call damage.
struct Noting<R> {
    inner: R,
    failed: Option<io::ErrorKind>,
}

impl<R: Read> Read for Noting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer);
        if let Err(error) = &read
            && error.kind() != io::ErrorKind::Interrupted
        {
            self.failed = Some(error.kind());
        }
        read
    }
}
