//! Projects: how to look at one, and how to do what its planner says. It must not decide.

mod caches;
mod context;
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

pub use self::context::ProjectContext;
pub use self::registry::Registry;
use super::{
    build::broken::Broken,
    frame::{self, Kind, ReconcileError},
    tasks::insist,
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
fn told(done: Result<(), Broken>, project: &Project, context: &ProjectContext) -> Result<(), ReconcileError> {
    context.shared.requeue.project(&project.namespace().unwrap_or_default(), &project.name_any());
    done.map_err(|broken| ReconcileError::Effect { class: broken.class, message: broken.message })
}

/// Removes in the background what is kept no longer, tells of it, and wakes the project.
fn tidy(project: &Project, context: &Arc<ProjectContext>) {
    let uid = project.uid().unwrap_or_default();
    let Some(of) = context.sources.tidies.begin(&uid) else { return };
    let (project, then) = (project.clone(), context.clone());
    let _ = context.tasks.start(format!("project/{uid}/tidy"), async move {
        let (gone, result) = retention::tidy(&project, &then).await;
        if let Some(note) = gone.note() {
            frame::publish_event(&project, &EventDraft::normal(Reason::Tidied, "Tidy", note), &then.shared).await;
        }
        let shut = result.as_ref().is_err_and(|broken| broken.class == Class::Waiting);
        then.sources.tidies.end(&uid, of, result);
        if shut {
            tokio::time::sleep(SHUT).await;
        }
        then.shared.requeue.project(&project.namespace().unwrap_or_default(), &project.name_any());
    });
}

impl Kind for Project {
    const KIND: &'static str = "Project";
    type Observed = Observed;
    type Action = Action;
    type Status = ProjectStatus;
    type Context = ProjectContext;

    async fn observe(&self, context: &ProjectContext) -> Result<Observed, ReconcileError> {
        observe::observe(self, context).await
    }

    fn plan(observed: &Observed, now: Timestamp) -> Plan<ProjectStatus, Action> {
        project::plan(observed, now)
    }

    async fn act(&self, action: Action, context: &Arc<ProjectContext>) -> Result<(), ReconcileError> {
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
        match action {
            Action::List { again } => listing::start(self, again, context),
            Action::Watch { baseline, heads } => {
                told(pushes::watch(self, &baseline, &heads, context).await, self, context)?
            }
            Action::Tidy => tidy(self, context),
            Action::Unwatch => told(pushes::unwatch(self, None, context).await, self, context)?,
            Action::Trigger(heads) => {
                let done = pushes::trigger(self, &heads, context).await;
                // What went wrong is told by the status, and tried again as the planner says.
                context.sources.pushed(&self.uid().unwrap_or_default(), done);
                context.shared.requeue.project(&namespace, &name);
            }
            Action::Announce(line) => {
                for build in context.builds.announce(&namespace, &name, line) {
                    context.shared.requeue.build(&namespace, &build);
                }
            }
            Action::Grant(active) => {
                let done = grant::grant(self, &active, context).await;
                // To take another number where this one was gone, and to tell the build.
                context.shared.requeue.project(&namespace, &name);
                context.shared.requeue.build(&namespace, &active.name);
                if let Err(broken) = &done {
                    // The build has its turn and can't begin: it is the one that says why.
                    context.builds.failed(&active.uid, broken);
                }
                done.map_err(|broken| ReconcileError::Effect { class: broken.class, message: broken.message })?;
            }
        }
        Ok(())
    }

    fn status(&self) -> Option<&ProjectStatus> {
        self.status.as_ref()
    }

    fn wake_dependents(&self, context: &ProjectContext) {
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
        for build in context.builds.open(&namespace, &name) {
            context.shared.requeue.build(&namespace, &build);
        }
    }

    fn on_deleted(&self, context: &Arc<ProjectContext>) {
        let namespace = self.namespace().unwrap_or_default();
        let then = context.clone();
        let uid = self.uid().unwrap_or_default();
        let sweep = async move {
            let left = async || gone::tidy(&uid, &namespace, &then).await;
            insist("what a project left that is gone", &uid, left).await;
        };
        let _ = context.tasks.start(format!("project/{}/gone", self.uid().unwrap_or_default()), sweep);
    }
}
