//! Builds end to end: a real API server, a real operator process, real git, real scripts in a real sandbox.

mod executor;
mod faults;
mod leftovers;
mod queue;
mod recipes;
mod retention;
mod returns;
mod sandbox;
mod sources;
mod triggers;
