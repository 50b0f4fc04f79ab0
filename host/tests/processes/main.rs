//! Processes, keeper, probes and runtimes on this very machine: real processes, real files, real `/proc`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod application;
mod as_user;
#[path = "../session/client.rs"]
#[allow(dead_code)]
mod client;
mod commands;
mod contract;
mod due;
mod fuse;
mod host;
mod hostile;
mod identity;
mod keeper;
mod machine;
mod probes;
mod support;
mod systemd;
#[path = "../support/tls.rs"]
mod tls;
mod unended;
mod unit_tasks;
