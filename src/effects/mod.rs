//! The outside world: git, ssh, hosts, executors, the store and the clock. Effects do; they never decide.

pub mod clock;
pub mod gate;
