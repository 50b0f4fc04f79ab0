//! Controller of Deployments: observes one, and does what its planner says. It must not decide.

mod bytes;
mod configuration;
mod context;
mod failure;
mod group_updates;
mod host_ref;
mod observe;
mod orders;
mod recent_reads;
mod records;
mod rollout_log;
mod seen_objects;
mod siblings;
mod step;
mod values;
mod worker;

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;

pub use self::context::DeploymentContext;
use self::host_ref::HostRef;
pub use self::siblings::SiblingSelections;
use super::{
    frame::{Kind, ReconcileError},
    hosts::HostWorkerKey,
};
use crate::{
    api::{Deployment, deployment::DeploymentStatus},
    effects::clock,
    plan::{
        Milestone, Plan,
        deployment::{self, Action, Assignment, GoalKind, Observed, RolloutAttempt},
    },
};

impl Kind for Deployment {
    const KIND: &'static str = "Deployment";
    const DISPLAY: &'static [&'static str] = &[
        "/conditions/*/message",
        "/hosts",
        "/versions",
        "/exceptions",
        "/rollout/progressedAt",
        "/rollout/phases",
        "/rollout/batch",
        "/rollout/batches",
    ];
    type Observed = Observed;
    type Action = Action;
    type Status = DeploymentStatus;
    type Context = DeploymentContext;

    async fn observe(&self, context: &DeploymentContext) -> Result<Observed, ReconcileError> {
        observe::observe(self, context).await
    }

    fn plan(observed: &Observed, now: Timestamp) -> Plan<DeploymentStatus, Action> {
        deployment::plan(observed, now)
    }

    fn grant(
        &self,
        observed: &Observed,
        plan: &Plan<DeploymentStatus, Action>,
        context: &DeploymentContext,
    ) -> Result<(), ReconcileError> {
        group_updates::grant(observed, plan, context)
    }

    async fn act(&self, action: Action, context: &Arc<DeploymentContext>) -> Result<(), ReconcileError> {
        let namespace = self.namespace().unwrap_or_default();
        let uid = self.uid().unwrap_or_default();
        let group = &self.spec.host_group_ref.name;
        match action {
            Action::Probe(hosts) => {
                context.hosts.request_check(&namespace, group, &hosts);
                context.shared.requeue.host_group(&namespace, group);
            }
            Action::HoldGroup => context.shared.requeue.host_group(&namespace, group),
            Action::Record(record) => records::write_revision(context, &uid, &record).await?,
            Action::RecordFailure(failure) => records::write_failure(context, &uid, &failure).await?,
            Action::Assign(assignment) => assign(self, assignment, context),
            Action::Forget(hosts) => {
                for host in hosts {
                    context.hosts.workers.forget(&HostWorkerKey { uid: uid.clone(), host });
                }
            }
            Action::KeepLogs(rollouts) => limit_logs(self, rollouts, context),
            Action::RemoveLogs => context.rollout_logs.remove(&context.shared.gate, &context.store, &uid).await?,
        }
        Ok(())
    }

    fn status(&self) -> Option<&DeploymentStatus> {
        self.status.as_ref()
    }

    fn milestones(before: Option<&DeploymentStatus>, after: &DeploymentStatus) -> Vec<Milestone> {
        deployment::milestones(before, after)
    }

    /// No object depends on a Deployment's status. State of a deleted one is dropped.
    fn wake_dependents(&self, context: &DeploymentContext) {
        if self.metadata.deletion_timestamp.is_some() && self.finalizers().is_empty() {
            context.hosts.workers.forget_all(&self.uid().unwrap_or_default());
            context.rollout_logs.forget(&self.uid().unwrap_or_default());
            context.log_limits.lock().remove(&self.uid().unwrap_or_default());
        }
    }

    /// Other Deployments may claim its hosts now; its group may go if this was its last user.
    fn on_deleted(&self, context: &Arc<DeploymentContext>) {
        context.hosts.forget_user(&self.namespace().unwrap_or_default(), &self.name_any());
        group_updates::forget(self, context);
        context.shared.requeue.host_group(&self.namespace().unwrap_or_default(), &self.spec.host_group_ref.name);
        context.shared.requeue.deployments_in(&self.namespace().unwrap_or_default());
    }
}

/// Of the rollout in the status, which was committed before.
fn limit_logs(deployment: &Deployment, rollouts: usize, context: &Arc<DeploymentContext>) {
    let current = deployment.status.as_ref().and_then(|status| status.rollout.as_ref());
    if let Some(current) = current.and_then(|rollout| RolloutAttempt::new(&rollout.id, rollout.attempt)) {
        rollout_log::limit(context, &deployment.uid().unwrap_or_default(), current, rollouts);
    }
}

/// Gives a host its goal; a task under way there takes it after its step.
fn assign(deployment: &Deployment, assignment: Assignment, context: &Arc<DeploymentContext>) {
    let host_ref = HostRef {
        namespace: deployment.namespace().unwrap_or_default(),
        deployment: deployment.name_any(),
        uid: deployment.uid().unwrap_or_default(),
        project: deployment.spec.project_ref.name.clone(),
        group: deployment.spec.host_group_ref.name.clone(),
        host: assignment.host.clone(),
    };
    let key = host_ref.worker_key();
    match assignment.key.kind {
        GoalKind::Heal => context.hosts.workers.heal(&key, assignment.key.attempt, clock::now()),
        GoalKind::Run => context.hosts.workers.healed(&key),
        _ => {}
    }
    if let Some(number) = context.hosts.workers.set(&key, assignment) {
        let task = format!("host-task/{}/{}/{number}", key.uid, key.host);
        context.tasks.start(task, worker::run(context.clone(), host_ref, number));
    }
}
