//! What a person types: `kubectl landfall …`, which is also `landfall …`. It reads with the caller's own rights and decides nothing.

mod screen;
pub mod status;
