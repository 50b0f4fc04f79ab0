//! How a background step failed, as the planner is told. What failed is an effect's business; what to do about it is decided from this.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::api::{Reason, common::Backoff};

/// The last failure of a step that runs in the background.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryState {
    pub reason: Reason,
    /// Says what to do.
    pub message: String,
    /// The same input gives the same answer: a person must act.
    #[serde(default)]
    pub terminal: bool,
    /// Failures in a row, from 1.
    #[serde(default = "once")]
    pub failures: i32,
    pub at: Timestamp,
}

fn once() -> i32 {
    1
}

impl RetryState {
    /// When the step is tried again.
    pub fn backoff(&self) -> Backoff {
        let before = Backoff {
            failures: self.failures.saturating_sub(1),
            retry_at: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.at),
        };
        let mut backoff = Backoff::after(Some(&before), self.at);
        if self.waits_for_a_secret() {
            // Somebody is about to mend it, and nobody tells us: Secrets are not watched.
            let soon = self.at.checked_add(SignedDuration::from_secs(30)).unwrap_or(self.at);
            backoff.retry_at.0 = backoff.retry_at.0.min(soon);
        }
        backoff
    }

    fn waits_for_a_secret(&self) -> bool {
        matches!(
            self.reason,
            Reason::SecretNotFound
                | Reason::SecretKeyMissing
                | Reason::SecretInvalid
                | Reason::SecretForbidden
                | Reason::SecretNotForThis
        )
    }
}
