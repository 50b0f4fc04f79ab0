//! What happens next to a Build. Pure: everything is in [`Observed`].
//!
//! The entry is `plan`: a chain of questions, the first that applies answers.

mod action;
mod admission;
mod attempt;
pub mod freeze;
mod milestones;
mod observed;
pub mod parameters;
mod plan;
mod publish;
pub mod resources;
pub mod stage;
mod status;
pub mod template;
mod version_exists;

pub use self::{
    action::Action,
    milestones::milestones,
    observed::{FormerVersion, Observed, ProjectObserved, ScriptEnd, Step, VersionOwner},
    plan::plan,
};
