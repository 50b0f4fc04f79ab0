//! Logs of builds and rollouts as they are read: a file that may still grow, or its sealed pieces in the store; one range of offsets for
//! both. It must not know what a line means.

use std::{
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::{
    gate::Gate,
    store::{BadPart, Key, Store, StoreError, keys},
};

/// What one sealed piece holds; only the last one may hold less.
pub(crate) const PIECE: u64 = 1024 * 1024;
/// The most that is looked through for the last lines.
const TAIL_SCAN_BYTES: u64 = 16 * PIECE;
const BLOCK: u64 = 64 * 1024;
/// The largest index of times: a day of output in every second. The output beyond it has no time.
pub(crate) const INDEX_MAX: u64 = 2 * PIECE;

/// One log. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    /// Where it is while it grows. It may be gone when all of it is sealed.
    pub file: PathBuf,
    /// Where the index of its times is while it grows (see [`super::log_times`]); `None` where its lines have times of their own.
    pub times: Option<PathBuf>,
    /// `logs/<uid>/<attempt>`, of which piece n is `/n`.
    pub folder: Key,
    pub store: Store,
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("the log can't be read: {0}; see that the data folder is there")]
    File(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<BadPart> for LogError {
    fn from(error: BadPart) -> Self {
        Self::Store(error.into())
    }
}

impl Log {
    /// Bytes in the file; `None` where there is none.
    pub(crate) async fn file_size(&self) -> Option<u64> {
        tokio::fs::metadata(&self.file).await.ok().map(|file| file.len())
    }

    /// Bytes that can be read now.
    pub async fn size(&self) -> Result<u64, LogError> {
        if let Some(size) = self.file_size().await {
            return Ok(size);
        }
        match self.sealed_pieces().await?.checked_sub(1) {
            None => Ok(0),
            Some(last) => Ok(last * PIECE + self.store.size(&keys::piece(&self.folder, last)).await?.unwrap_or(0)),
        }
    }

    /// Pieces that are in the store, by their names alone: it costs one listing, whatever they hold.
    pub(crate) async fn sealed_pieces(&self) -> Result<u64, LogError> {
        let keys = self.store.list(&self.folder).await?;
        let numbers = keys.iter().filter(|key| **key == keys::below(&self.folder, key.name()));
        Ok(numbers.filter_map(|key| key.name().parse::<u64>().ok()).max().map_or(0, |last| last + 1))
    }

    /// Copies pieces from number `from` on into the store: the whole ones, and where the log is over the last one, too. Answers how many
    /// pieces are there then, which is where the next call goes on: what is sealed is never read again.
    pub async fn seal(&self, gate: &Gate, from: u64, is_over: bool) -> Result<u64, LogError> {
        self.seal_pieces(gate, from, is_over, |n| read_file(&self.file, n * PIECE, PIECE)).await
    }

    async fn seal_pieces<F: Future<Output = io::Result<Option<Vec<u8>>>>>(
        &self,
        gate: &Gate,
        from: u64,
        is_over: bool,
        read: impl Fn(u64) -> F,
    ) -> Result<u64, LogError> {
        let mut n = from;
        loop {
            let piece = read(n).await?.unwrap_or_default();
            let is_whole = piece.len() as u64 == PIECE;
            if piece.is_empty() || !(is_whole || is_over) {
                return Ok(n);
            }
            self.store.create(gate, &keys::piece(&self.folder, n), piece).await?;
            n += 1;
            if !is_whole {
                return Ok(n);
            }
        }
    }

    /// Copies the index of the log's times into the store, when the log is over.
    pub(crate) async fn seal_times(&self, gate: &Gate) -> Result<(), LogError> {
        let (Some(file), key) = (&self.times, keys::log_times(&self.folder)) else { return Ok(()) };
        if self.store.size(&key).await?.is_some() {
            return Ok(());
        }
        let times = read_file(file, 0, INDEX_MAX).await?.unwrap_or_default();
        if !times.is_empty() {
            self.store.create(gate, &key, times).await?;
        }
        Ok(())
    }

    /// Bytes of the index of its times from `offset`, at most `most`; empty at the end, or where there is none.
    pub(crate) async fn read_times(&self, offset: u64, most: u64) -> Result<Vec<u8>, LogError> {
        let Some(file) = &self.times else { return Ok(Vec::new()) };
        match read_file(file, offset, most).await? {
            Some(bytes) => Ok(bytes),
            None => Ok(self.store.read(&keys::log_times(&self.folder), offset, most).await?),
        }
    }

    /// Raw bytes from `offset`, at most `most`; empty at the end. Show them only through [`super::plain`].
    pub async fn read(&self, offset: u64, most: u64) -> Result<Vec<u8>, LogError> {
        match read_file(&self.file, offset, most).await? {
            Some(bytes) => Ok(bytes),
            None => {
                let piece = keys::piece(&self.folder, offset / PIECE);
                Ok(self.store.read(&piece, offset % PIECE, most.min(PIECE - offset % PIECE)).await?)
            }
        }
    }

    /// Where the last `lines` lines begin; a CR ends a line, as it is shown. Of a log without line ends not more than 16 MiB is looked
    /// through.
    pub async fn last_lines(&self, lines: u64) -> Result<u64, LogError> {
        let size = self.size().await?;
        let (mut at, mut ends, mut next) = (size, 0, 0);
        if lines == 0 {
            return Ok(size);
        }
        while at > size.saturating_sub(TAIL_SCAN_BYTES) && at > 0 {
            // Blocks that end at multiples, so that none reaches over a piece's border.
            let from = (at - 1) / BLOCK * BLOCK;
            let block = self.read(from, at - from).await?;
            for (n, byte) in block.iter().enumerate().rev() {
                let offset = from + n as u64;
                let ends_line = *byte == b'\n' || (*byte == b'\r' && next != b'\n');
                next = *byte;
                // The end of the last line is not the begin of another.
                if ends_line && offset + 1 < size {
                    ends += 1;
                    if ends >= lines {
                        return Ok(offset + 1);
                    }
                }
            }
            at = from;
        }
        Ok(at)
    }
}

/// `None` where there is no such file.
fn read_file(path: &Path, offset: u64, most: u64) -> impl Future<Output = io::Result<Option<Vec<u8>>>> + use<> {
    let path = path.to_owned();
    let read = move || {
        let mut file = match std::fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    };
    async move { tokio::task::spawn_blocking(read).await.map_err(io::Error::other)? }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{effects::store::memory::Memory, model::ids::FenceToken};

    #[tokio::test]
    async fn file_and_sealed_pieces_read_the_same_at_every_offset() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::folder(dir.path().join("store")).unwrap();
        let gate = Gate::open_for(FenceToken { epoch: "e".into(), created: 0, transitions: 0 });
        let bytes: Vec<u8> =
            (0..2 * PIECE + 5000).map(|n| if n % 100 == 99 { b'\n' } else { b'a' + (n % 26) as u8 }).collect();
        let file = dir.path().join("log");
        let log =
            Log { file: file.clone(), times: None, folder: keys::log_folder("u", "1").unwrap(), store: store.clone() };
        assert_eq!(log.size().await.unwrap(), 0);
        std::fs::write(&file, &bytes).unwrap();
        let mut offsets = Vec::new();
        for sealed in [false, true] {
            if sealed {
                for (n, piece) in bytes.chunks(PIECE as usize).enumerate() {
                    store.create(&gate, &keys::piece(&log.folder, n as u64), piece.to_vec()).await.unwrap();
                }
                std::fs::remove_file(&file).unwrap();
            }
            assert_eq!(log.size().await.unwrap(), bytes.len() as u64);
            for offset in [0, 1, PIECE - 1, PIECE, 2 * PIECE + 4999, 2 * PIECE + 5000, 9 * PIECE] {
                let read = log.read(offset, 10).await.unwrap();
                let expected = bytes.get(offset as usize..).unwrap_or_default();
                assert!(expected.starts_with(&read) && read.is_empty() == expected.is_empty(), "{offset}");
            }
            let mut last = Vec::new();
            for lines in [0, 1, 2, 3000, 1_000_000] {
                last.push(log.last_lines(lines).await.unwrap());
            }
            offsets.push(last);
        }
        let size = bytes.len() as u64;
        // The log ends in the middle of a line.
        assert_eq!(offsets[0][..3], [size, size / 100 * 100, size / 100 * 100 - 100]);
        assert_eq!(offsets[0][4], 0);
        assert_eq!(offsets[0], offsets[1]);
    }

    #[tokio::test]
    async fn what_is_sealed_is_never_read_again_neither_from_the_file_nor_from_the_store() {
        let (memory, gate) =
            (Memory::default(), Gate::open_for(FenceToken { epoch: "e".into(), created: 0, transitions: 0 }));
        let folder = keys::log_folder("u", "1").unwrap();
        let log = Log { file: PathBuf::from("nowhere"), times: None, folder, store: memory.store() };
        // A log that grows by one piece and a half between two looks.
        let (looks, reads) = (40, AtomicUsize::new(0));
        let mut sealed = 0;
        for look in 1..=looks {
            let size = look * PIECE * 3 / 2;
            let read = |n: u64| {
                reads.fetch_add(1, Ordering::Relaxed);
                let length = size.saturating_sub(n * PIECE).min(PIECE);
                std::future::ready(Ok(Some(vec![b'x'; usize::try_from(length).unwrap()])))
            };
            // Every other look is that of an operator that was just started and remembers nothing.
            let from = if look % 2 == 0 { log.sealed_pieces().await.unwrap() } else { sealed };
            sealed = log.seal_pieces(&gate, from, look == looks, read).await.unwrap();
        }
        let pieces = looks * 3 / 2;
        assert_eq!(sealed, pieces);
        let reads = reads.load(Ordering::Relaxed) as u64;
        assert!(reads <= pieces + looks, "{reads} reads of {pieces} pieces in {looks} looks");
        assert_eq!(memory.reads(), 0, "what is in the store is known by its name");
        assert_eq!(log.size().await.unwrap(), pieces * PIECE);
    }
}
