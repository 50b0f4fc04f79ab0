//! Parse arguments, dispatch; nothing else.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use landfall::{
    api::crds,
    cli::status::{StatusArgs, status},
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
    let done: Result<(), Box<dyn std::error::Error>> = match Cli::parse() {
        Cli::Dev(args) => dev(args).await.map_err(Into::into),
        Cli::Run(args) => operator::run(args).await.map_err(Into::into),
        Cli::Status(args) => status(args).await.map_err(Into::into),
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

fn print_crds(output: Option<PathBuf>) -> Result<(), Box<dyn std::error::Error>> {
    for (name, text) in crds::files()? {
        match &output {
            Some(folder) => std::fs::write(folder.join(name), text)?,
            None => println!("---\n{text}"),
        }
    }
    Ok(())
}
