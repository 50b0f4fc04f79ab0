//! `landfall run`: lease first, then the controllers of all kinds, until told to stop or until another has the lease.
//!
//! With `--namespaces` they are led by one term, and each has contexts and controllers of its own. It must not know what is deployed.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{authentication::v1::SelfSubjectReview, core::v1::Namespace};
use kube::{Api, Client, Config, ResourceExt, api::PostParams, core::DeserializeGuard};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use super::{
    config::RunArgs,
    data_folder::{self, DataFolderError},
    leading::{Acquired, Elector, ElectorConfig, LeaseError, keep_on_record},
    store_owner::{self, StoreOwnerError},
    view,
    wiring::{self, Contexts, Effects, Identity},
};
use crate::effects::api_server::{api_message, name_program};
use crate::{
    api::{Build, Deployment, HostGroup, Project},
    controllers::{
        frame::{self, Kind, Requeue},
        gc,
    },
    effects::{gate::Gate, store::StoreError},
    model::leading::Scope,
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
    StoreOwner(#[from] StoreOwnerError),
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
    let (url, context_namespace) = (config.cluster_url.to_string(), config.default_namespace.clone());
    let cluster = |source| RunError::Cluster { url: url.clone(), source };
    let watches = client_for(config.clone(), WATCH_SILENCE).map_err(cluster)?;
    let client = client_for(config, CALL_SILENCE).map_err(cluster)?;
    let system = Api::<Namespace>::all(client.clone()).get("kube-system").await.map_err(cluster)?;
    let identity = Identity { control_plane_id: system.uid().unwrap_or_default(), user: own_user(&client).await };
    let (stop_sender, stop) = watch::channel(false);
    let leading = watch::Sender::new(None);
    let effects = wiring::effects(&args, std::env::current_exe().map_err(RunError::Program)?)?;
    store_owner::check(&effects.store, &identity.control_plane_id).await?;
    if let Some(address) = args.view_address {
        view::start(&args, &client, &context_namespace, &effects, address, &leading);
    }
    let clients = Clients { calls: client, watches };
    let run = Run { args, clients, identity, context_namespace, effects, leading };
    let mut ended = tokio::spawn(lead(run, stop));
    let signalled = stop_signal().map_err(RunError::Signals)?;
    tokio::select! {
        () = signalled => {}
        ended = &mut ended => return ended.unwrap_or(Ok(())),
    }
    let _ = stop_sender.send(true);
    match tokio::time::timeout(SHUTDOWN, ended).await {
        Ok(ended) => ended.unwrap_or(Ok(())),
        Err(_) => {
            tracing::warn!("not everything ended in time; the next operator goes on");
            Ok(())
        }
    }
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

/// What one operator is made of.
struct Run {
    args: RunArgs,
    clients: Clients,
    identity: Identity,
    /// Namespace that the kubeconfig's context names.
    context_namespace: String,
    effects: Effects,
    /// What the aggregated API may ask, while the lease is held.
    leading: watch::Sender<Leading>,
}

/// From the lease to its end.
async fn lead(run: Run, stop: watch::Receiver<bool>) -> Result<(), RunError> {
    let Run { args, clients, identity, context_namespace, effects, leading } = run;
    let (gate, scope) = (Gate::shut(), Scope::of(&args.namespaces));
    let mut elector = Elector::new(ElectorConfig {
        client: clients.calls.clone(),
        namespace: args.lease_namespace.clone(),
        scope: scope.clone(),
        duration: args.lease(),
        control_plane_id: identity.control_plane_id.clone(),
        view_address: view::advertised(&args),
        context_namespace,
        gate: gate.clone(),
        store: effects.store.clone(),
    });
    let held = match elector.acquire(stopped(stop.clone())).await? {
        Acquired::Held(held) => Some(held),
        Acquired::NamespaceDeleting => None,
        Acquired::Stopped => return Ok(()),
    };
    let term = held.as_ref().and_then(|held| held.term().cloned());
    let (mut controllers, mut background, mut parts) = (JoinSet::new(), JoinSet::new(), Vec::new());
    let ended = {
        let keeping = elector.keep(held);
        tokio::pin!(keeping);
        let led = async {
            if let Some(term) = term {
                tracing::info!(%scope, fence = term.fence, "this operator holds the lease");
                store_owner::claim(&effects.store, &gate, &identity.control_plane_id).await?;
                background.spawn(keep_on_record(effects.store.clone(), gate.clone(), term));
            }
            let mut facts = Vec::new();
            for namespace in namespaces_of(&scope) {
                let Contexts { project, build, host_group, deployment, garbage, hosts, tasks } = wiring::contexts(
                    clients.calls.clone(),
                    gate.clone(),
                    args.resync(),
                    identity.clone(),
                    effects.clone(),
                );
                facts.push(view::leading(&hosts, &deployment));
                let (watches, requeue) = (&clients.watches, deployment.shared.requeue.clone());
                controllers.spawn(control::<Project>(project, watches.clone(), namespace.clone(), stop.clone()));
                controllers.spawn(control::<Build>(build, watches.clone(), namespace.clone(), stop.clone()));
                controllers.spawn(control::<HostGroup>(host_group, watches.clone(), namespace.clone(), stop.clone()));
                controllers.spawn(control::<Deployment>(deployment, watches.clone(), namespace.clone(), stop.clone()));
                background.spawn(wake_for_adoptions(gate.adopt_all_changes(), requeue));
                background.spawn(gc::keep(garbage, namespace));
                parts.push((hosts, tasks));
            }
            // The aggregated API is of an operator for all namespaces, which has one part.
            leading.send_replace(facts.into_iter().next());
            while controllers.join_next().await.is_some() {}
            Ok(())
        };
        // The term is renewed from the first moment on, also where the store is slow.
        tokio::select! {
            kept = &mut keeping => kept.map_err(RunError::from),
            led = led => led,
            () = async { stopped(stop.clone()).await; tokio::time::sleep(RECONCILE_GRACE).await } => Ok(()),
        }
    };
    leading.send_replace(None);
    controllers.abort_all();
    background.abort_all();
    for (hosts, tasks) in parts {
        tasks.cancel_all();
        hosts.forget_all();
    }
    // A disk that does not answer must not keep the lease from being given back.
    let _ = tokio::time::timeout(FLUSH_TIMEOUT, effects.rollout_logs.flush()).await;
    elector.release().await;
    ended
}

/// Each is watched by itself; `None`: all of them together.
fn namespaces_of(scope: &Scope) -> Vec<Option<String>> {
    match scope {
        Scope::ControlPlane => vec![None],
        Scope::Namespaces(names) => names.iter().cloned().map(Some).collect(),
    }
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

/// What a person says on the object of leaders is for every Deployment.
async fn wake_for_adoptions(mut changes: watch::Receiver<Option<String>>, requeue: Requeue) {
    while changes.changed().await.is_ok() {
        requeue.all_deployments();
    }
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
