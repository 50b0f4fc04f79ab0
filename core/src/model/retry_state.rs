//! How a background step failed, for the planner, which decides from this what to do about it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use super::{Class, Failure, backoff::Backoff};
use crate::api::{Reason, common::RetryAt};

/// 1 s, 2 s, 4 s … up to five minutes.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
/// Secrets are not watched, so one that is missing is looked for at least this often.
const SECRET_RETRY_MAX: Duration = Duration::from_secs(30);

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
    /// One more failure; `before`: the one that it follows in the row.
    pub fn after(before: Option<&Self>, failure: &Failure, at: Timestamp) -> Self {
        Self {
            reason: failure.reason,
            message: failure.message.clone(),
            terminal: failure.class == Class::Terminal,
            failures: before.map_or(0, |before| before.failures).saturating_add(1),
            at,
        }
    }

    /// When the step is tried again.
    pub fn backoff(&self) -> RetryAt {
        let mut wait = RETRY.after(u32::try_from(self.failures).unwrap_or(1));
        if self.waits_for_a_secret() {
            wait = wait.min(SECRET_RETRY_MAX);
        }
        let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
        let retry_at = self.at.checked_add(wait).unwrap_or(self.at);
        RetryAt { failures: self.failures.max(1), retry_at: Time(retry_at) }
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
