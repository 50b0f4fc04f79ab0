//! The program on a host. It acts for one rollout at a time, keeps the application, and tells what is true (docs/host-protocol.md).
//!
//! No name service (getpw*, getgr*, getaddrinfo): a static program dies in them. Nothing listens, nothing needs root.

pub mod as_user;
pub mod clock;
pub mod core_dumps;
pub mod elf;
pub mod facts;
pub mod failure;
pub mod files;
pub mod folder;
pub mod gate;
pub mod hand;
pub mod incoming;
pub mod install;
pub mod keeper;
pub mod logs;
pub mod mask;
pub mod probe;
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
    io::{self, Write},
    path::Path,
};

use landfall_host_protocol::FolderName;

/// Exit status for arguments that mean nothing.
const MISUSED: u8 = 2;

/// Runs the command that the arguments name; answers the exit status.
pub fn run(arguments: Vec<OsString>) -> u8 {
    let arguments = arguments.get(1..).unwrap_or_default();
    match arguments {
        [command, root] if command == "session" => session::run(Path::new(root)),
        [command, root, digest] if command == "install" => install::run(Path::new(root), digest),
        [command, root, folder, task] if command == "run-task" => task::run_command(root, folder, task),
        [command, root, folder] if command == "undo-task" => task::undo_command(root, folder),
        [command, root, folder] if command == "keep" => in_folder(root, folder, keeper::run),
        [command, root, folder] if command == "keep-on" => in_folder(root, folder, keeper::run_upgraded),
        [command, root, folder] if command == "watch-unit" => in_folder(root, folder, runtime::watch_unit),
        [command] if command == "can-keep-on" => keeper::run_check(),
        [command] if command == "launch" => keeper::launch::run(),
        [command, arguments @ ..] if command == "as-user" => as_user::run(arguments),
        #[cfg(debug_assertions)]
        [command, root] if command == "begin-task" => task::begin_command(root),
        [command, ..] if command == "session" => misuse("session takes one argument: the group's root folder"),
        [command] if command == "--help" || command == "-h" || command == "help" => {
            print(&format!("usage:\n{}", hand::USAGE))
        }
        [command] if command == "--version" || command == "-V" => {
            print(&format!("landfall-host {}", env!("CARGO_PKG_VERSION")))
        }
        _ => hand::run(arguments).unwrap_or_else(|why| misuse(&why)),
    }
}

/// Runs a command on one folder.
fn in_folder(root: &OsStr, folder: &OsStr, run: fn(&Path, FolderName) -> u8) -> u8 {
    match folder.to_str().and_then(FolderName::parse) {
        Some(name) => run(Path::new(root), name),
        None => misuse(&format!("{:?} is no folder of a project", folder.to_string_lossy())),
    }
}

fn print(text: &str) -> u8 {
    let _ = writeln!(io::stdout(), "{text}");
    0
}

fn misuse(why: &str) -> u8 {
    let _ = writeln!(io::stderr(), "error: {why}\nusage:\n{}", hand::USAGE);
    MISUSED
}
