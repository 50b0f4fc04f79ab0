//! Projects: how to look at one, and how to do what its planner says. It must not decide.

mod caches;
pub mod gone;
mod grant;
mod listing;
mod observe;
mod pushes;
mod registry;
mod retention;
mod retention_schedule;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt;

pub use self::registry::Registry;
use super::{
    build::broken::Broken,
    frame::{self, Kind, ReconcileError},
    tasks::insist,
    world::World,
};
use crate::{
    api::{Project, Reason, project::ProjectStatus},
    model::Class,
    plan::{
        EventDraft, Plan,
        project::{self, Action, Observed},
    },
};

/// Who may not act looks again so much later.
const SHUT: Duration = Duration::from_secs(1);

/// It wakes the project, to go on with what is on record now.
fn told(done: Result<(), Broken>, project: &Project, world: &World) -> Result<(), ReconcileError> {
    world.requeue.project(&project.namespace().unwrap_or_default(), &project.name_any());
    done.map_err(|broken| ReconcileError::Effect { class: broken.class, message: broken.message })
}

/// Removes in the background what is kept no longer, tells of it, and wakes the project.
fn tidy(project: &Project, world: &Arc<World>) {
    let uid = project.uid().unwrap_or_default();
    let Some(of) = world.sources.tidies.begin(&uid) else { return };
    let (project, then) = (project.clone(), world.clone());
    let _ = world.tasks.start(format!("project/{uid}/tidy"), async move {
        let (gone, result) = retention::tidy(&project, &then).await;
        if let Some(note) = gone.note() {
            frame::publish_event(&project, &EventDraft::normal(Reason::Tidied, "Tidy", note), &then).await;
        }
        let shut = result.as_ref().is_err_and(|broken| broken.class == Class::Waiting);
        then.sources.tidies.end(&uid, of, result);
        if shut {
            tokio::time::sleep(SHUT).await;
        }
        then.requeue.project(&project.namespace().unwrap_or_default(), &project.name_any());
    });
}

impl Kind for Project {
    const KIND: &'static str = "Project";
    type Observed = Observed;
    type Action = Action;
    type Status = ProjectStatus;

    async fn observe(&self, world: &World) -> Result<Observed, ReconcileError> {
        observe::observe(self, world).await
    }

    fn plan(observed: &Observed, now: Timestamp) -> Plan<ProjectStatus, Action> {
        project::plan(observed, now)
    }

    async fn act(&self, action: Action, world: &Arc<World>) -> Result<(), ReconcileError> {
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
        match action {
            Action::List { again } => listing::start(self, again, world),
            Action::Watch { baseline, heads } => {
                told(pushes::watch(self, &baseline, &heads, world).await, self, world)?
            }
            Action::Tidy => tidy(self, world),
            Action::Unwatch => told(pushes::unwatch(self, None, world).await, self, world)?,
            Action::Trigger(heads) => {
                let done = pushes::trigger(self, &heads, world).await;
                // What went wrong is told by the status, and tried again as the planner says.
                world.sources.pushed(&self.uid().unwrap_or_default(), done);
                world.requeue.project(&namespace, &name);
            }
            Action::Announce(line) => {
                for build in world.builds.announce(&namespace, &name, line) {
                    world.requeue.build(&namespace, &build);
                }
            }
            Action::Grant(active) => {
                let done = grant::grant(self, &active, world).await;
                // To take another number where this one was gone, and to tell the build.
                world.requeue.project(&namespace, &name);
                world.requeue.build(&namespace, &active.name);
                if let Err(broken) = &done {
                    // The build has its turn and can't begin: it is the one that says why.
                    world.builds.failed(&active.uid, broken);
                }
                done.map_err(|broken| ReconcileError::Effect { class: broken.class, message: broken.message })?;
            }
        }
        Ok(())
    }

    fn status(&self) -> Option<&ProjectStatus> {
        self.status.as_ref()
    }

    fn wake_dependents(&self, world: &World) {
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
        for build in world.builds.open(&namespace, &name) {
            world.requeue.build(&namespace, &build);
        }
    }

    fn on_deleted(&self, world: &Arc<World>) {
        let namespace = self.namespace().unwrap_or_default();
        let then = world.clone();
        let uid = self.uid().unwrap_or_default();
        let sweep = async move {
            let left = async || gone::tidy(&uid, &namespace, &then).await;
            insist("what a project left that is gone", &uid, left).await;
        };
        let _ = world.tasks.start(format!("project/{}/gone", self.uid().unwrap_or_default()), sweep);
    }
}
