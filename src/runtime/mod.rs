//! Configuration, wiring, lease, shutdown, and the development control plane. No knowledge of what is deployed.

pub mod config;
mod data_folder;
pub mod dev;
mod leading;
pub mod operator;
mod store_owner;
pub(crate) mod telemetry;
mod view;
pub mod wiring;
