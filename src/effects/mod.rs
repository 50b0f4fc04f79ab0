//! The outside world: git, ssh, hosts, executors, the store and the clock. Effects do; they never decide.

pub mod api_server;
pub mod certificates;
pub mod clock;
pub mod executor;
pub mod gate;
pub mod git;
pub mod host;
pub mod logs;
pub mod names;
pub mod payload;
pub mod plain;
pub mod release;
pub mod remove;
pub mod rollout_logs;
pub mod secret;
pub mod ssh;
pub mod store;
