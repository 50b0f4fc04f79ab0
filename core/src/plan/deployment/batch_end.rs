//! When the last batch has ended, as holds and status read it. It must not know how it comes about.

use std::time::Duration;

use jiff::Timestamp;

/// When the last batch has ended, and until when the next one waits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BatchEnd {
    /// For the record; `None` while an update is open, and before the first has ended.
    pub at: Option<Timestamp>,
    /// Where that is still to come.
    pub until: Option<Timestamp>,
}

impl BatchEnd {
    /// How long until time alone lets the next batch begin.
    pub fn due_in(&self, now: Timestamp) -> Option<Duration> {
        let left = self.until?.duration_since(now).as_secs();
        Some(Duration::from_secs(u64::try_from(left).unwrap_or(0).max(1)))
    }
}
