//! Acts as another user of the host, which the SSH user becomes by sudo or su: once for an application and its whole life. The program runs
//! again as that user and does over its pipe what a keeper asks: start, signal, find, look whose socket it is, run a command.
//!
//! It never falls back to the SSH user, and the other user can write nothing of ours.

mod ask;
mod client;
mod server;

pub use client::{AsUser, try_become};
pub use server::run;

use landfall_host_protocol::{RunAs, RunAsMethod};

use crate::program;

/// The command by which our program runs as that user. Both end in a shell, for which one line of sudoers suffices:
/// `deploy ALL=(app) NOPASSWD: /bin/sh`.
fn become_command(run_as: &RunAs) -> Result<std::process::Command, String> {
    let user = run_as.user.as_str();
    if user.is_empty() || user.starts_with('-') || user.contains('\0') {
        return Err(format!("{user:?} is no name of a user"));
    }
    let text = "cd / && exec \"$0\" as-user";
    let mut command = match run_as.method {
        RunAsMethod::Sudo => {
            let mut command = std::process::Command::new("sudo");
            command.args(["-n", "-u", user, "--", "/bin/sh", "-c", text]);
            command
        }
        RunAsMethod::Su => {
            let mut command = std::process::Command::new("su");
            command.args(["-s", "/bin/sh", "-c", text, "--", user]);
            command
        }
    };
    command.arg(program::path());
    Ok(command)
}
