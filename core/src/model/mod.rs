//! Each thing of the domain, once: names and ids, what hosts report, failures, and the records of the store. It must not decide.

pub mod backoff;
pub mod branch_patterns;
pub mod build;
pub mod class;
pub mod exit;
pub mod facts;
pub mod failure;
pub mod format;
pub mod ids;
pub mod keyed;
pub mod leading;
pub mod mirror;
pub mod names;
pub mod retry_state;
pub mod rollout;
pub mod text;
pub mod version;

pub use class::Class;
pub use failure::Failure;
