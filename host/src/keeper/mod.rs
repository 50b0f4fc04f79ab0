//! The keeper: a small process above one application. It starts it, waits for it, knows how it ended, starts it again, asks its probes,
//! rotates its log, and ends what it keeps when an act tells it to.
//!
//! It takes no lock, writes no journal, and what it does by itself stands in `state` alone. An application writes to its log directly, so no
//! death of a keeper breaks it: the next look puts a keeper beside it.

mod asked;
mod client;
mod command;
mod ending;
mod environment;
mod executable;
mod hands;
mod keep;
pub mod launch;
mod log;
mod order;
mod readiness;
mod restart;
mod rotation;
mod signals;
mod state;

pub use client::{is_living, stand_down, start, upgrade};
pub use ending::{Unended, end, grace, unended};
pub use environment::{PATH, environment, missing_secret};
pub use executable::foreign_machine;
pub use hands::{Begun, Belonging, Executed, Exit, Hands, Own, UnderWay, hands_of, login};
pub use keep::{run, run_check, run_upgraded};
pub use log::{clean, open as open_log, rotate as rotate_log, tail, told_lines};
pub use order::{Order, Work};
pub(crate) use readiness::Tries;
pub(crate) use signals::Signals;
pub use state::{KeeperRecord, Phase, State};
