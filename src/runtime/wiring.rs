//! What one operator is made of: the effects by its command line, and a context for each kind over what they share. The only place where
//! all of it is known.

use std::{path::PathBuf, sync::Arc, time::Duration};

use kube::Client;

use super::config::{LocalExecutorMode, RunArgs};
use crate::{
    controllers::{
        builds::{self, BuildContext},
        deployment::{DeploymentContext, SiblingSelections},
        frame::Shared,
        gc::GarbageContext,
        hostgroup::HostGroupContext,
        hosts::{Hosts, forward_changes},
        project::{self, ProjectContext},
        secrets::SecretReader,
        tasks::Tasks,
    },
    effects::{
        executor::{self, Executor, ExecutorConfig, Isolation, LocalConfig},
        gate::Gate,
        git::{Git, GitConfig},
        host::Bundles,
        program::Images,
        rollout_logs::RolloutLogs,
        store::{Store, StoreError},
    },
    fleet::{Budgets, Fleet, FleetSettings, SshDialer},
};

const MAX_LOG_BYTES: u64 = 100 << 20;

/// The effects of one process, made once: the scopes and the aggregated API share them, so what one writes the others read, and a release
/// that one of them is about to need is removed by none.
#[derive(Clone)]
pub struct Effects {
    pub store: Store,
    pub git: Git,
    pub executor: Arc<dyn Executor>,
    pub rollout_logs: RolloutLogs,
    /// Of all connections to hosts.
    pub budgets: Budgets,
}

/// One context for each kind of one operator.
pub struct Contexts {
    pub project: Arc<ProjectContext>,
    pub build: Arc<BuildContext>,
    pub host_group: Arc<HostGroupContext>,
    pub deployment: Arc<DeploymentContext>,
    pub garbage: Arc<GarbageContext>,
    pub hosts: Arc<Hosts>,
    pub tasks: Tasks,
}

/// Who this operator is, and where.
#[derive(Clone)]
pub struct Identity {
    /// Uid of the namespace `kube-system`.
    pub control_plane_id: String,
    /// Its user; `None` where the API server did not say.
    pub user: Option<String>,
}

/// What changes on hosts is passed on from now on.
pub fn contexts(client: Client, gate: Gate, resync: Duration, identity: Identity, effects: Effects) -> Contexts {
    let Identity { control_plane_id, user } = identity;
    let Effects { store, git, executor, rollout_logs, budgets } = effects;
    let shared = Arc::new(Shared::new(client.clone(), gate.clone(), user, resync));
    let secrets = SecretReader::new(client);
    let tasks = Tasks::default();
    let builds = builds::Registry::default();
    let dialer = Arc::new(SshDialer::new(gate, Images::embedded()));
    let fleet = Fleet::new(dialer, FleetSettings { budgets, ..FleetSettings::default() });
    let hosts = Arc::new(Hosts::new(fleet, shared.requeue.clone(), control_plane_id));
    tasks.start("hosts/changes", forward_changes(hosts.clone()));
    Contexts {
        project: Arc::new(ProjectContext {
            shared: shared.clone(),
            builds: builds.clone(),
            executor: executor.clone(),
            git: git.clone(),
            secrets: secrets.clone(),
            sources: project::Registry::default(),
            store: store.clone(),
            tasks: tasks.clone(),
        }),
        build: Arc::new(BuildContext {
            shared: shared.clone(),
            builds,
            executor: executor.clone(),
            git: git.clone(),
            secrets: secrets.clone(),
            store: store.clone(),
            tasks: tasks.clone(),
        }),
        host_group: Arc::new(HostGroupContext {
            shared: shared.clone(),
            hosts: hosts.clone(),
            secrets: secrets.clone(),
            store: store.clone(),
        }),
        deployment: Arc::new(DeploymentContext {
            shared: shared.clone(),
            hosts: hosts.clone(),
            rollout_logs,
            log_limits: Default::default(),
            bundles: Bundles::default(),
            orders: Default::default(),
            siblings: SiblingSelections::default(),
            recent_reads: Default::default(),
            store: store.clone(),
            tasks: tasks.clone(),
            secrets,
            hash_key: Default::default(),
            seen_objects: Default::default(),
        }),
        garbage: Arc::new(GarbageContext { shared, executor, git, store }),
        hosts,
        tasks,
    }
}

/// `runner`: the path of this very program.
pub fn effects(args: &RunArgs, runner: PathBuf) -> Result<Effects, StoreError> {
    let data = &args.data_dir;
    Ok(Effects {
        store: Store::folder(data.join("store"))?,
        git: git(args),
        executor: executor(args, runner),
        rollout_logs: RolloutLogs::new(data.join("rollouts")),
        budgets: Budgets::default(),
    })
}

fn git(args: &RunArgs) -> Git {
    Git::new(GitConfig {
        allow_file: args.allow_file_git,
        allow_local: args.allow_local_git,
        ..GitConfig::new(args.data_dir.join("git"))
    })
}

fn executor(args: &RunArgs, runner: PathBuf) -> Arc<dyn Executor> {
    let data = &args.data_dir;
    let mut hidden = args.hide.clone();
    hidden.push(data.clone());
    let kubeconfigs = std::env::var_os("KUBECONFIG").unwrap_or_default();
    hidden.extend(std::env::split_paths(&kubeconfigs).filter(|path| path.exists()));
    let isolation = match args.local_executor {
        LocalExecutorMode::Sandboxed => Isolation::Sandboxed,
        LocalExecutorMode::Trusted => Isolation::Trusted,
    };
    executor::open(ExecutorConfig::Local(LocalConfig {
        folder: data.join("executor"),
        hidden,
        isolation,
        runner,
        max_log_bytes: MAX_LOG_BYTES,
    }))
}
