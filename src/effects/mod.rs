//! The outside world: git, ssh, hosts, executors, the store and the clock. Effects do; they never decide.

pub(crate) mod api_server;
pub(crate) mod certificates;
pub mod clock;
pub mod executor;
pub mod fair;
pub mod fresh;
pub mod gate;
pub mod git;
pub mod host;
pub(crate) mod log_times;
pub(crate) mod logs;
pub(crate) mod names;
pub mod payload;
pub(crate) mod plain;
pub mod program;
pub(crate) mod release;
pub(crate) mod remove;
pub mod rollout_logs;
pub mod secret;
pub mod ssh;
pub mod store;
