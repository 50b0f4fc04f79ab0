//! Configuration, wiring, lease, shutdown, and the development control plane. No knowledge of what is deployed.

pub mod config;
pub mod dev;
mod farewell;
pub mod lease;
pub mod operator;
pub mod telemetry;
mod view;
