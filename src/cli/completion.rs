//! `landfall completion SHELL`: what a shell needs to complete commands and options.

use clap_complete::Shell;

use super::{error::CliError, output};

/// Print a completion script for a shell
///
/// For bash: source <(landfall completion bash)
#[derive(Debug, Clone, clap::Args)]
pub struct CompletionArgs {
    /// Shell to complete for
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints the script on stdout. `command` is the whole program's.
pub fn completion(args: &CompletionArgs, mut command: clap::Command) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "landfall", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
