//! What a person types: `kubectl landfall …`, which is also `landfall …`. It reads with the caller's own rights and decides nothing.

pub mod commits;
pub mod hosts;
pub mod logs;
mod screen;
pub mod status;
mod view;
