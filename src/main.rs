//! Parse arguments, dispatch; nothing else.

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser};
use landfall::{
    api::crds,
    cli::{
        CliError, ExitStatus,
        commits::{CommitsArgs, commits},
        completion::{CompletionArgs, completion},
        deploy::{DeployArgs, deploy},
        history::{HistoryArgs, history},
        hosts::{HostsArgs, hosts},
        logs::{LogsArgs, logs},
        matrix::{MatrixArgs, matrix},
        plan::{DiffArgs, PlanArgs, diff, plan},
        status::{StatusArgs, status},
        verbs::{VerbCommand, verb},
        wait::{WaitArgs, wait},
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
    Wait(WaitArgs),
    Plan(PlanArgs),
    Diff(DiffArgs),
    Deploy(DeployArgs),
    #[command(flatten)]
    Verb(VerbCommand),
    Logs(LogsArgs),
    Hosts(HostsArgs),
    Matrix(MatrixArgs),
    History(HistoryArgs),
    Commits(CommitsArgs),
    Completion(CompletionArgs),
    /// Print the CustomResourceDefinitions of the four kinds
    Crds {
        /// Folder to write one file a kind into [default: standard output]
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    // Before the options: the runner of a build (`landfall build-step DIR`, hidden) has none.
    if let Some(code) = landfall::effects::executor::local::run_step_if_asked() {
        return code;
    }
    landfall::effects::git::register_transports();
    let done: Result<(), Box<dyn std::error::Error>> = match arguments() {
        Cli::Dev(args) => dev(args).await.map_err(Into::into),
        Cli::Run(args) => operator::run(args).await.map_err(Into::into),
        Cli::Crds { output } => print_crds(output),
        Cli::Status(args) => return answer(status(args).await),
        Cli::Wait(args) => return answer(wait(args).await),
        Cli::Plan(args) => return answer(plan(args).await),
        Cli::Diff(args) => return answer(diff(args).await),
        Cli::Deploy(args) => return answer(deploy(args).await),
        Cli::Verb(command) => return answer(verb(command).await),
        Cli::Logs(args) => return answer(logs(args).await),
        Cli::Matrix(args) => return answer(matrix(args).await),
        Cli::History(args) => return answer(history(args).await),
        Cli::Hosts(args) => return answer(hosts(args).await),
        Cli::Commits(args) => return answer(commits(args).await),
        Cli::Completion(args) => return answer(completion(&args, Cli::command()).map(|()| ExitStatus::Done)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("landfall: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The exit code of a command that asks a cluster.
fn answer(answer: Result<ExitStatus, CliError>) -> ExitCode {
    let exit = answer.unwrap_or_else(|error| {
        eprintln!("landfall: {error}");
        ExitStatus::Unanswered
    });
    exit.into()
}

/// Under the name `kubectl-landfall` in PATH it is the command `kubectl landfall`, and its help says so.
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
