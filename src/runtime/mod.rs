//! Configuration, wiring, lease, shutdown, and the development control plane. No knowledge of what is deployed.

pub mod dev;
