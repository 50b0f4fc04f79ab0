//! Configuration, wiring, lease, shutdown, and the development control plane. No knowledge of what is deployed.

pub mod config;
mod data_folder;
pub mod dev;
pub mod lease;
mod namespace_state;
pub mod operator;
pub mod telemetry;
mod view;
pub mod wiring;
