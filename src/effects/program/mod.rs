//! `landfall-host` on one host: how it gets there, and what is said to it over one SSH channel. It must not decide what is to be done.
//!
//! | file | job |
//! |---|---|
//! | `image.rs` | the program itself, as it was built into this one |
//! | `bootstrap.rs` | from a connection to the running program |
//! | `client.rs` | what can be asked of it; `put.rs` (with `pace.rs`: how fast), `task.rs`, `log.rs`: what takes more than one answer |
//! | `session.rs` | the tasks that write and read frames; `inbox.rs`, `pushes.rs`: what waits to be taken, bounded |
//! | `text.rs`, `error.rs` | what a host says, read as a stranger's |

mod bootstrap;
mod client;
mod error;
mod image;
mod inbox;
mod log;
mod pace;
mod pushes;
mod put;
mod session;
mod task;
mod text;

pub use self::{
    client::{ConnectOptions, Program, check_task},
    error::ProgramError,
    image::{Image, Images},
    log::{LogPart, LogStream},
    pushes::{ChangedFolders, FACTS_MAX, Pushes, Told, bytes_of},
    put::{ByteBudget, PutOptions},
    task::{TaskNews, TaskStream},
};
