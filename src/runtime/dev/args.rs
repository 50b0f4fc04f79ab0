//! The command line of `landfall dev`.

use std::path::PathBuf;

/// Run a whole Kubernetes control plane, and landfall on it, on this machine.
#[derive(Debug, Clone, clap::Args)]
pub struct DevArgs {
    /// Where everything is kept [default: $XDG_DATA_HOME/landfall/dev]
    #[arg(long, value_name = "DIR", conflicts_with = "ephemeral")]
    pub data_dir: Option<PathBuf>,
    /// Keep everything in a temporary folder and forget it at the end
    #[arg(long)]
    pub ephemeral: bool,
    /// Start the control plane only, without landfall's operator
    #[arg(long)]
    pub no_operator: bool,
    /// Where the administrator's kubeconfig is written [default: kubeconfig in the data folder]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// A file that is written once everything is ready, and removed at the end; it holds the kubeconfig's path
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Flags for the operator, as `landfall run` knows them
    #[arg(last = true, value_name = "OPERATOR FLAGS")]
    pub operator_flags: Vec<String>,
    /// Set by `landfall dev` itself: the folder of the control plane's programs, for the half that runs in its own process namespace
    #[arg(long, hide = true, value_name = "DIR", requires = "data_dir")]
    pub inside: Option<PathBuf>,
    /// Set by `landfall dev` itself: nothing needs to outlive a power cut
    #[arg(long, hide = true, requires = "inside")]
    pub unsafe_no_fsync: bool,
}
