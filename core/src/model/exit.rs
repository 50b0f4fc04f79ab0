//! How the script of a build ended.

use serde::{Deserialize, Serialize};

/// Why a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitReason {
    /// The script ended by itself; its code says how.
    Completed,
    TimedOut,
    IdleTimedOut,
    Cancelled,
    /// The kernel ended one of its processes, because all of them needed more memory than the limit.
    OutOfMemory,
    /// It tried to have more processes than the limit.
    ProcessLimit,
    /// The disk of the executor's folder was nearly full, whatever filled it.
    DiskFull,
    /// The sandbox could not be made, so the script never began; `message` says why.
    NotStarted,
}
