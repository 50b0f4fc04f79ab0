//! `landfall dev` as the user started it: programs found, folder held, everything else in a namespace that ends with this process.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    args::DevArgs,
    binaries::Binaries,
    error::DevError,
    folder::{FolderLock, home},
    inside,
    namespace::Namespace,
    say,
};

/// Runs until Ctrl-C or TERM, then stops everything in order; at once when asked a second time.
pub async fn dev(args: DevArgs) -> Result<(), DevError> {
    if let (Some(programs), Some(data)) = (args.inside.clone(), args.data_dir.clone()) {
        return inside::run(args, programs, data).await;
    }
    let args = absolute(args)?;
    let mut stop = StopSignals::listen()?;
    let find = tokio::task::spawn_blocking(|| Binaries::find_or_build(&say));
    let binaries = tokio::select! {
        found = find => found.map_err(|lost| DevError::Signals(lost.into()))??,
        // A build under way is left alone: its folder is swept or finished by the next start.
        () = stop.next() => std::process::exit(130),
    };
    let held = FolderLock::open(&args)?;
    let logs = held.folder.logs();
    let mut namespace = Namespace::start(&command(&args, &binaries, held.folder.path())?)?;
    let how = tokio::select! {
        how = namespace.ended() => how.or(Some("without being asked".to_owned())),
        () = stop.next() => {
            namespace.ask_to_end();
            tokio::select! {
                how = namespace.ended() => how,
                () = stop.next() => {
                    namespace.kill();
                    namespace.ended().await;
                    None
                }
            }
        }
    };
    if let Some(path) = &args.ready_file {
        let _ = std::fs::remove_file(path);
    }
    match how {
        // The folder of one that failed is kept until the next start: its logs say why.
        Some(how) => Err(DevError::Ended { how, logs }),
        None => held.close(),
    }
}

/// The command line of the other half.
fn command(args: &DevArgs, binaries: &Binaries, data: &Path) -> Result<Vec<OsString>, DevError> {
    let program =
        std::env::current_exe().map_err(|source| DevError::Spawn { program: "landfall".to_owned(), source })?;
    let mut command: Vec<OsString> = vec![program.into(), "dev".into(), "--inside".into(), binaries.folder().into()];
    command.extend(["--data-dir".into(), data.into()]);
    for (flag, path) in [("--kubeconfig", &args.kubeconfig), ("--ready-file", &args.ready_file)] {
        if let Some(path) = path {
            command.extend([flag.into(), path.into()]);
        }
    }
    if args.ephemeral {
        command.push("--unsafe-no-fsync".into());
    }
    if args.no_operator {
        command.push("--no-operator".into());
    }
    command.push("--".into());
    command.extend(args.operator_flags.iter().map(OsString::from));
    Ok(command)
}

/// With paths that mean the same in the other half; and never the user's own kubeconfig.
fn absolute(mut args: DevArgs) -> Result<DevArgs, DevError> {
    for path in [&mut args.kubeconfig, &mut args.ready_file].into_iter().flatten() {
        *path = std::path::absolute(&*path).map_err(DevError::file("cannot find", &*path))?;
    }
    if let (Some(path), Ok(users)) = (&args.kubeconfig, home("", ".kube/config"))
        && (path == &users || same_file(path, &users))
    {
        return Err(DevError::ForeignKubeconfig { path: path.clone() });
    }
    Ok(args)
}

fn same_file(one: &PathBuf, other: &PathBuf) -> bool {
    matches!((std::fs::canonicalize(one), std::fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}

/// What asks a program on a terminal to stop.
struct StopSignals([Signal; 3]);

impl StopSignals {
    fn listen() -> Result<Self, DevError> {
        let on = |kind| signal(kind).map_err(DevError::Signals);
        Ok(Self([on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
