//! The time before each line of a log that is shown with times. Every answer begins with one, also in the middle of a line, and all are
//! of one width: whoever counts the bytes of an answer knows which of them are the log's.

use crate::{
    api::view::{NO_STAMP, STAMP_BYTES},
    effects::{log_times::Times, logs::Log},
};

/// Of one reading.
pub(crate) struct Stamps {
    times: Times,
    /// The log's next byte.
    at: u64,
    /// Whether a time comes before it.
    due: bool,
}

impl Stamps {
    pub fn new(log: &Log, from: u64, over: bool) -> Self {
        Self { times: Times::new(log.clone(), over), at: from, due: true }
    }

    /// To be called before bytes up to there are put.
    pub async fn read_to(&mut self, end: u64) {
        self.times.read(self.at, end).await;
    }

    /// The next bytes of the log, as they are shown, with the times of their lines.
    pub fn put(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(bytes.len() + STAMP_BYTES);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.due {
                shown.extend_from_slice(self.stamp().as_bytes());
            }
            shown.extend_from_slice(line);
            self.at += line.len() as u64;
            self.due = line.ends_with(b"\n");
        }
        shown
    }

    fn stamp(&mut self) -> String {
        let stamp = self.times.at(self.at).map(|time| format!("{time} "));
        stamp.filter(|stamp| stamp.len() == STAMP_BYTES).unwrap_or_else(|| NO_STAMP.to_owned())
    }
}
