//! Configuration, wiring, lease, shutdown, and the development control plane. No knowledge of what is deployed.

pub mod config;
mod data_folder;
pub mod dev;
pub(crate) mod lease;
mod namespace_state;
pub mod operator;
pub(crate) mod telemetry;
mod view;
pub mod wiring;
