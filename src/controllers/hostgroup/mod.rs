//! HostGroups: how to look at one, and how to do what its planner says. It must not decide.

mod reach;

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    frame::{Kind, ReconcileError},
    hosts::{GroupConfig, HostKey, watch},
    world::World,
};
use crate::{
    api::{HostGroup, Reason, hostgroup::HostGroupStatus, verbs},
    model::{Class, Failure},
    plan::{
        Plan,
        hostgroup::{self, Action, Kept, Observed, machine_of},
    },
};
use reach::{config, kept_refs};

impl Kind for HostGroup {
    const KIND: &'static str = "HostGroup";
    type Observed = Observed;
    type Action = Action;
    type Status = HostGroupStatus;

    async fn observe(&self, world: &World) -> Result<Observed, ReconcileError> {
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
        let deleting = self.metadata.deletion_timestamp.is_some();
        let config = if deleting { Err(being_deleted()) } else { config(&namespace, &name, &self.spec, world).await? };
        let watched = config.as_ref().is_ok_and(|config| world.hosts.is_watched(&namespace, &name, config.mark));
        let secret = config.err();
        if !deleting {
            world.hosts.record_secret_failure(&namespace, &name, secret.clone());
        }
        // Whether a host answers does not change with what is done on it.
        let look = |host: &str| world.hosts.last_check(&HostKey::new(&namespace, &name, host));
        let hosts = self.spec.hosts.iter().map(|host| (host.name.clone(), look(&host.name)));
        Ok(Observed {
            generation: self.metadata.generation.unwrap_or_default(),
            spec: self.spec.clone(),
            status: self.status.clone(),
            annotations: self.annotations().clone(),
            deleting,
            secret,
            hosts: hosts.collect(),
            watched,
            kept: kept(self, &namespace, &name, world).await?,
            namespace,
        })
    }

    fn plan(observed: &Observed, now: Timestamp) -> Plan<HostGroupStatus, Action> {
        hostgroup::plan(observed, now)
    }

    async fn act(&self, action: Action, world: &Arc<World>) -> Result<(), ReconcileError> {
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
        match action {
            Action::Watch => {
                if let Ok(config) = config(&namespace, &name, &self.spec, world).await? {
                    begin(world, &namespace, &name, config);
                }
            }
            Action::Probe(hosts) => world.hosts.request_check(&namespace, &name, &hosts),
            Action::ForgetHostKey { name: host, stamp } => forget_host_key(self, &host, &stamp, world).await?,
            Action::Forget => world.hosts.forget(&namespace, &name),
        }
        Ok(())
    }

    fn status(&self) -> Option<&HostGroupStatus> {
        self.status.as_ref()
    }

    fn wake_dependents(&self, world: &World) {
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
        world.requeue.deployments_in(&namespace);
        // A group has no finalizer: whether it is gone is asked here, so that its hosts are not dialled any more.
        let (api, hosts) = (world.api::<HostGroup>(&namespace), world.hosts.clone());
        world.tasks.start(format!("gone/{namespace}/{name}"), async move {
            if let Ok(None) = api.get_metadata_opt(&name).await {
                hosts.forget(&namespace, &name);
            }
        });
    }
}

/// What is on record of the key that a new stamp wants forgotten.
async fn kept(group: &HostGroup, namespace: &str, name: &str, world: &World) -> Result<Option<Kept>, ReconcileError> {
    let none = verbs::LastHandled::new();
    let handled = group.status.as_ref().map_or(&none, |status| &status.last_handled);
    let stamp = verbs::news(verbs::FORGET_HOST_KEY, group.annotations(), handled);
    let Some((stamp, (address, port))) = stamp.and_then(|stamp| Some((stamp, machine_of(&group.spec, stamp)?))) else {
        return Ok(None);
    };
    let found = kept_refs(world, namespace, name).forgetting(&address, port, stamp).await.map_err(unstored)?;
    Ok(Some(Kept { key: found.0, forgotten: found.1 }))
}

async fn forget_host_key(group: &HostGroup, host: &str, stamp: &str, world: &World) -> Result<(), ReconcileError> {
    let (namespace, name) = (group.namespace().unwrap_or_default(), group.name_any());
    let Some((address, port)) = machine_of(&group.spec, stamp) else { return Ok(()) };
    kept_refs(world, &namespace, &name).forget(&address, port, stamp).await.map_err(unstored)?;
    let host = host.to_owned();
    let key = HostKey::new(&namespace, &name, &host);
    if let Some(dial) = world.hosts.dial(&key) {
        dial.slot.close().await;
    }
    world.hosts.request_check(&namespace, &name, group.spec.hosts.iter().map(|host| &host.name));
    world.requeue.host_group(&namespace, &name);
    Ok(())
}

fn unstored(message: String) -> ReconcileError {
    ReconcileError::Effect { class: Class::Transient, message }
}

fn being_deleted() -> Failure {
    Failure::waiting(Reason::HostGroupNotFound, "the HostGroup is being deleted")
}

/// Watches every host of the group; those that are watched already take over the new configuration with their next look.
fn begin(world: &Arc<World>, namespace: &str, name: &str, config: GroupConfig) {
    for host in world.hosts.configure(namespace, name, config) {
        let key = HostKey::new(namespace, name, &host);
        let task = format!("watch/{namespace}/{name}/{host}");
        // A host that left and came back: its old watcher may sleep a whole period before it notices anything.
        world.tasks.cancel(&task);
        world.tasks.start(task, watch(world.clone(), key));
    }
}
