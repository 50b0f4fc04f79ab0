//! A script's output into its log file, as it comes. It never makes the script wait for the disk's end: what is too much is cut out of
//! the middle, and said.

use std::{
    collections::VecDeque,
    fs::File,
    io::{Read, Write},
    path::Path,
    sync::Arc,
    time::Instant,
};

use super::masks::Masks;
use crate::effects::clock;
use parking_lot::Mutex;

/// The last output is kept whatever was printed before: it says why a build failed.
const TAIL: usize = 256 * 1024;

/// What was captured in the end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Captured {
    pub(super) bytes: u64,
    pub(super) cut: u64,
}

/// The time of the last output, for the idle timeout.
#[derive(Clone)]
pub(super) struct LastOutput(Arc<Mutex<Instant>>);

impl LastOutput {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(clock::monotonic())))
    }

    pub(super) fn at(&self) -> Instant {
        *self.0.lock()
    }

    fn touch(&self) {
        *self.0.lock() = clock::monotonic();
    }
}

/// Copies until the last writer is gone.
pub(super) fn capture(mut output: impl Read, log: &Path, limit: u64, last: &LastOutput, mut masks: Masks) -> Captured {
    let mut sink = Sink::new(File::options().create(true).append(true).open(log).ok(), limit);
    let (mut buffer, mut shown) = (vec![0_u8; 64 * 1024], Vec::new());
    loop {
        match output.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                last.touch();
                masks.take(buffer.get(..n).unwrap_or_default(), &mut shown);
                sink.take(&shown);
                shown.clear();
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    masks.end(&mut shown);
    sink.take(&shown);
    sink.finish()
}

struct Sink<W> {
    file: Option<W>,
    /// Bytes that may still be written as they come.
    room: u64,
    written: u64,
    tail: VecDeque<u8>,
    cut: u64,
}

impl<W: Write> Sink<W> {
    fn new(file: Option<W>, limit: u64) -> Self {
        Self { file, room: limit.saturating_sub(TAIL as u64), written: 0, tail: VecDeque::new(), cut: 0 }
    }

    fn take(&mut self, bytes: &[u8]) {
        let head = usize::try_from(self.room).unwrap_or(usize::MAX).min(bytes.len());
        let (head, rest) = bytes.split_at(head);
        self.room -= head.len() as u64;
        self.write(head);
        let rest = if rest.len() > TAIL {
            self.cut += (rest.len() - TAIL) as u64;
            rest.get(rest.len() - TAIL..).unwrap_or_default()
        } else {
            rest
        };
        let over = (self.tail.len() + rest.len()).saturating_sub(TAIL);
        self.tail.drain(..over);
        self.cut += over as u64;
        self.tail.extend(rest);
    }

    /// A disk that is full costs the log, not the build.
    fn write(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match self.file.as_mut().map(|file| file.write_all(bytes)) {
            Some(Ok(())) => self.written += bytes.len() as u64,
            _ => self.cut += bytes.len() as u64,
        }
    }

    fn finish(mut self) -> Captured {
        if self.cut > 0 {
            let mark = format!("\n…{} bytes of output cut…\n", self.cut);
            self.write(mark.as_bytes());
        }
        let tail = std::mem::take(&mut self.tail);
        let (a, b) = tail.as_slices();
        self.write(a);
        self.write(b);
        Captured { bytes: self.written, cut: self.cut }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn head_and_tail_are_kept_and_every_byte_is_accounted_for(pieces in proptest::collection::vec(0_usize..400_000, 0..12)) {
            let mut file = Vec::new();
            let (mut sink, mut all) = (Sink::new(Some(&mut file), 600_000), Vec::new());
            for (n, len) in pieces.iter().enumerate() {
                let piece: Vec<u8> = (0..*len).map(|i| (i * 7 + n) as u8).collect();
                sink.take(&piece);
                all.extend(piece);
            }
            let captured = sink.finish();
            prop_assert_eq!(captured.bytes, file.len() as u64);
            if captured.cut == 0 {
                prop_assert_eq!(&file, &all);
            } else {
                prop_assert!(file.len() < 600_000 + 100);
                prop_assert_eq!(&file[..600_000 - TAIL], &all[..600_000 - TAIL]);
                prop_assert_eq!(&file[file.len() - TAIL..], &all[all.len() - TAIL..]);
                prop_assert_eq!(600_000 + captured.cut, all.len() as u64);
            }
        }
    }
}
