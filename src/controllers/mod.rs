//! One thin shell for all kinds: observe → plan → commit → act. No decisions.

pub mod build;
pub mod deployment;
pub mod frame;
pub mod garbage;
mod gone;
pub mod hostgroup;
pub mod hosts;
pub mod project;
mod releases;
mod repository;
pub mod tasks;
pub mod trouble;
pub mod wakes;
pub mod world;
