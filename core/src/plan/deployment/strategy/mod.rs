//! Which hosts may begin their update: one file per strategy, and the limit that the HostGroup sets to all of them. It must not read facts of
//! hosts itself.

pub(super) mod batches;
pub(super) mod canary;
pub mod min_available;
pub mod rolling;
pub(super) mod zones;
