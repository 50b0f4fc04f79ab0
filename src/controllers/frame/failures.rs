//! How often each object's reconcile failed in a row.

use std::collections::HashMap;

use parking_lot::Mutex;

/// Reconciles that failed in a row, by kind and object.
#[derive(Default)]
pub(super) struct Failures(Mutex<HashMap<String, u32>>);

impl Failures {
    /// One more; answers how many it is now.
    pub(super) fn add(&self, key: &str) -> u32 {
        let mut all = self.0.lock();
        let failures = all.entry(key.to_owned()).or_default();
        *failures = failures.saturating_add(1);
        *failures
    }

    pub(super) fn forget(&self, key: &str) {
        self.0.lock().remove(key);
    }
}
