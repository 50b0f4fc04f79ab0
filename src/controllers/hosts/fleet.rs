//! What background tasks share that check hosts and act on them.

use super::registry::Registry;
use crate::{controllers::frame::Requeue, effects::gate::Gate, fleet::Budgets};

/// The hosts of all groups as background tasks use them. One for all kinds of one operator.
pub struct Fleet {
    pub hosts: Registry,
    /// What all connections share.
    pub budgets: Budgets,
    pub gate: Gate,
    pub requeue: Requeue,
    /// Uid of the namespace `kube-system`: which control plane this is.
    pub control_plane_id: String,
}
