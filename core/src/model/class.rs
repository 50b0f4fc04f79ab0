//! What a caller may do about an error. Every effect's error says its class; deciding is the planner's.

use serde::{Deserialize, Serialize};

/// The three kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// May pass by itself: try again with backoff.
    Transient,
    /// Something is not there yet, or this process may not act now: look again, it is no failure.
    Waiting,
    /// A verdict: the same input gives the same answer until something is changed.
    Terminal,
}
