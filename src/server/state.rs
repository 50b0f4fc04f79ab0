//! What every request shares. It must not answer one.

use std::sync::Arc;

use jiff::Timestamp;
use kube::Client;
use tokio::sync::watch;

use super::{access::Access, followers::LogFollowers, leader::Leader, reader_permits::ReaderPermits};
use crate::{
    api::deployment::Phase,
    effects::{executor::Executor, git::Git, rollout_logs::RolloutLogs, store::Store},
    plan::hostgroup::HostCheck,
};

/// What the operator that leads knows of hosts. It answers from memory and asks nobody.
pub trait Hosts: Send + Sync {
    /// The newest look at a host, and when that was.
    fn look(&self, namespace: &str, group: &str, host: &str) -> (HostCheck, Option<Timestamp>);
    /// What a Deployment (by uid) is doing there.
    fn phase(&self, deployment: &str, host: &str) -> Option<Phase>;
}

/// What the operator knows of hosts, while it leads.
pub type Leading = Option<Arc<dyn Hosts>>;

/// What every request shares.
pub(super) struct View {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) executor: Arc<dyn Executor>,
    pub(super) rollout_logs: RolloutLogs,
    pub(super) store: Store,
    pub(super) git: Git,
    pub(super) hosts: watch::Receiver<Leading>,
    pub(super) advertised: String,
    pub(super) leader: Leader,
    pub(super) access: Access,
    pub(super) followers: LogFollowers,
    pub(super) reader_permits: ReaderPermits,
}

impl View {
    pub(super) fn leads(&self) -> bool {
        self.hosts.borrow().is_some()
    }
}
