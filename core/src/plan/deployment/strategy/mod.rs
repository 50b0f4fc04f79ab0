//! Which hosts may begin their update: one file per strategy. It must not read facts of hosts itself.

pub mod rolling;
