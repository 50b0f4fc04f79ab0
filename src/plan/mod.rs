//! Decisions: pure functions from what was observed, and `now`, to what to do. No I/O, no async, no clock, no client.

pub mod facts;
pub mod ids;
