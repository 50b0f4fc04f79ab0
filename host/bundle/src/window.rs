//! A part of a file that is held in memory while it is read here and there. Reads that go on where the last one ended grow; a look
//! elsewhere reads little.

use std::{fs::File, io, os::unix::fs::FileExt};

/// Bytes that a look at a new place reads.
const LEAST: usize = 16 << 10;
/// Bytes that are held at most.
const MOST: usize = 512 << 10;
/// Bytes before the place that are kept, where nothing else is asked for.
const BACK: u64 = 4 << 10;

/// A section of a file.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    file: &'a File,
    offset: u64,
    length: u64,
    start: u64,
    held: Vec<u8>,
    next: usize,
    back: u64,
}

impl<'a> Window<'a> {
    /// `offset`, `length`: where the section lies in the file.
    pub(crate) fn new(file: &'a File, offset: u64, length: u64) -> Self {
        Self { file, offset, length, start: 0, held: Vec::new(), next: LEAST, back: BACK }
    }

    /// The same; `back`: bytes kept before the place that is looked at.
    #[cfg(feature = "write")]
    pub(crate) fn keeping(self, back: u64) -> Self {
        Self { back, ..self }
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Bytes from `at` on: as many as `want`, or up to the section's end; often more. An error where the file has become shorter.
    #[inline]
    pub(crate) fn from(&mut self, at: u64, want: usize) -> io::Result<&[u8]> {
        let whole = usize::try_from(self.length.saturating_sub(at)).unwrap_or(usize::MAX);
        let want = want.min(whole);
        if !self.holds(at, want) {
            self.read(at, want)?;
        }
        let skip = usize::try_from(at.saturating_sub(self.start)).unwrap_or(usize::MAX);
        Ok(self.held.get(skip..).unwrap_or_default())
    }

    #[cfg(feature = "write")]
    /// Bytes that end before `at`: as many as `want`, or from the section's begin; never more.
    pub(crate) fn before(&mut self, at: u64, want: usize) -> io::Result<&[u8]> {
        let begin = at.saturating_sub(want as u64);
        let length = usize::try_from(at - begin).unwrap_or(0);
        Ok(self.from(begin, length)?.get(..length).unwrap_or_default())
    }

    #[inline]
    fn holds(&self, at: u64, want: usize) -> bool {
        at >= self.start && at.saturating_add(want as u64) <= self.start + self.held.len() as u64
    }

    fn read(&mut self, at: u64, want: usize) -> io::Result<()> {
        let end = self.start + self.held.len() as u64;
        let goes_on = at >= self.start && at <= end && !self.held.is_empty();
        self.next = if goes_on { (self.next * 2).min(MOST) } else { LEAST };
        let start = at.saturating_sub(self.back);
        let size = usize::try_from(at - start).unwrap_or(0) + self.next.max(want);
        let size = size.min(usize::try_from(self.length.saturating_sub(start)).unwrap_or(usize::MAX));
        self.held.resize(size, 0);
        self.start = start;
        let read = self.file.read_exact_at(&mut self.held, self.offset.saturating_add(start));
        if read.is_err() {
            self.held.clear();
        }
        read
    }
}
