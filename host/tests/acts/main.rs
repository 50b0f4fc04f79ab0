//! Tasks on this very machine: real files, real processes, begun and killed as an operator and a broken machine would.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod bundles;
mod disk;
mod kill_points;
mod runner;
mod shell_helper;
mod stage;
mod support;
mod tasks;
#[path = "../support/tls.rs"]
mod tls;
mod updates;
