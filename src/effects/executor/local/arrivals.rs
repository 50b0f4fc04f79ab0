//! Writes the index of the times of a log (see [`crate::effects::log_times`]). A disk that is full costs the times, and nothing else.

use std::{fs::File, io::Write, path::Path};

use crate::effects::{log_times::entry, logs::INDEX_MAX};

/// Room that is kept for the last entry, which says that it is the last one.
const LAST_ENTRY_MAX: u64 = 64;

/// At most one entry for a second is written.
pub(super) struct Arrivals<W> {
    /// `None` where nothing more is written.
    file: Option<W>,
    written: u64,
    second: Option<i64>,
}

impl Arrivals<File> {
    /// The index in this file, which goes on where there is one.
    pub(super) fn open(path: &Path) -> Self {
        let file = File::options().create(true).append(true).open(path).ok();
        let written = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |file| file.len());
        Self::new(file, written)
    }
}

impl<W: Write> Arrivals<W> {
    pub(super) fn new(file: Option<W>, written: u64) -> Self {
        Self { file, written, second: None }
    }

    /// Whether bytes of that second are in need of an entry.
    pub(super) fn wants(&self, second: i64) -> bool {
        self.file.is_some() && self.second != Some(second)
    }

    /// The bytes from `offset` on, which are written next, arrived at that second.
    pub(super) fn add(&mut self, offset: u64, second: i64) {
        if !self.wants(second) {
            return;
        }
        self.second = Some(second);
        let line = entry(offset, Some(second));
        let is_full = self.written + line.len() as u64 > INDEX_MAX - LAST_ENTRY_MAX;
        let line = if is_full { entry(offset, None) } else { line };
        let written = self.file.as_mut().is_some_and(|file| file.write_all(line.as_bytes()).is_ok());
        self.written += line.len() as u64;
        if is_full || !written {
            self.file = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_entry_for_a_second_and_an_end_to_them_that_says_so() {
        let mut index = Vec::new();
        let mut arrivals = Arrivals::new(Some(&mut index), 0);
        for n in 0..400_000_u64 {
            arrivals.add(n * 3, 1_700_000_000 + (n / 2) as i64);
        }
        let index = String::from_utf8(index).unwrap();
        assert!(index.starts_with("0 1700000000\n6 1700000001\n"), "{}", &index[..60]);
        assert!(index.len() as u64 <= INDEX_MAX && index.len() as u64 > INDEX_MAX - 200, "{}", index.len());
        assert!(index.lines().last().unwrap().ends_with(" -"));
        assert_eq!(index.matches('-').count(), 1);
    }
}
