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
    let condition = retention.fault.as_ref().map(|fault| Extra {
        kind: RETENTION_FAILED,
        status: Some(true),
        reason: Reason::RetentionFailed,
        message: format!("{}; tried again", fault.message),
    });
    let at = match (&retention.fault, retention.last) {
        (Some(fault), _) => fault.backoff().retry_at.0,
        (None, Some(last)) if !retention.stale => last.checked_add(EVERY).unwrap_or(now),
        _ => now,
    };
    let due = now >= at;
    RetentionSchedule { now: due && !retention.running, next: (!due).then_some(at), condition }
}
