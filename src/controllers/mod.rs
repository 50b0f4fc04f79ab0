//! One thin shell for all kinds: observe → plan → commit → act. No decisions.

pub mod build;
pub mod deployment;
pub mod error;
mod failure;
pub mod frame;
pub mod gc;
pub mod hostgroup;
pub mod hosts;
pub mod project;
mod repository;
pub mod secrets;
pub mod tasks;
