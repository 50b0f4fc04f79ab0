//! landfall brings a chosen commit to chosen machines over plain SSH, and can always say which version runs where.
//!
//! The layers, and what each may use: `api ← plan ← effects ← controllers ← runtime ← main` (`server` stands beside
//! `controllers`, `cli` beside `runtime`). `tests/layering.rs` keeps the arrows.

pub mod api;
pub mod cli;
pub mod controllers;
pub mod effects;
pub mod plan;
pub mod runtime;
pub mod server;
