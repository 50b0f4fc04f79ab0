//! Parse arguments, dispatch; nothing else.

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser};
use landfall::{
    api::crds,
    cli::{
        commits::{CommitsArgs, commits},
        hosts::{HostsArgs, hosts},
        logs::{LogsArgs, logs},
        status::{StatusArgs, status},
    },
    runtime::{
        config::RunArgs,
        dev::{DevArgs, dev},
        operator,
    },
};

#[derive(Parser)]
#[command(name = "landfall", version, about)]
enum Cli {
    Dev(DevArgs),
    Run(RunArgs),
    Status(StatusArgs),
    Logs(LogsArgs),
    Commits(CommitsArgs),
    Hosts(HostsArgs),
    /// Print the CustomResourceDefinitions, or write them into a folder
    Crds {
        /// Write one file a kind into this folder
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    // Before the options: the runner of a build (`landfall build-step DIR`, hidden) has none.
    if let Some(code) = landfall::effects::executor::run_step_if_asked() {
        return code;
    }
    landfall::effects::git::register_transports();
    let done: Result<(), Box<dyn std::error::Error>> = match arguments() {
        Cli::Dev(args) => dev(args).await.map_err(Into::into),
        Cli::Run(args) => operator::run(args).await.map_err(Into::into),
        Cli::Status(args) => status(args).await.map_err(Into::into),
        Cli::Commits(args) => commits(args).await.map_err(Into::into),
        Cli::Hosts(args) => hosts(args).await.map_err(Into::into),
        Cli::Logs(args) => logs(args).await.map_err(Into::into),
        Cli::Crds { output } => print_crds(output),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("landfall: {trouble}");
            ExitCode::FAILURE
        }
    }
}

/// As `kubectl-landfall` in PATH it is `kubectl landfall`, and calls itself so.
fn arguments() -> Cli {
    let program = std::env::args_os().next().map(PathBuf::from);
    let plugin = program.and_then(|path| Some(path.file_name()? == "kubectl-landfall")).unwrap_or(false);
    let mut command = Cli::command();
    if plugin {
        command = command.bin_name("kubectl landfall");
    }
    Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

fn print_crds(output: Option<PathBuf>) -> Result<(), Box<dyn std::error::Error>> {
    for (name, text) in crds::files()? {
        match &output {
            Some(folder) => std::fs::write(folder.join(name), text)?,
            None => println!("---\n{text}"),
        }
    }
    Ok(())
}
