//! The pace of an upload over a line that may be slow: how much of it is under way at most, so that a look at the host does not stand behind
//! megabytes, and whether the host has got enough of it in the time gone. It knows what the host said that it has, and sends nothing.

use std::time::{Duration, Instant};

use super::ProgramError;

/// Time over which the rate is judged, again and again: a line may become slow later.
const WINDOW: Duration = Duration::from_secs(5);
const WINDOW_MAX: Duration = Duration::from_secs(600);
/// Steps in which the host gets bytes that the least rate makes in that time: fewer say nothing.
const WINDOW_STEPS: u64 = 8;
/// Bytes of such a step, and the fewest under way.
pub(super) const STEP: u64 = 64 << 10;
/// Bytes under way at first, and the most.
const FIRST: u64 = 2 * STEP;
const MOST: u64 = 128 * STEP;
/// Time of an answer below which more may be under way, and above which less.
const SOON: Duration = Duration::from_millis(200);
const LATE: Duration = Duration::from_secs(1);

/// The pace of one upload.
pub(super) struct Pace {
    /// Bytes a second.
    least: u64,
    /// Bytes that the host has.
    there: u64,
    /// Bytes that may be under way.
    limit: u64,
    /// The window's begin, and what was there then.
    began: Instant,
    begin: u64,
    /// Time in the window that was spent waiting for the budget.
    granted: Duration,
}

impl Pace {
    pub fn new(least: u64, there: u64, now: Instant) -> Self {
        Self { least, there, limit: FIRST, began: now, begin: there, granted: Duration::ZERO }
    }

    /// Whether the next bytes wait until the host has more of those that were sent.
    pub fn is_full(&self, sent: u64) -> bool {
        sent.saturating_sub(self.there) >= self.limit
    }

    /// Bytes after which the host is asked what it has.
    pub fn interval(&self) -> u64 {
        (self.limit / 4).max(STEP)
    }

    /// Time that the budget took.
    pub fn granted(&mut self, time: Duration) {
        self.granted += time;
    }

    /// The longest time that the least rate needs for what is under way.
    pub fn window(&self) -> Duration {
        Duration::from_millis(WINDOW_STEPS * STEP * 1000 / self.least.max(1)).clamp(WINDOW, WINDOW_MAX)
    }

    /// The host has so many bytes, which it said after so long; whether these are more than before.
    pub fn has(&mut self, bytes: u64, after: Duration, now: Instant) -> Result<bool, ProgramError> {
        let more = bytes > self.there;
        if more {
            self.there = bytes;
            self.limit = match after {
                after if after < SOON => self.limit.saturating_mul(2).min(MOST),
                after if after > LATE => (self.limit / 2).max(STEP),
                _ => self.limit,
            };
        }
        self.judge(now)?;
        Ok(more)
    }

    fn judge(&mut self, now: Instant) -> Result<(), ProgramError> {
        let time = now.saturating_duration_since(self.began).saturating_sub(self.granted);
        if time < self.window() {
            return Ok(());
        }
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = (self.there - self.begin).saturating_mul(1000) / millis;
        if rate < self.least {
            return Err(self.too_slow(rate));
        }
        (self.began, self.begin, self.granted) = (now, self.there, Duration::ZERO);
        Ok(())
    }

    /// Bytes a second that it reached.
    pub fn too_slow(&self, rate: u64) -> ProgramError {
        ProgramError::TooSlow { what: "the upload", rate, least: self.least }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::clock;

    const SECOND: Duration = Duration::from_secs(1);

    /// What the host has at these seconds, each said after a second; the second at which it is too slow.
    fn judged(least: u64, has: impl IntoIterator<Item = (f64, u64)>) -> Option<f64> {
        let began = clock::monotonic();
        let mut pace = Pace::new(least, 0, began);
        let mut judge = |(at, bytes)| pace.has(bytes, SECOND, began + Duration::from_secs_f64(at)).is_err();
        has.into_iter().find(|one| judge(*one)).map(|(at, _)| at)
    }

    #[test]
    fn a_line_that_becomes_slow_is_seen_whatever_it_did_before() {
        // Ten megabytes a second, then ten kilobytes.
        let has = |n: u32| match n {
            n if n < 100 => (f64::from(n) / 10.0, u64::from(n) << 20),
            n => (10.0 + f64::from(n - 100), (100 << 20) + (u64::from(n - 100) * 10_000)),
        };
        let seen = judged(1 << 20, (0..200).map(has)).unwrap();
        assert!((10.0..=16.0).contains(&seen), "{seen}");
    }

    #[test]
    fn a_line_that_is_just_fast_enough_is_left_alone_and_a_pause_is_no_matter() {
        let steps = |seconds: f64| (1..100_u32).map(move |n| (f64::from(n) * seconds, u64::from(n) * STEP));
        assert_eq!(judged(16 << 10, steps(3.9)), None);
        assert_eq!(judged(16 << 10, steps(2.0).map(|(at, has)| (if at > 19.0 { at + 12.0 } else { at }, has))), None);
        assert!(judged(16 << 10, steps(6.5)).is_some_and(|at| at < 50.0));
    }

    #[test]
    fn a_host_that_gets_nothing_at_all_is_too_slow_once_the_window_is_over() {
        assert_eq!(judged(1 << 20, (0..20).map(|n| (f64::from(n), 0))), Some(5.0));
    }

    #[test]
    fn time_that_the_budget_took_does_not_count() {
        let began = clock::monotonic();
        let mut pace = Pace::new(1 << 20, 0, began);
        pace.granted(Duration::from_secs(60));
        assert_eq!(pace.has(1, SECOND, began + Duration::from_secs(62)), Ok(true));
        assert!(pace.has(1, SECOND, began + Duration::from_secs(66)).is_err());
    }

    #[test]
    fn more_is_under_way_on_a_fast_line_and_little_on_a_slow_one() {
        let now = clock::monotonic();
        let mut pace = Pace::new(1, 0, now);
        assert!(!pace.is_full(STEP) && pace.is_full(FIRST));
        for n in 1..20 {
            pace.has(n * STEP, Duration::from_millis(2), now).unwrap();
        }
        assert_eq!((pace.limit, pace.interval()), (MOST, MOST / 4));
        for n in 20..40 {
            pace.has(n * STEP, 6 * SECOND, now).unwrap();
        }
        assert_eq!((pace.limit, pace.interval()), (STEP, STEP));
        assert_eq!(pace.has(0, Duration::ZERO, now), Ok(false), "an answer from before");
        assert_eq!(pace.limit, STEP);
    }
}
