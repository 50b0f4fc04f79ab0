//! How many changes of objects were heard of, by namespace: whoever read something can tell whether it may be different now. Changes of a
//! status do not count, but where it wakes others.

use std::collections::HashMap;

use parking_lot::Mutex;

#[derive(Default)]
pub struct Changes(Mutex<HashMap<String, u64>>);

impl Changes {
    /// Number of changes so far.
    pub(crate) fn of(&self, namespace: &str) -> u64 {
        self.0.lock().get(namespace).copied().unwrap_or_default()
    }

    pub(super) fn note(&self, namespace: &str) {
        *self.0.lock().entry(namespace.to_owned()).or_default() += 1;
    }
}
