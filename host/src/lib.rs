//! The program on a host. It acts for one rollout at a time, keeps the application, and tells what is true (docs/host-protocol.md).
//!
//! No name service (getpw*, getgr*, getaddrinfo): a static program dies in them. Nothing listens, nothing needs root.

pub mod clock;
pub mod failure;
pub mod files;
pub mod folder;
pub mod gate;
pub mod process;
pub mod records;
pub mod runtime;
pub mod unsynced;

/// Runs the command that the arguments name; answers the exit status.
pub fn run(arguments: Vec<std::ffi::OsString>) -> u8 {
    let _ = arguments;
    eprintln!("usage: landfall-host session | status | logs | use VERSION --reason TEXT | stop | start");
    2
}
