//! How all workers of a fleet are bounded.

use std::time::Duration;

use super::budget::Budgets;

/// The same for all groups.
#[derive(Clone)]
pub struct FleetSettings {
    /// Those of several fleets may be one.
    pub budgets: Budgets,
    /// How long a host of which nothing is known is waited for without a word.
    pub silent_wait: Duration,
}

impl Default for FleetSettings {
    fn default() -> Self {
        Self { budgets: Budgets::default(), silent_wait: Duration::from_secs(15) }
    }
}
