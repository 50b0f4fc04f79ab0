//! What is known of every host, how old that is, and the one connection to each. Reconciles read here and never ask a host;
//! background tasks ask and write here. It must not decide what is done on a host.

mod failure;
mod host_keys;
mod jump_route;
mod link;
mod registry;
mod watch;
mod workers;

pub use self::{
    failure::{credentials_failure, reason_of_ssh},
    host_keys::HostKeyStore,
    link::{Link, link},
    registry::{Dial, GroupConfig, HostKey, Registry},
    watch::{after, probe, probe_over, watch},
    workers::{HostWorkerKey, HostWorkers},
};

use super::frame::Requeue;
use crate::effects::gate::Gate;

/// The hosts of all groups as background tasks use them. One for all kinds of one operator.
pub struct Fleet {
    pub hosts: Registry,
    pub gate: Gate,
    pub requeue: Requeue,
    /// Uid of the namespace `kube-system`: which control plane this is.
    pub control_plane_id: String,
}
