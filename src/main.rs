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
    // Before the options: the runner of a build (`landfall build-step DIR`, hidden) has none.
    if let Some(code) = landfall::effects::executor::run_step_if_asked() {
        return code;
    }
    let Cli::Dev(args) = Cli::parse();
    match dev(args).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("landfall: {trouble}");
            std::process::ExitCode::FAILURE
        }
    }
}
