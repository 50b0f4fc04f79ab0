//! Logs of builds and rollouts as they are read: a file that may still grow, or its sealed pieces in the store; one range of offsets for
//! both. It must not know what a line means.

use std::{
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
};

use super::store::{Key, Store, StoreError, keys};

/// What one sealed piece holds; only the last one may hold less.
pub const PIECE: u64 = 1024 * 1024;
/// The most that is looked through for the last lines.
const LOOK_THROUGH: u64 = 16 * PIECE;
const BLOCK: u64 = 64 * 1024;

/// One log. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    /// Where it is while it grows. It may be gone when all of it is sealed.
    pub file: PathBuf,
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

impl Log {
    /// Bytes in the file; `None` where there is none.
    pub async fn file_size(&self) -> Option<u64> {
        tokio::fs::metadata(&self.file).await.ok().map(|file| file.len())
    }

    /// Bytes that can be read now.
    pub async fn size(&self) -> Result<u64, LogError> {
        if let Some(size) = self.file_size().await {
            return Ok(size);
        }
        let mut pieces = 0;
        for key in self.store.list(&self.folder).await? {
            let number =
                key.name().parse::<u64>().ok().filter(|_| key.as_str() == format!("{}/{}", self.folder, key.name()));
            pieces = pieces.max(number.map_or(0, |number| number + 1));
        }
        match pieces.checked_sub(1) {
            None => Ok(0),
            Some(last) => Ok(last * PIECE + self.store.size(&keys::piece(&self.folder, last)).await?.unwrap_or(0)),
        }
    }

    /// Raw bytes from `offset`, at most `most`; empty at the end. Show them only through [`super::plain`].
    pub async fn read(&self, offset: u64, most: u64) -> Result<Vec<u8>, LogError> {
        let file = self.file.clone();
        let read = move || -> io::Result<Option<Vec<u8>>> {
            let mut file = match std::fs::File::open(file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            file.seek(SeekFrom::Start(offset))?;
            let mut bytes = Vec::new();
            file.take(most).read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        };
        let read = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?;
        match read? {
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
        while at > size.saturating_sub(LOOK_THROUGH) && at > 0 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{effects::gate::Gate, model::ids::FenceToken};

    #[tokio::test]
    async fn file_and_sealed_pieces_read_the_same_at_every_offset() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::folder(dir.path().join("store")).unwrap();
        let gate = Gate::open_for(FenceToken { epoch: "e".into(), created: 0, transitions: 0 });
        let bytes: Vec<u8> =
            (0..2 * PIECE + 5000).map(|n| if n % 100 == 99 { b'\n' } else { b'a' + (n % 26) as u8 }).collect();
        let file = dir.path().join("log");
        let log = Log { file: file.clone(), folder: keys::log_folder("u", "1").unwrap(), store: store.clone() };
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
}
