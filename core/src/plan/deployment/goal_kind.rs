//! What may be wanted of a host. It says nothing of how that is reached.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GoalKind {
    /// The release is there, verified; no process is touched.
    Stage,
    /// This host is updated: the release runs and is ready.
    Run,
    /// A process that had been ready and ended is started again.
    Heal,
    /// The claim is given up.
    Release,
    /// Stopped and removed.
    Remove,
    /// A folder that another control plane acted on is adopted.
    Adopt,
    /// Surplus releases are removed: an update ended before it had pruned.
    Prune,
    /// The owner file is written again where the target runs without one: the host had been released. No process is touched.
    Claim,
}
