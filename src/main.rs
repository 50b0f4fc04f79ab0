//! Parse arguments, dispatch; nothing else.

use clap::Parser;
use landfall::runtime::dev::{DevArgs, dev};

#[derive(Parser)]
#[command(version, about)]
enum Cli {
    Dev(DevArgs),
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let Cli::Dev(args) = Cli::parse();
    match dev(args).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("landfall: {trouble}");
            std::process::ExitCode::FAILURE
        }
    }
}
