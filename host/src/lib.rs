//! The program on a host. It acts for one rollout at a time, keeps the application, and tells what is true (docs/host-protocol.md).
//!
//! No name service (getpw*, getgr*, getaddrinfo): a static program dies in them. Nothing listens, nothing needs root.

pub mod clock;
pub mod facts;
pub mod failure;
pub mod files;
pub mod folder;
pub mod gate;
pub mod incoming;
pub mod process;
pub mod program;
pub mod records;
pub mod runtime;
pub mod session;
pub mod steps;
pub mod task;
pub mod unsynced;

use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

const USAGE: &str = "usage: landfall-host session ROOT";

/// Exit status for arguments that mean nothing.
const MISUSED: u8 = 2;

/// Runs the command that the arguments name; answers the exit status.
pub fn run(arguments: Vec<OsString>) -> u8 {
    let arguments: Vec<&OsStr> = arguments.iter().skip(1).map(OsString::as_os_str).collect();
    match arguments.as_slice() {
        [command, root] if *command == "session" => session::run(Path::new(root)),
        [command, root, folder, task] if *command == "run-task" => task::run_command(root, folder, task),
        [command, root, folder] if *command == "undo-task" => task::undo_command(root, folder),
        #[cfg(debug_assertions)]
        [command, root] if *command == "begin-task" => task::begin_command(root),
        [] => misuse("a command is missing"),
        [command, ..] if *command == "session" => misuse("session takes one argument: the group's root folder"),
        [command, ..] => misuse(&format!("unknown command {:?}", command.to_string_lossy())),
    }
}

fn misuse(why: &str) -> u8 {
    eprintln!("landfall-host: {why}\n{USAGE}");
    MISUSED
}
