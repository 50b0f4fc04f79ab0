//! Sessions of the real program over pipes: what an operator may ask, what a hostile one may try, and what a cut leaves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod application;
mod bytes;
mod client;
mod hostile;
mod logs;
mod looks;
mod recorded;
mod story;
mod tasks;
mod users;
