//! Builds: how to look at one, and how to do what its planner says. It must not decide.

pub mod broken;
mod leftovers;
mod observe;
mod records;
mod registry;
mod work;

use std::{future::Future, sync::Arc};

use jiff::Timestamp;
use kube::ResourceExt;

use self::{
    broken::Broken,
    registry::{Found, Slot},
};
pub use self::{leftovers::remove as remove_leftovers, records::read_json, registry::Registry};
use super::{
    frame::{Kind, ReconcileError},
    world::World,
};
use crate::{
    api::{Build, build::BuildStatus},
    effects::git::kept_refs,
    model::Class,
    plan::{
        Plan,
        build::{self, Action, Observed},
    },
};

impl Kind for Build {
    const KIND: &'static str = "Build";
    type Observed = Observed;
    type Action = Action;
    type Status = BuildStatus;

    async fn observe(&self, world: &World) -> Result<Observed, ReconcileError> {
        observe::observe(self, world).await
    }

    fn plan(observed: &Observed, now: Timestamp) -> Plan<BuildStatus, Action> {
        build::plan(observed, now)
    }

    async fn act(&self, action: Action, world: &Arc<World>) -> Result<(), ReconcileError> {
        let uid = self.uid().unwrap_or_default();
        match action {
            Action::Forget => world.builds.forget(&uid),
            Action::Abandon => abandon(self, &uid, world),
            Action::Resolve => background(self, world, Slot::Work, work::resolve(self.clone(), world.clone())),
            Action::Prepare { attempt } => {
                background(self, world, Slot::Work, work::prepare(uid, attempt, world.clone()));
            }
            Action::Watch { attempt } => background(self, world, Slot::Watch, work::watch(uid, attempt, world.clone())),
            Action::Cancel { attempt } => {
                background(self, world, Slot::Cancel, work::cancel(uid, attempt, world.clone()))
            }
            Action::Collect { attempt } => {
                background(self, world, Slot::Work, work::collect(uid, attempt, world.clone()))
            }
            Action::Tag { tagged_at } => background(self, world, Slot::Work, work::tag(uid, tagged_at, world.clone())),
            Action::Tidy { upto, published } => {
                let pin = published.then(|| kept_refs::name(&self.namespace().unwrap_or_default(), &uid));
                let work = work::tidy(uid.clone(), upto, pin, world.clone());
                let _ = world.tasks.start(work::tidying(&uid), work);
            }
            Action::Start { attempt } => now(self, world, work::start(uid, attempt, world)).await?,
            Action::Record(end) => now(self, world, work::record(uid, &end, world)).await?,
            Action::Publish(record) => {
                now(self, world, work::publish(self, &record, world)).await?;
                world.requeue.deployments_in(&self.namespace().unwrap_or_default());
            }
        }
        Ok(())
    }

    fn status(&self) -> Option<&BuildStatus> {
        self.status.as_ref()
    }

    fn wake_dependents(&self, world: &World) {
        world.requeue.project(&self.namespace().unwrap_or_default(), &self.spec.project_ref.name);
    }

    fn on_deleted(&self, world: &Arc<World>) {
        let uid = self.uid().unwrap_or_default();
        let work = work::forget(self.namespace().unwrap_or_default(), self.name_any(), uid.clone(), world.clone());
        let _ = world.tasks.start(format!("build/{uid}/forget"), work);
    }
}

/// It goes: what runs for it stops, and its project hears when it is gone, for its turn is free then.
fn abandon(build: &Build, uid: &str, world: &Arc<World>) {
    let known = world.builds.known(uid);
    for slot in [Slot::Work, Slot::Watch, Slot::Cancel] {
        if let Some(run) = known.runs(slot) {
            world.tasks.cancel(&registry::key(uid, slot, run));
        }
    }
    world.builds.drop_build(uid);
    let _ = world.tasks.start(format!("build/{uid}/gone"), work::gone(build.clone(), world.clone()));
}

/// Starts work that outlives the reconcile and wakes the build when it is over.
fn background(
    build: &Build,
    world: &Arc<World>,
    slot: Slot,
    work: impl Future<Output = Result<Found, Broken>> + Send + 'static,
) {
    let Some(occupied) = world.builds.occupy(&build.uid().unwrap_or_default(), slot) else { return };
    let (namespace, name, world_then) = (build.namespace().unwrap_or_default(), build.name_any(), world.clone());
    let _ = world.tasks.start(occupied.key(), async move {
        let result = work.await;
        let shut = result.as_ref().is_err_and(|broken| broken.class == Class::Waiting);
        if let Err(broken) = &result {
            tracing::info!(%namespace, %name, reason = %broken.reason, message = %broken.message, "a step of a build failed");
        }
        occupied.settle(result);
        if shut {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        world_then.requeue.build(&namespace, &name);
    });
}

/// Does something quick. It wakes the build either way: to go on, or to tell of the failure.
async fn now(
    build: &Build,
    world: &Arc<World>,
    work: impl Future<Output = Result<(), Broken>> + Send,
) -> Result<(), ReconcileError> {
    let done = work.await;
    if let Err(broken) = &done {
        world.builds.failed(&build.uid().unwrap_or_default(), broken);
    }
    world.requeue.build(&build.namespace().unwrap_or_default(), &build.name_any());
    done.map_err(|broken| ReconcileError::Effect { class: broken.class, message: broken.message })
}
