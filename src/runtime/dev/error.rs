//! What can go wrong while the development control plane is found, built, started or kept.

use std::{io, path::PathBuf};

/// Each message says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    #[error("{what} {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot start {program}: {source}; is it installed and executable?")]
    Spawn { program: String, source: io::Error },
    #[error(
        "KUBEBUILDER_ASSETS is {}, but there is no {} in it; add it (envtest's archives lack kube-controller-manager), or unset KUBEBUILDER_ASSETS to let landfall build the control plane with Go",
        folder.display(), missing.join(", no ")
    )]
    AssetsIncomplete { folder: PathBuf, missing: Vec<&'static str> },
    #[error(
        "the control plane is not built yet and Go is not installed; install Go {need} or newer (https://go.dev/dl) and start again, or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver, kube-controller-manager and kubectl"
    )]
    GoMissing { need: &'static str },
    #[error(
        "the control plane is not built yet and the Go in PATH is {found}; building it takes Go {need} or newer: install it (https://go.dev/dl) and put it first in PATH, or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver, kube-controller-manager and kubectl"
    )]
    GoTooOld { found: String, need: &'static str },
    #[error(
        "building the control plane failed ({status}); its last lines:\n{last}\nThe Go module proxy must be reachable for the first build; start again to try again"
    )]
    BuildFailed { status: String, last: String },
    #[error("{} is in use by another `landfall dev`; stop that one, or give this one a folder of its own with --data-dir or --ephemeral", folder.display())]
    InUse { folder: PathBuf },
    #[error("neither XDG_DATA_HOME nor HOME is set: name a data folder with --data-dir, or use --ephemeral")]
    NoHome,
    #[error("landfall dev never writes {}: give --kubeconfig another path", path.display())]
    ForeignKubeconfig { path: PathBuf },
    #[error("{} does not belong to this user alone; remove it, or set TMPDIR to another folder", folder.display())]
    UnsafeFolder { folder: PathBuf },
    #[error("cannot issue the certificate {name}: {source}")]
    Certificate { name: String, source: rcgen::Error },
    #[error("the time is out of range for certificates: {0}; set the clock of this machine")]
    Time(#[from] jiff::Error),
    #[error("no free port on 127.0.0.1: {0}")]
    Ports(io::Error),
    #[error("{name} does not stay up; the end of {}:\n{last}", log.display())]
    Died { name: &'static str, log: PathBuf, last: String },
    #[error("the control plane was not ready after {seconds} s; look into {}", logs.display())]
    NotReady { seconds: u64, logs: PathBuf },
    #[error("cannot use the kubeconfig of the control plane: {0}")]
    Kubeconfig(String),
    #[error("the API server does not take {what}: {why}")]
    Install { what: String, why: String },
    #[error("a manifest of landfall cannot be read: {0}")]
    Manifest(String),
    #[error("the custom resources are not served after {seconds} s; look into the API server's log")]
    NotEstablished { seconds: u64 },
    #[error("the control plane ended ({how}); its output is above, its logs are in {}", logs.display())]
    Ended { how: String, logs: PathBuf },
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
}

impl DevError {
    /// For `map_err`: what was being done to which path.
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
