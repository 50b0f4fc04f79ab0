//! Faults of the control plane: whatever it answers, and whenever, the story of `story.rs` comes to its right end, nothing is done twice,
//! and then there is silence. The API server is real; a proxy in front of it does the harm. Rows of the fault list are named at the tests.
//!
//! What is left to chance comes from a seed, which is printed; `LANDFALL_SEED` sets it.

mod answers;
mod idle;
mod namespaces;
mod objects;
mod operators;
mod plane;
mod story;
mod watches;

use crate::support::chance;
