//! The command line of `landfall dev`.

use std::path::PathBuf;

/// Run a Kubernetes control plane on this machine, with the operator on it
#[derive(Debug, Clone, clap::Args)]
pub struct DevArgs {
    /// Folder for all data [default: $XDG_DATA_HOME/landfall/dev]
    #[arg(long, value_name = "DIR", conflicts_with = "ephemeral")]
    pub data_dir: Option<PathBuf>,
    /// Keep all data in a temporary folder, which is deleted at the end
    #[arg(long)]
    pub ephemeral: bool,
    /// Start the control plane without the operator
    #[arg(long)]
    pub no_operator: bool,
    /// File to write the administrator's kubeconfig to [default: kubeconfig in the data folder]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// File to write the kubeconfig's path to once all is ready; removed at the end
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Options of the operator, as in `landfall run`
    #[arg(last = true, value_name = "OPERATOR FLAGS")]
    pub operator_flags: Vec<String>,
    /// Set by `landfall dev` itself: the folder of the control plane's programs, for the half that runs in its own process namespace
    #[arg(long, hide = true, value_name = "DIR", requires = "data_dir")]
    pub inside: Option<PathBuf>,
    /// Set by `landfall dev` itself: nothing needs to outlive a power cut
    #[arg(long, hide = true, requires = "inside")]
    pub unsafe_no_fsync: bool,
}
