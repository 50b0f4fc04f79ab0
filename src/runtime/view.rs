//! Wiring of the aggregated API: its dependencies, and what the leading operator gives it: facts of hosts, and observations of Deployments.

use std::{net::SocketAddr, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use kube::Client;
use tokio::sync::watch;

use super::{config::RunArgs, wiring::Effects};
use crate::{
    api::{Deployment, deployment::Phase},
    controllers::{
        deployment::DeploymentContext,
        frame::Kind,
        hosts::{self, HostKey, HostWorkerKey},
    },
    effects::program::{LogPart, LogStream},
    fleet::NoSession,
    model::ids::FolderName,
    plan::{deployment::Observed, hostgroup::HostCheck},
    server::{self, Hosts, Leading, NoLog},
};

/// Starts to serve it, before the lease is won and whichever replica has it.
pub fn start(
    args: &RunArgs,
    client: &Client,
    own: &str,
    effects: &Effects,
    address: SocketAddr,
    leading: &watch::Sender<Leading>,
) {
    let Effects { store, git, executor, rollout_logs, .. } = effects.clone();
    let context = server::ServerContext {
        client: client.clone(),
        namespace: own.to_owned(),
        lease_namespace: args.lease_namespace.clone(),
        executor,
        rollout_logs,
        store,
        git,
        leading: leading.subscribe(),
        advertised: advertised(args).unwrap_or_default(),
    };
    tokio::spawn(server::serve(context, address));
}

/// Address at which other replicas reach this one.
pub(crate) fn advertised(args: &RunArgs) -> Option<String> {
    args.view_advertise.clone().or_else(|| Some(args.view_address?.to_string()))
}

/// What the server may ask while this operator leads.
pub(crate) fn leading(hosts: &Arc<hosts::Hosts>, deployments: &Arc<DeploymentContext>) -> Arc<dyn Hosts> {
    Arc::new(LeadingOperator { hosts: hosts.clone(), deployments: deployments.clone() })
}

struct LeadingOperator {
    hosts: Arc<hosts::Hosts>,
    deployments: Arc<DeploymentContext>,
}

impl Hosts for LeadingOperator {
    fn observe(&self, deployment: Deployment) -> BoxFuture<'static, Result<Box<Observed>, String>> {
        let context = self.deployments.clone();
        let observing = async move {
            let observed = Kind::observe(&deployment, &context).await;
            observed.map(Box::new).map_err(|error| error.to_string())
        };
        observing.boxed()
    }

    fn last_check(&self, namespace: &str, group: &str, host: &str) -> (HostCheck, Option<Timestamp>) {
        self.hosts.check_and_heard(&HostKey::new(namespace, group, host))
    }

    fn phase(&self, deployment: &str, host: &str) -> Option<Phase> {
        let worker = HostWorkerKey { uid: deployment.to_owned(), host: host.to_owned() };
        self.hosts.workers.task(&worker).map(|task| task.phase)
    }

    fn log(
        &self,
        namespace: &str,
        group: &str,
        host: &str,
        folder: FolderName,
        part: LogPart,
    ) -> BoxFuture<'static, Result<LogStream, NoLog>> {
        let (hosts, key) = (self.hosts.clone(), HostKey::new(namespace, group, host));
        let opening = async move {
            hosts.log(&key, &folder, part).await.map_err(|why| match why {
                NoSession::Host(error) => NoLog::Host(error),
                why => NoLog::NotConnected(why.to_string()),
            })
        };
        opening.boxed()
    }
}
