//! `landfall run`: lease first, then the controllers of all kinds, until told to stop or until another has the lease.
//!
//! With `--namespaces` each namespace has a lease, contexts and controllers of its own. It must not know what is deployed.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{authentication::v1::SelfSubjectReview, core::v1::Namespace};
use kube::{Api, Client, Config, ResourceExt, api::PostParams, core::DeserializeGuard};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use super::{
    config::RunArgs,
    data_folder::{self, DataFolderError},
    lease::{Elector, LeaseError},
    view,
    wiring::{self, Contexts, Effects, Identity},
};
use crate::effects::api_server::{api_message, name_program};
use crate::{
    api::{Build, Deployment, HostGroup, Project, view::VIEW_ADDRESS},
    controllers::{
        frame::{self, Kind},
        gc,
    },
    effects::{gate::Gate, store::StoreError},
    server::Leading,
};

/// Time from the signal to stop until the process ends, whatever hangs.
const SHUTDOWN: Duration = Duration::from_secs(15);
/// Time for reconciles under way at the signal to stop. A controller itself ends only with its last requeue, up to a minute later.
const RECONCILE_GRACE: Duration = Duration::from_secs(2);
/// Timeout of a call without an answer.
const CALL_SILENCE: Duration = Duration::from_secs(20);
/// A watch ends by itself after a minute (`frame`).
const WATCH_SILENCE: Duration = Duration::from_secs(75);
/// For the last lines of rollouts to reach the disk.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("no cluster: {0}; set KUBECONFIG, or try `landfall dev`")]
    Config(#[from] kube::config::InferConfigError),
    #[error("the cluster at {url} can't be reached or refuses this operator: {}", api_message(source))]
    Cluster { url: String, source: kube::Error },
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    #[error("this program's own path: {0}")]
    Program(std::io::Error),
    #[error("signals: {0}")]
    Signals(std::io::Error),
}

/// Runs the operator. Comes back with `Ok` after TERM or Ctrl-C, with the lease given back.
pub async fn run(args: RunArgs) -> Result<(), RunError> {
    super::telemetry::start(args.log_format);
    data_folder::make_private(&args.data_dir)?;
    let config = Config::infer().await?;
    let (url, own) = (config.cluster_url.to_string(), config.default_namespace.clone());
    let cluster = |source| RunError::Cluster { url: url.clone(), source };
    let watches = client_for(config.clone(), WATCH_SILENCE).map_err(cluster)?;
    let client = client_for(config, CALL_SILENCE).map_err(cluster)?;
    let system = Api::<Namespace>::all(client.clone()).get("kube-system").await.map_err(cluster)?;
    let identity = Identity { control_plane_id: system.uid().unwrap_or_default(), user: own_user(&client).await };
    let (stop_sender, stop) = watch::channel(false);
    let scopes: Vec<Option<String>> =
        if args.namespaces.is_empty() { vec![None] } else { args.namespaces.iter().cloned().map(Some).collect() };
    let leading = watch::Sender::new(None);
    let effects = wiring::effects(&args, std::env::current_exe().map_err(RunError::Program)?)?;
    if let Some(address) = args.view_address {
        view::start(&args, &client, &own, &effects, address, &leading);
    }
    let mut parts = tokio::task::JoinSet::new();
    for scope in scopes {
        let namespace = scope.clone().unwrap_or_else(|| own.clone());
        let clients = Clients { calls: client.clone(), watches: watches.clone() };
        let (identity, effects, leading) = (identity.clone(), effects.clone(), leading.clone());
        let run = Run { args: args.clone(), clients, identity, effects, leading };
        parts.spawn(operate(run, scope, namespace, stop.clone()));
    }
    let signalled = stop_signal().map_err(RunError::Signals)?;
    tokio::pin!(signalled);
    let first = tokio::select! {
        () = &mut signalled => Ok(()),
        Some(ended) = parts.join_next() => ended.unwrap_or(Ok(())),
    };
    let _ = stop_sender.send(true);
    let rest = async { while parts.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN, rest).await.is_err() {
        tracing::warn!("not everything ended in time; the next operator goes on");
    }
    first
}

