//! When retention is applied. What it no longer keeps decides [`crate::plan::gc::retention`].

use jiff::{SignedDuration, Timestamp};

use super::Observed;
use crate::api::{Reason, conditions::Extra, project::RETENTION_FAILED};

/// Logs grow old, and Deployments stop needing versions, without an event.
const EVERY: SignedDuration = SignedDuration::from_hours(1);

pub(super) struct RetentionSchedule {
    /// Run now.
    pub(super) now: bool,
    /// Time of the next run, if nothing happens.
    pub(super) next: Option<Timestamp>,
    pub(super) condition: Option<Extra>,
}

pub(super) fn decide(observed: &Observed, now: Timestamp) -> RetentionSchedule {
    let retention = &observed.retention;
    let condition = retention.retry_state.as_ref().map(|retry_state| Extra {
        kind: RETENTION_FAILED,
        status: Some(true),
        reason: Reason::RetentionFailed,
        message: format!("{}; tried again", retry_state.message),
    });
    let at = match (&retention.retry_state, retention.last) {
        (Some(retry_state), _) => retry_state.backoff().retry_at.0,
        (None, Some(last)) if !retention.stale => last.checked_add(EVERY).unwrap_or(now),
        _ => now,
    };
    let due = now >= at;
    RetentionSchedule { now: due && !retention.running, next: (!due).then_some(at), condition }
}
