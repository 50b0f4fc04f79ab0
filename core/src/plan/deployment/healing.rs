//! Healing: when the next start of a process that had been ready is due, and how starts in a row are counted.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::backoff::Backoff;

/// Seconds after its last start from which a process counts as healed.
pub const HEALED_AFTER: i64 = 600;
/// Pauses between starts for healing.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(300));

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Healing {
    /// Starts in a row.
    pub starts: u32,
    pub last: Timestamp,
    /// Attempt of the rollout: a `retry` resets the count.
    pub attempt: i64,
}

impl Healing {
    /// After one more start. A process that lived for ten minutes resets the count.
    pub fn after(before: Option<Self>, attempt: i64, now: Timestamp) -> Self {
        let recent = before.filter(|before| before.counts(attempt, now));
        Self { starts: recent.map_or(0, |recent| recent.starts).saturating_add(1), last: now, attempt }
    }

    /// Whether it counts for this attempt now.
    pub fn counts(&self, attempt: i64, now: Timestamp) -> bool {
        self.attempt == attempt && now.duration_since(self.last).as_secs() <= HEALED_AFTER
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heal {
    Now,
    /// Seconds.
    In(u64),
}

/// When a process that had been ready is started again: at once, then after 10 s, twice as long each time, up to 5 min, without limit.
pub(crate) fn heal_due(healing: Option<Healing>, attempt: i64, now: Timestamp) -> Heal {
    let Some(healing) = healing.filter(|healing| healing.counts(attempt, now)) else { return Heal::Now };
    let pause = i64::try_from(BACKOFF.after(healing.starts).as_secs()).unwrap_or(i64::MAX);
    // A clock that was set back makes the last start one of the future: no wait is longer than the pause.
    let left = (pause - now.duration_since(healing.last).as_secs()).min(pause);
    if left <= 0 { Heal::Now } else { Heal::In(u64::try_from(left).unwrap_or(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_attempt_counts_from_one() {
        let now: Timestamp = "2026-11-24T09:00:00Z".parse().unwrap();
        let first = Healing::after(None, 1, now);
        assert_eq!(Healing::after(Some(first), 1, now).starts, 2);
        assert_eq!(Healing::after(Some(first), 2, now).starts, 1);
    }
}
