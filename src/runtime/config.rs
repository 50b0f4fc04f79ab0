//! The command line of `landfall run`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Run the operator, with the current kubeconfig or inside a cluster
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// Namespaces to work for. No two operators work for one namespace, but as stand-by with the same list [default: all]
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    pub namespaces: Vec<String>,
    /// Namespace of the Lease landfall-scopes, by which all operators of a control plane agree who leads which namespaces. The same for all of
    /// them; the kubeconfig's context does not count
    #[arg(long, value_name = "NAMESPACE", env = "LANDFALL_LEASE_NAMESPACE", default_value = "landfall-system")]
    pub lease_namespace: String,
    /// Folder for the store, git mirrors and running builds
    #[arg(long, value_name = "DIR", env = "LANDFALL_DATA_DIR", default_value = "/var/lib/landfall")]
    pub data_dir: PathBuf,
    /// Accept file:// repositories. Whoever may edit a Project then reads what the operator can read
    #[arg(long)]
    pub allow_file_git: bool,
    /// Accept repositories on loopback and link-local addresses. Whoever may edit a Project then reaches what only this machine may, such as a
    /// cloud's metadata service
    #[arg(long)]
    pub allow_local_git: bool,
    /// Seconds that the lease lasts without renewal, and that a takeover waits
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub lease_seconds: u64,
    /// Seconds between full lists of all objects, which find changes that a watch missed
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub resync_seconds: u64,
    /// Isolation of build scripts: from the machine (sandboxed), or none (trusted: scripts may do what the operator may)
    #[arg(long, value_enum, value_name = "MODE", default_value_t = LocalExecutorMode::Sandboxed)]
    pub local_executor: LocalExecutorMode,
    /// Folder to hide from build scripts, beside the data folder and the kubeconfig's; may be repeated
    #[arg(long, value_name = "DIR")]
    pub hide: Vec<PathBuf>,
    /// Format of log lines on stderr; RUST_LOG filters them
    #[arg(long, value_enum, value_name = "FORMAT", env = "LANDFALL_LOG_FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Address to serve the aggregated API view.landfall.dev (logs, commits, hosts) at [default: not served]
    #[arg(long, value_name = "ADDRESS:PORT", env = "LANDFALL_VIEW_ADDRESS", conflicts_with = "namespaces")]
    pub view_address: Option<SocketAddr>,
    /// Address at which other replicas reach the aggregated API [default: that of --view-address]
    #[arg(long, value_name = "ADDRESS:PORT", env = "LANDFALL_VIEW_ADVERTISE", requires = "view_address")]
    pub view_advertise: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LocalExecutorMode {
    Sandboxed,
    Trusted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people, with fields as key=value
    Text,
    /// One JSON object a line, with kind, namespace, name and host as fields
    Json,
}

impl RunArgs {
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds)
    }

    pub fn resync(&self) -> Duration {
        Duration::from_secs(self.resync_seconds)
    }
}
