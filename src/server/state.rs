//! State that all requests share. It must not answer one.

use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::Client;
use tokio::sync::{Semaphore, watch};

use super::{access::Access, followers::LogFollowers, leader::Leader, reader_permits::ReaderPermits};
use crate::{
    api::{Deployment, deployment::Phase},
    effects::{
        executor::Executor,
        git::Git,
        program::{LogPart, LogStream, ProgramError},
        rollout_logs::RolloutLogs,
        store::Store,
    },
    model::ids::FolderName,
    plan::{deployment::Observed, hostgroup::HostCheck},
};

/// What the leading operator knows. But for a log, no host is asked.
pub trait Hosts: Send + Sync {
    /// Everything that the planner of this Deployment would be told now; `Err`: why it can't be gathered.
    fn observe(&self, deployment: Deployment) -> BoxFuture<'static, Result<Box<Observed>, String>>;
    /// Newest check of a host, and its time.
    fn last_check(&self, namespace: &str, group: &str, host: &str) -> (HostCheck, Option<Timestamp>);
    /// Phase of a Deployment's (by uid) update on the host.
    fn phase(&self, deployment: &str, host: &str) -> Option<Phase>;
    /// The log of a folder's application, over the connection that is open now; none is made for it.
    fn log(
        &self,
        namespace: &str,
        group: &str,
        host: &str,
        folder: FolderName,
        part: LogPart,
    ) -> BoxFuture<'static, Result<LogStream, NoLog>>;
}

/// Why a log can't be read now.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoLog {
    /// The reason alone.
    #[error("it is not connected: {0}")]
    NotConnected(String),
    #[error(transparent)]
    Host(#[from] ProgramError),
}

/// Facts of hosts; there while this operator leads.
pub type Leading = Option<Arc<dyn Hosts>>;

/// State that all requests share.
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
    /// Of logs that the operator has.
    pub(super) reader_permits: ReaderPermits,
    /// Plans that are made at one time: one of a large group takes a processor for a second.
    pub(super) planning: Semaphore,
    /// Of applications' logs, which are read without end: they leave room to those of builds.
    pub(super) application_permits: ReaderPermits,
}

impl View {
    pub(super) fn leads(&self) -> bool {
        self.hosts.borrow().is_some()
    }
}
