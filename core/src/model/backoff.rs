//! Exponential backoff: how long to wait before something is tried again. Pure: waiting, and jitter, are up to the caller.

use std::time::Duration;

use jiff::Timestamp;

/// `first`, twice that, four times … and at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
}

impl Backoff {
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max }
    }

    /// The wait after this number of failures in a row, from 1; of 0 it is the first one as well.
    pub fn after(&self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.max)
    }

    /// What is left at `now` of the wait after this number of failures in a row, the last of them at `last`; `None`: nothing.
    pub fn left(&self, failures: u32, last: Timestamp, now: Timestamp) -> Option<Duration> {
        // A clock that was set back makes the last failure one of the future: no wait is longer than it was.
        let elapsed = Duration::try_from(now.duration_since(last)).unwrap_or_default();
        self.after(failures).checked_sub(elapsed).filter(|left| !left.is_zero())
    }

    /// The waits one after the other, without end. Make a new one where the row of failures is broken.
    pub fn waits(self) -> Waits {
        Waits { backoff: self, failures: 0 }
    }
}

/// See [`Backoff::waits`].
#[derive(Clone, Debug)]
pub struct Waits {
    backoff: Backoff,
    failures: u32,
}

impl Waits {
    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.backoff.after(self.failures)
    }

    /// The row of failures is broken: the next wait is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_doubles_up_to_its_maximum_and_never_overflows() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
        let seconds = |failures| backoff.after(failures).as_secs();
        assert_eq!([0, 1, 2, 3, 9, 10, 32, 33, u32::MAX].map(seconds), [1, 1, 2, 4, 256, 300, 300, 300, 300]);
    }

    #[test]
    fn a_reset_begins_again() {
        let mut waits = Backoff::new(Duration::from_millis(200), Duration::from_secs(2)).waits();
        let three: Vec<_> = (0..6).map(|_| waits.next_wait().as_millis()).collect();
        assert_eq!(three, [200, 400, 800, 1600, 2000, 2000]);
        waits.reset();
        assert_eq!(waits.next_wait().as_millis(), 200);
    }
}
