//! What a person types: `landfall status …`, also as `kubectl landfall status …`. It reads and writes with the caller's own rights and decides
//! nothing: what a person asks for is written down as an annotation or a version, and the operator acts on it.

mod applicable;
mod application_log;
mod cluster;
pub mod commits;
pub mod completion;
pub mod deploy;
mod error;
mod follow;
mod git_owner;
pub mod history;
pub mod hosts;
pub mod logs;
pub mod matrix;
mod object;
mod output;
pub mod plan;
mod screen;
mod stamp;
mod state;
pub mod status;
pub mod verbs;
mod view;
pub mod wait;

pub use self::error::{CliError, ExitStatus};
