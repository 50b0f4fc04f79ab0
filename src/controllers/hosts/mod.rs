//! What is known of every host, how old that is, and the one connection to each. Reconciles read here and never ask a host;
//! background tasks ask and write here. It must not decide what is done on a host.

mod jump;
mod link;
mod memory;
mod pins;
mod problem;
mod turns;
mod watch;

pub use self::{
    link::{Link, link},
    memory::{Dial, GroupConfig, HostKey, Memory},
    pins::Pins,
    problem::{credentials_problem, problem, reason_of_ssh},
    turns::{TurnKey, Turns},
    watch::{after, probe, probe_over, watch},
};
