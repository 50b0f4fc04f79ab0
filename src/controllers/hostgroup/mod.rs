//! HostGroups: how one is observed, and how the actions of its planner are done. It must not decide.

mod context;
mod reach;

use std::sync::Arc;

use jiff::Timestamp;
use kube::{ResourceExt, api::ListParams};

pub use self::context::HostGroupContext;
use super::{
    frame::{Kind, ReconcileError},
    hosts::HostKey,
};
use crate::{
    api::{Deployment, FINALIZER, HostGroup, Reason, hostgroup::HostGroupStatus, verbs},
    model::{Class, Failure},
    plan::{
        Plan,
        hostgroup::{self, Action, HostKeyRecord, Observed, machine_of},
    },
};
use reach::{config, kept_refs};

impl Kind for HostGroup {
    const KIND: &'static str = "HostGroup";
    const DISPLAY: &'static [&'static str] = &["/conditions/*/message", "/hosts", "/exceptions", "/projects"];
    type Observed = Observed;
    type Action = Action;
    type Status = HostGroupStatus;
    type Context = HostGroupContext;

    async fn observe(&self, context: &HostGroupContext) -> Result<Observed, ReconcileError> {
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
        let deleting = self.metadata.deletion_timestamp.is_some();
        let held = self.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
        // Deployments that can't be listed (a right that was taken away, a kind that went) say nothing about their group's hosts.
        let (used_by, users_unknown) = match used_by(&namespace, &name, context).await {
            Ok(used_by) => (used_by, false),
            Err(error) => {
                tracing::warn!(%error, "the Deployments of this group can't be listed; its finalizer stays as it is");
                (Vec::new(), true)
            }
        };
        // One that is deleted works on while it is in use.
        let going = deleting && used_by.is_empty() && !(users_unknown && held);
        let (watched, secret) = if going {
            (false, Some(being_deleted()))
        } else {
            let (config, failure) = config(&namespace, self, context).await?;
            context.hosts.record_secret_failure(&namespace, &name, failure.clone());
            (context.hosts.is_watched(&namespace, &name, config.config_hash), failure)
        };
        let check = |host: &str| context.hosts.check(&HostKey::new(&namespace, &name, host));
        let hosts = self.spec.hosts.iter().map(|host| (host.name.clone(), check(&host.name)));
        Ok(Observed {
            generation: self.metadata.generation.unwrap_or_default(),
            spec: self.spec.clone(),
            status: self.status.clone(),
            annotations: self.annotations().clone(),
            deleting,
            used_by,
            users_unknown,
            held,
            secret,
            hosts: hosts.collect(),
            watched,
            kept: kept(self, &namespace, &name, context).await?,
            namespace,
        })
    }

    fn plan(observed: &Observed, now: Timestamp) -> Plan<HostGroupStatus, Action> {
        hostgroup::plan(observed, now)
    }

    async fn act(&self, action: Action, context: &Arc<HostGroupContext>) -> Result<(), ReconcileError> {
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
        match action {
            Action::Watch => {
                let (config, failure) = config(&namespace, self, context).await?;
                context.hosts.record_secret_failure(&namespace, &name, failure);
                context.hosts.configure(&namespace, &name, config);
                // One that nobody uses has no finalizer: it may have gone while its Secrets were read.
                let now = context.shared.api::<HostGroup>(&namespace).get_metadata_opt(&name).await?;
                if now.is_none_or(|now| now.metadata.uid != self.metadata.uid) {
                    context.hosts.forget_of(&namespace, &name, &self.uid().unwrap_or_default());
                }
            }
            Action::Probe(hosts) => context.hosts.request_check(&namespace, &name, &hosts),
            Action::ForgetHostKey { name: host, stamp } => forget_host_key(self, &host, &stamp, context).await?,
            Action::Forget => context.hosts.forget(&namespace, &name),
        }
        Ok(())
    }

    fn status(&self) -> Option<&HostGroupStatus> {
        self.status.as_ref()
    }

    fn wake_dependents(&self, context: &HostGroupContext) {
        context.shared.requeue.deployments_in(&self.namespace().unwrap_or_default());
    }

    /// A group that is not in use has no finalizer: its hosts are no longer dialled, and their connections are closed.
    fn on_deleted(&self, context: &Arc<HostGroupContext>) {
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
        context.hosts.forget_of(&namespace, &name, &self.uid().unwrap_or_default());
    }
}

/// Deployments that name this group and carry the finalizer: they may have acted on its hosts.
async fn used_by(namespace: &str, name: &str, context: &HostGroupContext) -> Result<Vec<String>, ReconcileError> {
    let of = ListParams::default().fields(&format!("spec.hostGroupRef.name={name}"));
    let all = context.shared.api::<Deployment>(namespace).list_metadata(&of).await?;
    let acted = all.iter().filter(|one| one.finalizers().iter().any(|finalizer| finalizer == FINALIZER));
    Ok(acted.map(ResourceExt::name_any).collect())
}

/// What is on record of the key that a new stamp wants forgotten.
async fn kept(
    group: &HostGroup,
    namespace: &str,
    name: &str,
    context: &HostGroupContext,
) -> Result<Option<HostKeyRecord>, ReconcileError> {
    let none = verbs::LastHandled::new();
    let handled = group.status.as_ref().map_or(&none, |status| &status.last_handled);
    let stamp = verbs::unhandled_value(verbs::FORGET_HOST_KEY, group.annotations(), handled);
    let Some((stamp, (address, port))) = stamp.and_then(|stamp| Some((stamp, machine_of(&group.spec, stamp)?))) else {
        return Ok(None);
    };
    let found = kept_refs(context, namespace, name).forgetting(&address, port, stamp).await.map_err(unstored)?;
    Ok(Some(HostKeyRecord { key: found.0, forgotten: found.1 }))
}

async fn forget_host_key(
    group: &HostGroup,
    host: &str,
    stamp: &str,
    context: &HostGroupContext,
) -> Result<(), ReconcileError> {
    let (namespace, name) = (group.namespace().unwrap_or_default(), group.name_any());
    let Some((address, port)) = machine_of(&group.spec, stamp) else { return Ok(()) };
    kept_refs(context, &namespace, &name).forget(&address, port, stamp).await.map_err(unstored)?;
    context.hosts.renew(&HostKey::new(&namespace, &name, host));
    context.hosts.request_check(&namespace, &name, group.spec.hosts.iter().map(|host| &host.name));
    context.shared.requeue.host_group(&namespace, &name);
    Ok(())
}

fn unstored(message: String) -> ReconcileError {
    ReconcileError::Effect { class: Class::Transient, message }
}

fn being_deleted() -> Failure {
    Failure::waiting(Reason::HostGroupNotFound, "the HostGroup is being deleted")
}
