//! The inner layers of landfall: the kinds (`api`), each thing of the domain (`model`), and what is decided about them (`plan`). Pure: no I/O, no clock, no client.
//!
//! `api ← model ← plan`. A package of its own, so that Cargo keeps the arrow to everything outside, and a planner's test takes seconds.

pub mod api;
pub mod model;
pub mod plan;
