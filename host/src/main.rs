//! landfall's program on a host: one command a process. It must not decide anything beyond its arguments.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(landfall_host::run(std::env::args_os().collect()))
}
