//! When an object is reconciled again after an error: soon, later each time, and not all objects at one moment.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kube::{ResourceExt, core::DeserializeGuard, runtime::controller::Action as ReconcileAction};
use parking_lot::Mutex;
use rand::Rng;

use super::{Context, Kind, ReconcileError, key};

/// Requeue delay while this process does not hold the lease.
const NOT_LEADING_DELAY: Duration = Duration::from_secs(2);
/// The longest delay after failures in a row.
const BACKOFF_MAX_SECONDS: u64 = 60;

/// Reconciles that failed in a row, by kind and object.
#[derive(Default)]
pub(super) struct Failures(Mutex<HashMap<String, u32>>);

impl Failures {
    /// One more; answers how many it is now.
    fn add(&self, key: &str) -> u32 {
        let mut all = self.0.lock();
        let failures = all.entry(key.to_owned()).or_default();
        *failures = failures.saturating_add(1);
        *failures
    }

    pub(super) fn forget(&self, key: &str) {
        self.0.lock().remove(key);
    }
}

/// Delays double from a second to a minute, with jitter.
pub(super) fn retry<K: Kind>(
    cached: Arc<DeserializeGuard<K>>,
    error: &ReconcileError,
    context: Arc<K::Context>,
) -> ReconcileAction {
    let Ok(object) = &cached.0 else { return ReconcileAction::await_change() };
    if matches!(error, ReconcileError::GateShut(_)) {
        return ReconcileAction::requeue(NOT_LEADING_DELAY);
    }
    if matches!(error, ReconcileError::Outdated) {
        return ReconcileAction::requeue(Duration::from_secs(1).mul_f64(rand::rng().random_range(0.1..1.0)));
    }
    let failures = context.shared().failures.add(&key(object));
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    tracing::warn!(kind = K::KIND, namespace, name, %error, failures, "reconcile failed; it is tried again");
    ReconcileAction::requeue(longest(failures).mul_f64(rand::rng().random_range(0.5..1.0)))
}

fn longest(failures: u32) -> Duration {
    Duration::from_secs((1_u64 << failures.saturating_sub(1).min(6)).min(BACKOFF_MAX_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_minute() {
        let seconds: Vec<u64> = (1..=9).map(|failures| longest(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(longest(u32::MAX).as_secs(), 60);
    }
}
