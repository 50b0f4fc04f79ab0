//! What a person types: `landfall status …`, also as `kubectl landfall status …`. It reads with the caller's own rights and decides nothing.

mod application_log;
mod cluster;
pub mod commits;
pub mod completion;
mod error;
pub mod hosts;
pub mod logs;
mod object;
mod output;
mod screen;
mod state;
pub mod status;
mod view;

pub use self::error::{CliError, ExitStatus};
