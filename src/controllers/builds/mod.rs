//! Builds: how one is observed, and how the actions of its planner are done. It must not decide.

mod context;
mod leftovers;
mod observe;
mod records;
mod registry;
mod work;

use crate::model::Failure;
use std::{future::Future, sync::Arc};

use jiff::Timestamp;
use kube::ResourceExt;

pub use self::context::BuildContext;
use self::registry::{Found, Slot};
pub use self::{leftovers::delete_records, registry::Registry};
use super::frame::{Kind, ReconcileError};
use crate::{
    api::{Build, build::BuildStatus},
    effects::git::kept_refs,
    model::Class,
    plan::{
        Milestone, Plan,
        builds::{self, Action, Observed},
    },
};

impl Kind for Build {
    const KIND: &'static str = "Build";
    type Observed = Observed;
    type Action = Action;
    type Status = BuildStatus;
    type Context = BuildContext;

    async fn observe(&self, context: &BuildContext) -> Result<Observed, ReconcileError> {
        observe::observe(self, context).await
    }

    fn plan(observed: &Observed, now: Timestamp) -> Plan<BuildStatus, Action> {
        builds::plan(observed, now)
    }

    async fn act(&self, action: Action, context: &Arc<BuildContext>) -> Result<(), ReconcileError> {
        let uid = self.uid().unwrap_or_default();
        match action {
            Action::ClearFailures => context.builds.clear_failures(&uid),
            Action::CancelTasks => cancel_tasks(self, &uid, context),
            Action::Resolve => background(self, context, Slot::Work, work::resolve(self.clone(), context.clone())),
            Action::Prepare { attempt } => {
                background(self, context, Slot::Work, work::prepare(uid, attempt, context.clone()));
            }
            Action::Watch { attempt } => {
                background(self, context, Slot::Watch, work::watch(uid, attempt, context.clone()))
            }
            Action::Cancel { attempt } => {
                background(self, context, Slot::Cancel, work::cancel(uid, attempt, context.clone()))
            }
            Action::Pack { attempt } => {
                background(self, context, Slot::Work, work::pack(uid, attempt, context.clone()))
            }
            Action::Tag { tagged_at } => {
                background(self, context, Slot::Work, work::tag(uid, tagged_at, context.clone()))
            }
            Action::DeleteCheckouts { upto, published } => {
                let pin = published.then(|| kept_refs::name(&self.namespace().unwrap_or_default(), &uid));
                let work = work::delete_checkouts(uid.clone(), upto, pin, context.clone());
                let _ = context.tasks.start(registry::cleanup_key(&uid), work);
            }
            Action::Start { attempt } => now(self, context, work::start(uid, attempt, context)).await?,
            Action::Record(end) => now(self, context, work::record(uid, &end, context)).await?,
            Action::Publish(record) => {
                now(self, context, work::publish(self, &record, context)).await?;
                context.shared.requeue.deployments_in(&self.namespace().unwrap_or_default());
            }
        }
        Ok(())
    }

    fn status(&self) -> Option<&BuildStatus> {
        self.status.as_ref()
    }

    fn milestones(before: Option<&BuildStatus>, after: &BuildStatus) -> Vec<Milestone> {
        builds::milestones(before, after)
    }

    fn wake_dependents(&self, context: &BuildContext) {
        context.shared.requeue.project(&self.namespace().unwrap_or_default(), &self.spec.project_ref.name);
    }

    fn on_deleted(&self, context: &Arc<BuildContext>) {
        let uid = self.uid().unwrap_or_default();
        let work =
            work::delete_leftovers(self.namespace().unwrap_or_default(), self.name_any(), uid.clone(), context.clone());
        let _ = context.tasks.start(format!("build/{uid}/delete"), work);
    }
}

/// Cancels what runs for a Build that is being deleted; its project is requeued once it is gone, because its grant is free then.
fn cancel_tasks(build: &Build, uid: &str, context: &Arc<BuildContext>) {
    let known = context.builds.known(uid);
    for slot in [Slot::Work, Slot::Watch, Slot::Cancel] {
        if let Some(run) = known.runs(slot) {
            context.tasks.cancel(&registry::key(uid, slot, run));
        }
    }
    context.builds.drop_build(uid);
    let _ = context.tasks.start(format!("build/{uid}/gone"), work::wait_until_deleted(build.clone(), context.clone()));
}

/// Starts work that outlives the reconcile and requeues the build when it ends.
fn background(
    build: &Build,
    context: &Arc<BuildContext>,
    slot: Slot,
    work: impl Future<Output = Result<Found, Failure>> + Send + 'static,
) {
    let Some(occupied) = context.builds.occupy(&build.uid().unwrap_or_default(), slot) else { return };
    let (namespace, name, then) = (build.namespace().unwrap_or_default(), build.name_any(), context.clone());
    let _ = context.tasks.start(occupied.key(), async move {
        let result = work.await;
        let shut = result.as_ref().is_err_and(|failure| failure.class == Class::Waiting);
        if let Err(failure) = &result {
            tracing::info!(%namespace, %name, reason = %failure.reason, message = %failure.message, "a step of a build failed");
        }
        occupied.settle(result);
        if shut {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        then.shared.requeue.build(&namespace, &name);
    });
}

/// Does something quick, then requeues the build: to continue, or to report the failure.
async fn now(
    build: &Build,
    context: &Arc<BuildContext>,
    work: impl Future<Output = Result<(), Failure>> + Send,
) -> Result<(), ReconcileError> {
    let done = work.await;
    if let Err(failure) = &done {
        context.builds.failed(&build.uid().unwrap_or_default(), failure);
    }
    context.shared.requeue.build(&build.namespace().unwrap_or_default(), &build.name_any());
    Ok(done?)
}