/// The user that this operator is to the API server: what it created is told from what people created by that name alone.
async fn own_user(client: &Client) -> Option<String> {
    let review = Api::<SelfSubjectReview>::all(client.clone());
    match review.create(&PostParams::default(), &SelfSubjectReview::default()).await {
        Ok(review) => review.status?.user_info?.username,
        Err(error) => {
            tracing::warn!("the API server does not say who this operator is: {}", api_message(&error));
            None
        }
    }
}

/// Every call to the API server has a timeout, and only watches may be silent for long.
#[derive(Clone)]
struct Clients {
    calls: Client,
    watches: Client,
}

fn client_for(mut config: Config, silence: Duration) -> Result<Client, kube::Error> {
    config.read_timeout = Some(silence);
    config.reset_reader_on_write = true;
    name_program(&mut config);
    Client::try_from(config)
}

/// What all scopes of one process share.
#[derive(Clone)]
struct Run {
    args: RunArgs,
    clients: Clients,
    identity: Identity,
    effects: Effects,
    /// What the aggregated API may ask, while the lease is held.
    leading: watch::Sender<Leading>,
}

/// One scope: all namespaces, or one. Where one of several is deleted, it is waited for that it is made again; the others go on.
async fn operate(
    run: Run,
    scope: Option<String>,
    lease_in: String,
    stop: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let several = run.args.namespaces.len() > 1;
    loop {
        let ended = lead(run.clone(), scope.clone(), &lease_in, stop.clone()).await?;
        if ended == Ended::Stopped || !several {
            return Ok(());
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Stopped,
    NamespaceGone,
}

/// From the lease to its end.
async fn lead(run: Run, scope: Option<String>, lease_in: &str, stop: watch::Receiver<bool>) -> Result<Ended, RunError> {
    let Run { args, clients, identity, effects, leading } = run;
    let gate = Gate::shut();
    let elector =
        Elector::new(clients.calls.clone(), lease_in, args.lease(), identity.control_plane_id.clone(), gate.clone())
            .of_its_namespace(scope.is_some())
            .annotated(VIEW_ADDRESS, view::advertised(&args));
    let lease = tokio::select! {
        won = elector.acquire(args.namespaces.len() < 2) => won?,
        () = stopped(stop.clone()) => return Ok(Ended::Stopped),
    };
    if lease.is_some() {
        tracing::info!(scope = scope.as_deref().unwrap_or("all namespaces"), "this operator holds the lease");
    }
    let rollout_logs = effects.rollout_logs.clone();
    let Contexts { project, build, host_group, deployment, garbage, hosts, tasks } =
        wiring::contexts(clients.calls, gate, args.resync(), identity, effects);
    leading.send_replace(Some(view::leading(&hosts, &deployment)));
    let mut controllers = tokio::task::JoinSet::new();
    controllers.spawn(control::<Project>(project, clients.watches.clone(), scope.clone(), stop.clone()));
    controllers.spawn(control::<Build>(build, clients.watches.clone(), scope.clone(), stop.clone()));
    controllers.spawn(control::<HostGroup>(host_group, clients.watches.clone(), scope.clone(), stop.clone()));
    controllers.spawn(control::<Deployment>(deployment, clients.watches.clone(), scope.clone(), stop.clone()));
    let collector = tokio::spawn(gc::keep(garbage, scope));
    let ended = tokio::select! {
        kept = elector.keep(lease) => kept.map(|()| Ended::NamespaceGone).map_err(RunError::from),
        () = async { while controllers.join_next().await.is_some() {} } => Ok(Ended::Stopped),
        () = async { stopped(stop).await; tokio::time::sleep(RECONCILE_GRACE).await } => Ok(Ended::Stopped),
    };
    leading.send_replace(None);
    controllers.abort_all();
    collector.abort();
    tasks.cancel_all();
    hosts.forget_all();
    // A disk that does not answer must not keep the lease from being given back.
    let _ = tokio::time::timeout(FLUSH_TIMEOUT, rollout_logs.flush()).await;
    elector.release().await;
    ended
}

async fn control<K: Kind>(
    context: Arc<K::Context>,
    client: Client,
    scope: Option<String>,
    stop: watch::Receiver<bool>,
) {
    let api: Api<DeserializeGuard<K>> = match &scope {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    frame::run::<K>(context, api, stopped(stop)).await;
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn stop_signal() -> Result<impl Future<Output = ()>, std::io::Error> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
