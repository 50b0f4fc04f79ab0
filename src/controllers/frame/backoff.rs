//! When an object is reconciled again after an error: soon, later each time, and not all objects at one moment.

use std::{sync::Arc, time::Duration};

use kube::{ResourceExt, core::DeserializeGuard, runtime::controller::Action as ReconcileAction};
use rand::Rng;

use super::kind::{Context, Kind, key_of};
use crate::{controllers::error::ReconcileError, model::backoff::Backoff};

/// Requeue delay while this process does not hold the lease.
const NOT_LEADING_DELAY: Duration = Duration::from_secs(2);
/// Delays after failures in a row, before jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// Delays double from a second to a minute, with jitter.
pub(super) fn retry<K: Kind>(
    cached: Arc<DeserializeGuard<K>>,
    error: &ReconcileError,
    context: Arc<K::Context>,
) -> ReconcileAction {
    if matches!(error, ReconcileError::GateShut(_)) {
        return ReconcileAction::requeue(NOT_LEADING_DELAY);
    }
    if matches!(error, ReconcileError::Outdated) {
        return ReconcileAction::requeue(Duration::from_secs(1).mul_f64(rand::rng().random_range(0.1..1.0)));
    }
    let failures = context.shared().failures.add(&key_of::<K>(cached.as_ref()));
    let (namespace, name) = (cached.namespace().unwrap_or_default(), cached.name_any());
    tracing::warn!(kind = K::KIND, namespace, name, %error, failures, "reconcile failed; it is tried again");
    ReconcileAction::requeue(BACKOFF.after(failures).mul_f64(rand::rng().random_range(0.5..1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_minute() {
        let seconds: Vec<u64> = (1..=9).map(|failures| BACKOFF.after(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(BACKOFF.after(u32::MAX).as_secs(), 60);
    }
}
