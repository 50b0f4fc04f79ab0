//! What happens next to a Project: the listing of its branches and versions, and which build may run. Pure.

mod action;
mod concurrency;
mod grant;
mod listing;
mod observed;
mod plan;
mod retention_schedule;
mod spec;
mod status;
pub mod trigger;

pub use self::{
    action::Action,
    observed::{
        Candidate, Claim, Denied, GrantObserved, Head, Listing, Observed, Planned, PushesObserved, QueuePosition,
        RetentionObserved,
    },
    plan::plan,
};
