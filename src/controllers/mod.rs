//! One thin shell for all kinds: observe → plan → commit → act. No decisions.

pub(crate) mod builds;
pub(crate) mod deployment;
pub(crate) mod error;
mod failure;
pub mod frame;
pub mod gc;
pub(crate) mod hostgroup;
pub(crate) mod hosts;
mod object;
pub(crate) mod project;
mod records;
mod repository;
pub(crate) mod secrets;
pub(crate) mod tasks;
