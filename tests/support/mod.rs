//! What tests stand on: a real control plane, real hosts. Each test program uses a part of it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod crash;
pub mod gitserver;
pub mod gitsshd;
pub mod hosts;
pub mod kstatus;
pub mod plane;
pub mod proxy;
pub mod repository;
pub mod rollout;
