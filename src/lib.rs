//! landfall brings a chosen commit to chosen machines over plain SSH, and can always say which version runs where.
//!
//! The layers, and what each may use: `api ← model ← plan ← controllers ← runtime ← main`; `effects` stands beside `plan` and uses `model`
//! and `api` alone, `fleet` uses `effects` and knows no Kubernetes, `server` beside `controllers`, `cli` beside `runtime`. `tests/features/layering.rs` keeps the arrows; `api`, `model` and `plan` are the package `landfall-core`.

pub mod cli;
pub mod controllers;
pub mod effects;
pub mod fleet;
pub mod runtime;
mod server;

pub use landfall_core::{api, model, plan};
