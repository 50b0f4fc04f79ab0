//! The half of `landfall dev` that is the first process of a process namespace: whatever it starts, and whatever that starts, ends with it.
//!
//! It ends in order when its standard input closes or it gets a TERM; when it dies otherwise the kernel ends the rest.

use std::{ffi::OsString, io::Read, path::PathBuf, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use super::{
    args::DevArgs,
    binaries::Binaries,
    error::DevError,
    files,
    folder::Folder,
    plane::{ControlPlane, Options},
    reaper::Children,
    say,
    service::{Kept, Service},
    view,
};
use crate::effects::clock;

/// For the removal of the APIService at the end.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(5);
const OPERATOR_GRACE: Duration = Duration::from_secs(20);

/// Runs the control plane and the operator until it is told to stop.
pub async fn run(args: DevArgs, programs: PathBuf, data: PathBuf) -> Result<(), DevError> {
    let stop = stop_signal()?;
    tokio::pin!(stop);
    let folder = Folder::at(data);
    // A killed predecessor may still be ending: its supervisor's lock is released first.
    let lock = tokio::task::spawn_blocking({
        let folder = folder.clone();
        move || folder.wait_lock("inside.lock")
    });
    let _lock = lock.await.map_err(|lost| DevError::Signals(lost.into()))??;
    let children = Children::collect().map_err(DevError::Signals)?;
    let kubeconfig = args.kubeconfig.clone().unwrap_or_else(|| folder.kubeconfig());
    let options = Options {
        folder: folder.clone(),
        binaries: Binaries::at(programs)?,
        durable: !args.unsafe_no_fsync,
        kubeconfig: kubeconfig.clone(),
        now: clock::now(),
    };
    let plane = tokio::select! {
        plane = ControlPlane::start(&options, &children) => plane?,
        // Returning ends this process, and with it the namespace.
        () = &mut stop => return Ok(()),
    };
    let operator = match args.no_operator {
        true => None,
        false => Some(operator(&args, &folder, plane.view_port)?.keep(&children)?),
    };
    let tended = operator
        .as_ref()
        .filter(|_| serves_view(&args))
        .map(|operator| tokio::spawn(view::tend(plane.client.clone(), plane.view_port, operator.ends())));
    if let Some(path) = &args.ready_file {
        files::write_private(path, &format!("{}\n", kubeconfig.display()))?;
    }
    announce(&options);
    stop.await;
    say("stopping");
    if let Some(path) = &args.ready_file {
        let _ = std::fs::remove_file(path);
    }
    if let Some(tended) = tended {
        tended.abort();
        // Before the operator stops: while it is announced and away, no namespace can be deleted.
        let removed = tokio::time::timeout(REMOVE_TIMEOUT, view::remove(&plane.client)).await;
        if !matches!(removed, Ok(Ok(()))) {
            say("the APIService could not be removed; the next start removes it");
        }
    }
    if let Some(operator) = operator {
        Kept::stop(operator).await;
    }
    plane.stop().await;
    Ok(())
}

/// The operator, with the identity that `manifests/` gives its rights to.
fn operator(args: &DevArgs, folder: &Folder, view_port: u16) -> Result<Service, DevError> {
    let program =
        std::env::current_exe().map_err(|source| DevError::Spawn { program: "landfall".to_owned(), source })?;
    files::private_folder(&folder.operator())?;
    let mut arguments: Vec<OsString> = vec!["run".into(), "--data-dir".into(), folder.operator().into()];
    // Keys of the control plane lie beside the operator's own folder: no build may see them.
    for secret in [folder.pki(), folder.etcd(), folder.logs()] {
        arguments.extend(["--hide".into(), secret.into()]);
    }
    if serves_view(args) {
        arguments.extend(["--view-address".into(), format!("127.0.0.1:{view_port}").into()]);
    }
    // Everything here belongs to one user on one machine, a local git server as well.
    const LOCAL: &str = "--allow-local-git";
    arguments.extend((!args.operator_flags.iter().any(|flag| flag == LOCAL)).then(|| LOCAL.into()));
    arguments.extend(args.operator_flags.iter().map(OsString::from));
    Ok(Service {
        name: "landfall run",
        program,
        arguments,
        environment: vec![("KUBECONFIG", folder.operator_kubeconfig().into())],
        log: folder.logs().join("landfall.log"),
        grace: OPERATOR_GRACE,
    })
}

/// The aggregated API is of the whole control plane: not for an operator of some namespaces, nor where the user names its address.
fn serves_view(args: &DevArgs) -> bool {
    !args.operator_flags.iter().any(|flag| flag.starts_with("--namespaces") || flag.starts_with("--view-address"))
}

/// The one line on stdout that scripts may wait for.
fn announce(options: &Options) {
    say(&format!("logs: {}", options.folder.logs().display()));
    let kubectl = options.binaries.program("kubectl");
    say(&format!("kubectl: {}", kubectl.display()));
    if let Some(folder) = kubectl.parent() {
        let (config, folder) = (options.kubeconfig.display(), folder.display());
        say(&format!("in another terminal: export KUBECONFIG={config} PATH=$PATH:{folder}"));
    }
    println!("ready: export KUBECONFIG={}", options.kubeconfig.display());
}

/// Returns when this process is asked to end.
fn stop_signal() -> Result<impl Future<Output = ()>, DevError> {
    let mut term = signal(SignalKind::terminate()).map_err(DevError::Signals)?;
    // The supervisor's end of the pipe closes when it asks, and when it is gone. A plain thread: it must not keep the runtime alive.
    let (sender, closed) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        let _ = sender.send(());
    });
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = closed => {}
        }
    })
}
