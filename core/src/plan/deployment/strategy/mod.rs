//! Who may begin: one file per strategy.

pub mod rolling;
