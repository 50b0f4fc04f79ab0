//! All tests against real parts (an API server, hosts, git servers), by feature, in one program; `tests/crashes` is the other one. What
//! they stand on is in `tests/support`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod api;
mod builds;
mod cli;
mod control_plane;
mod devplane;
mod git;
mod gitops;
mod hosts;
mod layering;
mod operator;
mod rights;
mod rollouts;
#[path = "../support/mod.rs"]
mod support;
mod view;
mod words;
