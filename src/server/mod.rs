//! The aggregated API `view.landfall.dev`: what is too large or too quick for a status, read through the API server with its
//! authentication and its RBAC. It must not write a resource on its own account, nor decide anything: what a Deployment would do its planner
//! says.
//!
//! Every replica serves it, leader or not: while no replica answers, no namespace of the cluster can be deleted.

mod access;
mod api_error;
mod application_log;
mod authority;
mod build_log;
mod commits;
mod connections;
mod deployment_log;
mod deployment_plan;
mod discovery;
mod error;
mod followers;
mod front_proxy;
mod hosts;
mod leader;
mod lines;
mod logs;
mod maintenance;
mod query;
mod reader_permits;
mod relay;
mod routes;
mod stamps;
mod state;
mod stream;
mod tls;

use std::{net::SocketAddr, sync::Arc};

use kube::Client;
use tokio::sync::{Semaphore, watch};

pub use self::state::{Hosts, Leading, NoLog};
use self::{access::Access, followers::LogFollowers, leader::Leader, reader_permits::ReaderPermits, state::View};
use crate::effects::{executor::Executor, git::Git, rollout_logs::RolloutLogs, store::Store};

/// Plans that are made at one time.
const PLANS_AT_ONCE: usize = 2;

/// Dependencies of the server.
pub(crate) struct ServerContext {
    pub client: Client,
    /// The operator's own namespace: there are its Service and its Secret.
    pub namespace: String,
    /// Namespace of the object of leaders.
    pub lease_namespace: String,
    pub executor: Arc<dyn Executor>,
    pub rollout_logs: RolloutLogs,
    pub store: Store,
    pub git: Git,
    /// There while this operator holds the lease.
    pub leading: watch::Receiver<Leading>,
    /// Address at which other replicas reach this one; its term says it.
    pub advertised: String,
}

/// Serves until the process ends. What is missing (a right, the Secret) is logged and waited for: the operator works without it.
pub async fn serve(context: ServerContext, address: SocketAddr) {
    let ServerContext { client, namespace, lease_namespace, executor, rollout_logs, store, git, leading, advertised } =
        context;
    let view = Arc::new(View {
        client,
        namespace,
        executor,
        rollout_logs,
        store,
        git,
        hosts: leading,
        advertised,
        leader: Leader::new(lease_namespace),
        access: Access::default(),
        followers: LogFollowers::default(),
        reader_permits: ReaderPermits::default(),
        application_permits: ReaderPermits::default(),
        planning: Semaphore::new(PLANS_AT_ONCE),
    });
    let (listener, tls) = maintenance::begin(&view, address).await;
    tracing::info!(%address, "the aggregated API is served");
    connections::accept(listener, routes::router(view), tls).await;
}
