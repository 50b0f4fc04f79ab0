//! Which hosts may begin their update: one file per strategy.

pub mod rolling;
