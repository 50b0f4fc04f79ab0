//! Builds end to end: a real API server, a real operator process, real git, real scripts in a real sandbox.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench;
mod faults;
mod leftovers;
mod queue;
mod recipes;
mod sandbox;
mod sources;
#[path = "../support/mod.rs"]
mod support;
mod triggers;
