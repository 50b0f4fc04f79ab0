//! Wiring of the aggregated API: its dependencies, and the facts of hosts that the leading operator gives it.

use std::{net::SocketAddr, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use kube::Client;
use tokio::sync::watch;

use super::{config::RunArgs, wiring::Effects};
use crate::{
    api::deployment::Phase,
    controllers::hosts::{self, HostKey, HostWorkerKey},
    effects::program::{LogPart, LogStream},
    fleet::NoSession,
    model::ids::FolderName,
    plan::hostgroup::HostCheck,
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

/// Facts of hosts as the server reads them.
pub(crate) fn host_facts(hosts: &Arc<hosts::Hosts>) -> Arc<dyn Hosts> {
    Arc::new(HostFacts(hosts.clone()))
}

struct HostFacts(Arc<hosts::Hosts>);

impl Hosts for HostFacts {
    fn last_check(&self, namespace: &str, group: &str, host: &str) -> (HostCheck, Option<Timestamp>) {
        self.0.check_and_heard(&HostKey::new(namespace, group, host))
    }

    fn phase(&self, deployment: &str, host: &str) -> Option<Phase> {
        let worker = HostWorkerKey { uid: deployment.to_owned(), host: host.to_owned() };
        self.0.workers.task(&worker).map(|task| task.phase)
    }

    fn log(
        &self,
        namespace: &str,
        group: &str,
        host: &str,
        folder: FolderName,
        part: LogPart,
    ) -> BoxFuture<'static, Result<LogStream, NoLog>> {
        let (hosts, key) = (self.0.clone(), HostKey::new(namespace, group, host));
        let opening = async move {
            hosts.log(&key, &folder, part).await.map_err(|why| match why {
                NoSession::Host(error) => NoLog::Host(error),
                why => NoLog::NotConnected(why.to_string()),
            })
        };
        opening.boxed()
    }
}
