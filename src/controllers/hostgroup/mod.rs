//! HostGroups: how to look at one, and how to do what its planner says. It must not decide.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    frame::{Kind, Trouble},
    hosts::{GroupConfig, HostKey, credentials_problem, watch},
    world::{NoSecret, World},
};
use crate::{
    api::{
        HostGroup, Reason,
        hostgroup::{HostGroupSpec, HostGroupStatus},
    },
    effects::ssh::Credentials,
    plan::{
        Plan,
        hostgroup::{self, Act, Observed, Problem},
    },
};

impl Kind for HostGroup {
    const KIND: &'static str = "HostGroup";
    type Seen = Observed;
    type Act = Act;
    type Status = HostGroupStatus;

    async fn observe(&self, world: &World) -> Result<Observed, Trouble> {
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
        let deleting = self.metadata.deletion_timestamp.is_some();
        let config = if deleting { Err(gone()) } else { config(&namespace, &self.spec, world).await? };
        let watched = config.as_ref().is_ok_and(|config| world.hosts.is_watched(&namespace, &name, config.mark));
        let secret = config.err();
        if !deleting {
            world.hosts.note_secret(&namespace, &name, secret.clone());
        }
        let look = |host: &str| world.hosts.look(&HostKey::new(&namespace, &name, host));
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
            namespace,
        })
    }

    fn plan(seen: &Observed, now: Timestamp) -> Plan<HostGroupStatus, Act> {
        hostgroup::plan(seen, now)
    }

    async fn act(&self, act: Act, world: &Arc<World>) -> Result<(), Trouble> {
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
        match act {
            Act::Watch => {
                if let Ok(config) = config(&namespace, &self.spec, world).await? {
                    begin(world, &namespace, &name, config);
                }
            }
            Act::Probe(hosts) => world.hosts.kick(&namespace, &name, &hosts),
            Act::Forget => world.hosts.forget(&namespace, &name),
        }
        Ok(())
    }

    fn status(&self) -> Option<&HostGroupStatus> {
        self.status.as_ref()
    }

    fn changed(&self, world: &World) {
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
        world.wakes.deployments_in(&namespace);
        // A group has no finalizer: whether it is gone is asked here, so that its hosts are not dialled any more.
        let (api, hosts) = (world.api::<HostGroup>(&namespace), world.hosts.clone());
        world.tasks.start(format!("gone/{namespace}/{name}"), async move {
            if let Ok(None) = api.get_metadata_opt(&name).await {
                hosts.forget(&namespace, &name);
            }
        });
    }
}

fn gone() -> Problem {
    Problem::waiting(Reason::HostGroupNotFound, "the HostGroup is being deleted")
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

/// How the group is reached, or why it can't be.
async fn config(namespace: &str, spec: &HostGroupSpec, world: &World) -> Result<Result<GroupConfig, Problem>, Trouble> {
    let (user_key, known) = (&spec.ssh.credentials_ref.name, &spec.ssh.host_keys.known_hosts_ref.name);
    let identity = match text(world, namespace, user_key, "identity").await? {
        Ok(text) => text,
        Err(problem) => return Ok(Err(problem)),
    };
    let known_hosts = match text(world, namespace, known, "known_hosts").await? {
        Ok(text) => text,
        Err(problem) => return Ok(Err(problem)),
    };
    let credentials = match Credentials::new(&identity, &known_hosts) {
        Ok(credentials) => credentials,
        Err(error) => return Ok(Err(credentials_problem(&error))),
    };
    let mut mark = DefaultHasher::new();
    format!("{:?}", (&spec.ssh, &spec.root, &spec.probe, &spec.hosts)).hash(&mut mark);
    (&identity, &known_hosts).hash(&mut mark);
    let seconds = |n: i64| Duration::from_secs(u64::try_from(n).unwrap_or(1).max(1));
    let hosts: BTreeMap<_, _> = spec.hosts.iter().map(|host| (host.name.clone(), host.address.clone())).collect();
    Ok(Ok(GroupConfig {
        mark: mark.finish(),
        user: spec.ssh.user.clone(),
        port: u16::try_from(spec.ssh.port).unwrap_or(22),
        connect_timeout: seconds(spec.ssh.connect_timeout_seconds),
        most_connections: usize::try_from(spec.ssh.max_concurrent_connections).unwrap_or(1),
        root: spec.root.clone(),
        period: seconds(spec.probe.period_seconds),
        credentials,
        hosts,
    }))
}

/// One key of a Secret as text, or what a person has to do about it.
async fn text(world: &World, namespace: &str, name: &str, key: &str) -> Result<Result<String, Problem>, Trouble> {
    match world.secret(namespace, name, "ssh", key).await {
        Ok(text) => Ok(Ok(text.expose().to_owned())),
        Err(why) => secret_problem(why).map(Err),
    }
}

fn secret_problem(why: NoSecret) -> Result<Problem, Trouble> {
    let message = why.to_string();
    let reason = match why {
        NoSecret::NotFound { .. } => Reason::SecretNotFound,
        NoSecret::KeyMissing { .. } => Reason::SecretKeyMissing,
        NoSecret::Invalid { .. } => return Ok(Problem::terminal(Reason::SecretInvalid, message)),
        NoSecret::Forbidden { .. } => Reason::SecretForbidden,
        NoSecret::NotForThis { .. } => Reason::SecretNotForThis,
        NoSecret::Api(error) => return Err(error.into()),
    };
    Ok(Problem::waiting(reason, message))
}
