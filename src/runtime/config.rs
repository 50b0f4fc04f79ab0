//! The command line of `landfall run`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Run the operator against the current kubeconfig, or inside a cluster.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// Watch these namespaces only, and keep a lease in each of them [default: all, with one lease in the operator's own]
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    pub namespaces: Vec<String>,
    /// Where the store, git mirrors and running builds are kept
    #[arg(long, value_name = "DIR", env = "LANDFALL_DATA_DIR", default_value = "/var/lib/landfall")]
    pub data_dir: PathBuf,
    /// Accept file:// repositories: everybody who may edit a Project reads what the operator can read
    #[arg(long)]
    pub allow_file_git: bool,
    /// Accept repositories on this machine's own loopback and on link-local addresses: everybody who may edit a Project reaches with it
    /// what only this machine may ask, say a cloud's metadata service
    #[arg(long)]
    pub allow_local_git: bool,
    /// How long the lease lasts without being renewed
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub lease_seconds: u64,
    /// How often everything is listed anew, whether or not the API server told of a change
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub resync_seconds: u64,
    /// Whether builds are isolated from this machine (sandboxed), or may do what the operator may (trusted)
    #[arg(long, value_enum, default_value_t = LocalExecutorMode::Sandboxed)]
    pub local_executor: LocalExecutorMode,
    /// A folder that no build may see, beside the data folder and the kubeconfig's; may be given several times
    #[arg(long, value_name = "DIR")]
    pub hide: Vec<PathBuf>,
    /// Serve the aggregated API view.landfall.dev (logs, commits, hosts) there, for the API server [default: not at all]
    #[arg(long, value_name = "ADDRESS:PORT", env = "LANDFALL_VIEW_ADDRESS", conflicts_with = "namespaces")]
    pub view_address: Option<SocketAddr>,
    /// Where other replicas reach it, if that is another address
    #[arg(long, value_name = "ADDRESS:PORT", env = "LANDFALL_VIEW_ADVERTISE", requires = "view_address")]
    pub view_advertise: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LocalExecutorMode {
    Sandboxed,
    Trusted,
}

impl RunArgs {
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds)
    }

    pub fn resync(&self) -> Duration {
        Duration::from_secs(self.resync_seconds)
    }
}
