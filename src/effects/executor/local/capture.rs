//! A script's output into its log file, as it comes, and the times at which it came into an index beside it. It never makes the script
//! wait for the disk's end: what is too much is cut out of the middle, and said.

use std::{
    collections::VecDeque,
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
    time::Instant,
};

use super::{arrivals::Arrivals, files, masks::Masks};
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

/// Copies into the files of the attempt in `dir`, until the last writer is gone.
pub(super) fn capture(mut output: impl Read, dir: &Path, limit: u64, last: &LastOutput, mut masks: Masks) -> Captured {
    let log = File::options().create(true).append(true).open(dir.join(files::LOG)).ok();
    let mut sink = Sink::new(log, Arrivals::open(&dir.join(files::TIMES)), limit);
    let (mut buffer, mut shown) = (vec![0_u8; 64 * 1024], Vec::new());
    loop {
        match output.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                last.touch();
                masks.take(buffer.get(..n).unwrap_or_default(), &mut shown);
                sink.take(&shown, clock::now().as_second());
                shown.clear();
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    masks.end(&mut shown);
    sink.take(&shown, clock::now().as_second());
    sink.finish()
}

struct Sink<W, I> {
    file: Option<W>,
    arrivals: Arrivals<I>,
    /// Bytes that may still be written as they come.
    room: u64,
    written: u64,
    tail: VecDeque<u8>,
    /// When the tail's bytes arrived: the second, and the first byte of it, counted over all that was ever in the tail.
    tail_times: VecDeque<(u64, i64)>,
    /// Bytes that were ever in the tail, or were cut at once.
    tail_end: u64,
    cut: u64,
}

impl<W: Write + Seek, I: Write> Sink<W, I> {
    fn new(file: Option<W>, arrivals: Arrivals<I>, limit: u64) -> Self {
        Self {
            file,
            arrivals,
            room: limit.saturating_sub(TAIL as u64),
            written: 0,
            tail: VecDeque::new(),
            tail_times: VecDeque::new(),
            tail_end: 0,
            cut: 0,
        }
    }

    /// Bytes that arrived at that second.
    fn take(&mut self, bytes: &[u8], second: i64) {
        let head = usize::try_from(self.room).unwrap_or(usize::MAX).min(bytes.len());
        let (head, rest) = bytes.split_at(head);
        self.room -= head.len() as u64;
        if !head.is_empty() {
            self.arrived(0, second);
        }
        self.write(head);
        if !rest.is_empty() && self.tail_times.back().is_none_or(|(_, last)| *last != second) {
            self.tail_times.push_back((self.tail_end, second));
        }
        self.tail_end += rest.len() as u64;
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
        let begin = self.tail_begin();
        while self.tail_times.get(1).is_some_and(|(from, _)| *from <= begin) {
            self.tail_times.pop_front();
        }
    }

    fn tail_begin(&self) -> u64 {
        self.tail_end - self.tail.len() as u64
    }

    /// What is written to the file from now on, but for its next `skip` bytes, arrived at that second.
    fn arrived(&mut self, skip: u64, second: i64) {
        if !self.arrivals.wants(second) {
            return;
        }
        // Where it ends is asked of the file: notes of ours are in it as well.
        if let Some(Ok(end)) = self.file.as_mut().map(|file| file.seek(SeekFrom::End(0))) {
            self.arrivals.add(end + skip, second);
        }
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
        let begin = self.tail_begin();
        let times = std::mem::take(&mut self.tail_times);
        // The line that tells of the cut has the time at which the tail begins.
        if let Some((_, second)) = times.front() {
            self.arrived(0, *second);
        }
        if self.cut > 0 {
            let mark = format!("\n…{} bytes of output cut…\n", self.cut);
            self.write(mark.as_bytes());
        }
        for (from, second) in times {
            self.arrived(from.saturating_sub(begin), second);
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
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn entry(line: &str) -> (usize, i64) {
        let (offset, second) = line.split_once(' ').unwrap();
        (offset.parse().unwrap(), second.parse().unwrap())
    }

    proptest! {
        #[test]
        fn head_and_tail_are_kept_and_every_byte_is_accounted_for(pieces in proptest::collection::vec(0_usize..400_000, 0..12)) {
            let (mut file, mut index) = (Vec::new(), Vec::new());
            let arrivals = Arrivals::new(Some(&mut index), 0);
            let (mut sink, mut all) = (Sink::new(Some(Cursor::new(&mut file)), arrivals, 600_000), Vec::new());
            let mut seconds = Vec::new();
            for (n, len) in pieces.iter().enumerate() {
                let piece: Vec<u8> = (0..*len).map(|i| (i * 7 + n) as u8).collect();
                sink.take(&piece, n as i64);
                seconds.extend(std::iter::repeat_n(n as i64, piece.len()));
                all.extend(piece);
            }
            let captured = sink.finish();
            let entries: Vec<(usize, i64)> = String::from_utf8(index).unwrap().lines().map(entry).collect();
            let at = |offset: usize| entries.iter().rfind(|(from, _)| *from <= offset).map(|(_, second)| *second);
            // A byte of the head stands where it stood, one of the tail as far before the end.
            let head = if captured.cut == 0 { file.len() } else { 600_000 - TAIL };
            for offset in (0..head).step_by(997).chain(head.checked_sub(1)) {
                prop_assert_eq!(at(offset), Some(seconds[offset]), "byte {}", offset);
            }
            let tail = if captured.cut == 0 { 0 } else { TAIL };
            for before in (1..=tail).step_by(997).chain((tail > 0).then_some(tail)) {
                prop_assert_eq!(at(file.len() - before), Some(seconds[all.len() - before]), "byte {} from the end", before);
            }
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
