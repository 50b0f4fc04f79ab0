//! When the log's size is looked at: as its growth wants, so that what prints as fast as it can fills no disk and a quiet one costs nothing.

use std::time::{Duration, Instant};

use landfall_host_protocol::LogLimits;

use super::log;
use crate::{clock, folder::Folder};

/// Between two looks, within these.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

pub(super) struct Rotation {
    folder: Folder,
    limits: LogLimits,
    due: Instant,
    pause: Duration,
    looked: Instant,
    length: u64,
}

impl Rotation {
    pub(super) fn new(folder: &Folder, limits: &LogLimits) -> Self {
        let now = clock::monotonic();
        Self { folder: folder.clone(), limits: limits.clone(), due: now, pause: PAUSE_MIN, looked: now, length: 0 }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The next look is now.
    pub(super) fn hurry(&mut self) {
        self.due = clock::monotonic();
    }

    /// Rotates where it is time for a look; answers when the next one is due.
    pub(super) fn turn(&mut self) -> Instant {
        let now = clock::monotonic();
        if now >= self.due {
            self.look(now);
        }
        self.due
    }

    fn look(&mut self, now: Instant) {
        let length = self.log_length();
        let grown = length.saturating_sub(self.length);
        let time = now.saturating_duration_since(self.looked).max(Duration::from_millis(1));
        let mut left = length;
        if length > self.limits.max_bytes {
            // A disk too full is told by the facts.
            let _ = log::rotate(&self.folder, &self.limits);
            left = self.log_length();
        }
        // By its growth, until it is full again; a quiet one is looked at less and less.
        let room = self.limits.max_bytes.saturating_sub(left).max(1);
        let wanted = if grown == 0 { PAUSE_MAX } else { time.mul_f64((room as f64 / grown as f64).min(1000.0)) };
        self.pause = wanted.min(self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.due = clock::monotonic() + self.pause;
        self.looked = now;
        self.length = left;
    }

    fn log_length(&self) -> u64 {
        std::fs::symlink_metadata(self.folder.log(0)).map_or(0, |metadata| metadata.len())
    }
}
