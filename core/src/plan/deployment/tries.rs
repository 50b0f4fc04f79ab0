//! Goals that are tried again until they are reached: a host that is given up, a claim, the removal of surplus releases. How often they failed
//! in a row, why, and when the next try is due.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::goal_kind::GoalKind;
use crate::{
    api::Reason,
    model::{Failure, backoff::Backoff},
};

/// Pauses between tries.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(300));

/// Tries on one host that failed in a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailedTries {
    /// What was tried: anything else is begun at once.
    pub kind: GoalKind,
    pub tries: u32,
    pub last: Timestamp,
    /// Of the last one.
    pub failure: Failure,
    /// One of them failed in the drain.
    #[serde(default)]
    pub drain_failed: bool,
    /// Why the drain is left out since then: a person asked for it.
    #[serde(default)]
    pub skipped_drain: Option<String>,
}

impl FailedTries {
    /// After one more.
    pub fn after(before: Option<&Self>, kind: GoalKind, now: Timestamp, failure: Failure) -> Self {
        let same = before.filter(|before| before.kind == kind);
        let tries = same.map_or(0, |before| before.tries).saturating_add(1);
        let drain_failed = same.is_some_and(|before| before.drain_failed) || failure.reason == Reason::DrainFailed;
        let skipped_drain = same.and_then(|before| before.skipped_drain.clone());
        Self { kind, tries, last: now, failure, drain_failed, skipped_drain }
    }

    /// The time until the next one; `None`: now.
    pub(crate) fn pause(&self, now: Timestamp) -> Option<Duration> {
        BACKOFF.left(self.tries, self.last, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_grow_and_another_goal_counts_from_one() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let failure = |reason| Failure::terminal(reason, "exit status 1");
        let first = FailedTries::after(None, GoalKind::Remove, at(0), failure(Reason::DrainFailed));
        let second = FailedTries::after(Some(&first), GoalKind::Remove, at(10), failure(Reason::HelperFailed));
        assert_eq!((first.tries, second.tries, second.drain_failed), (1, 2, true));
        let left = |tries: &FailedTries, now| tries.pause(at(now)).map(|pause| pause.as_secs());
        assert_eq!([0, 4, 5].map(|now| left(&first, now)), [Some(5), Some(1), None]);
        assert_eq!([0, 19, 20].map(|now| left(&second, now)), [Some(10), Some(1), None], "the clock was set back");
        let other = FailedTries::after(Some(&second), GoalKind::Release, at(20), failure(Reason::HelperFailed));
        assert_eq!((other.tries, other.drain_failed), (1, false));
    }
}
