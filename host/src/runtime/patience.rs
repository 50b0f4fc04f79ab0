//! How long a task waits for what others are about to say: once, however many of its steps ask. No wait is done here.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use crate::clock;

const MILLIS: &str = "LANDFALL_HOST_PATIENCE_MILLIS";

/// Begins with the first who waits.
#[derive(Debug, Default)]
pub struct Patience {
    end: Cell<Option<Instant>>,
}

impl Patience {
    /// What is left of it; `whole`: of one that begins now.
    pub fn left(&self, whole: impl FnOnce() -> Duration) -> Duration {
        let now = clock::monotonic();
        let end = self.end.get().unwrap_or_else(|| now + clock::unless_told(MILLIS, whole()));
        self.end.set(Some(end));
        end.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_often_it_is_asked_it_ends_once() {
        let patience = Patience::default();
        let first = patience.left(|| Duration::from_secs(5));
        assert!(first <= Duration::from_secs(5));
        assert!(patience.left(|| Duration::from_secs(500)) <= first);
        let none = Patience::default();
        assert!(none.left(|| Duration::ZERO).is_zero());
        assert!(none.left(|| Duration::from_secs(5)).is_zero());
    }
}
