//! A host whose line was too slow for the release: when it is tried again, and that nobody waits for it meanwhile.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{Failure, backoff::Backoff};

/// Pauses between uploads. What arrived is not sent again.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(30), Duration::from_secs(900));

/// Uploads to one host that were given up because of its line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlowUpload {
    /// Rollout and attempt of the last one: another rollout, or a retry, tries at once.
    pub rollout: String,
    pub attempt: i64,
    /// Uploads in a row.
    pub tries: u32,
    pub last: Timestamp,
    pub failure: Failure,
}

impl SlowUpload {
    /// After one more.
    pub fn after(before: Option<&Self>, rollout: &str, attempt: i64, now: Timestamp, failure: Failure) -> Self {
        let same = before.filter(|before| before.rollout == rollout && before.attempt == attempt);
        let tries = same.map_or(0, |before| before.tries).saturating_add(1);
        Self { rollout: rollout.to_owned(), attempt, tries, last: now, failure }
    }

    /// The time until it is tried again; `None`: now.
    pub(crate) fn pause(&self, rollout: &str, attempt: i64, now: Timestamp) -> Option<Duration> {
        let counts = self.rollout == rollout && self.attempt == attempt;
        counts.then(|| BACKOFF.left(self.tries, self.last, now)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Reason;

    #[test]
    fn the_pauses_grow_and_another_attempt_counts_from_one() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let failure = || Failure::waiting(Reason::UploadTooSlow, "5 bytes a second");
        let first = SlowUpload::after(None, "1.0", 1, at(0), failure());
        let second = SlowUpload::after(Some(&first), "1.0", 1, at(50), failure());
        assert_eq!((first.tries, second.tries), (1, 2));
        assert_eq!(SlowUpload::after(Some(&second), "1.0", 2, at(60), failure()).tries, 1);
        assert_eq!(SlowUpload::after(Some(&second), "2.0", 1, at(60), failure()).tries, 1);
    }
}
