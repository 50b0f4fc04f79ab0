//! A value that counts for a limited time.

use std::time::{Duration, Instant};

use super::clock;

/// A value with the time at which it was read. What holds it says for how long it counts.
#[derive(Clone, Copy, Debug)]
pub struct Fresh<T> {
    value: T,
    at: Instant,
}

impl<T> Fresh<T> {
    /// Read just now.
    pub fn now(value: T) -> Self {
        Self::read_at(value, clock::monotonic())
    }

    fn read_at(value: T, at: Instant) -> Self {
        Self { value, at }
    }

    /// The value, while it is younger than `ttl`.
    pub fn get(&self, ttl: Duration) -> Option<&T> {
        self.get_at(ttl, clock::monotonic())
    }

    /// The same, without the cell.
    pub fn into_inner(self, ttl: Duration) -> Option<T> {
        self.get(ttl).is_some().then_some(self.value)
    }

    fn get_at(&self, ttl: Duration, now: Instant) -> Option<&T> {
        (now.saturating_duration_since(self.at) < ttl).then_some(&self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_until_its_time_is_over() {
        let (read, ttl) = (clock::monotonic(), Duration::from_secs(10));
        let value = Fresh::read_at(7, read);
        assert_eq!(value.get_at(ttl, read), Some(&7));
        assert_eq!(value.get_at(ttl, read + Duration::from_millis(9_999)), Some(&7));
        assert_eq!(value.get_at(ttl, read + ttl), None);
    }
}
