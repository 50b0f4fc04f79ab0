//! Projects: how one is observed, and how the actions of its planner are done. It must not decide.

mod context;
mod grant;
mod listing;
mod observe;
pub(crate) mod pushes;
mod registry;
mod retention;
mod retention_schedule;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt;

pub use self::{context::ProjectContext, registry::Registry};
use super::{
    frame::{self, Kind, ReconcileError},
    gc::{self, GarbageContext},
    tasks::delete_with_retries,
};
use crate::{
    api::{Project, Reason, project::ProjectStatus},
    model::{Class, Failure},
    plan::{
        EventDraft, Plan,
        project::{self, Action, Observed},
    },
};

/// Requeue delay while this process does not hold the lease.
const NOT_LEADING_DELAY: Duration = Duration::from_secs(1);

/// Requeues the project, to continue from what is on record now.
fn requeue_after(done: Result<(), Failure>, project: &Project, context: &ProjectContext) -> Result<(), ReconcileError> {
    context.shared.requeue.project(&project.namespace().unwrap_or_default(), &project.name_any());
    Ok(done?)
}

/// Collects in the background what retention no longer keeps, publishes an event, and requeues the project.
fn collect(project: &Project, context: &Arc<ProjectContext>) {
    let uid = project.uid().unwrap_or_default();
    let Some(of) = context.sources.schedules.begin(&uid) else { return };
    let (project, then) = (project.clone(), context.clone());
    let _ = context.tasks.start(format!("project/{uid}/retention"), async move {
        let (collected, result) = retention::collect(&project, &then).await;
        if let Some(note) = collected.note() {
            frame::publish_event(&project, &EventDraft::normal(Reason::Collected, "Collect", note), &then.shared).await;
        }
        let shut = result.as_ref().is_err_and(|failure| failure.class == Class::Waiting);
        then.sources.schedules.end(&uid, of, result);
        if shut {
            tokio::time::sleep(NOT_LEADING_DELAY).await;
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
            Action::RecordBaseline { baseline, heads } => {
                requeue_after(pushes::record_baseline(self, &baseline, &heads, context).await, self, context)?
            }
            Action::CollectGarbage => collect(self, context),
            Action::DeleteBaselines => {
                requeue_after(pushes::delete_baselines(self, None, context).await, self, context)?
            }
            Action::Trigger(heads) => {
                let done = pushes::trigger(self, &heads, context).await;
                // The status shows the failure, and the planner decides on the retry.
                context.sources.pushed(&self.uid().unwrap_or_default(), done);
                context.shared.requeue.project(&namespace, &name);
            }
            Action::Announce(queue) => {
                for build in context.builds.announce(&namespace, &name, queue) {
                    context.shared.requeue.build(&namespace, &build);
                }
            }
            Action::Grant(active) => {
                let done = grant::grant(self, &active, context).await;
                // To take another number where this one was claimed, and to inform the build.
                context.shared.requeue.project(&namespace, &name);
                context.shared.requeue.build(&namespace, &active.name);
                if let Err(failure) = &done {
                    // The build is granted and can't start: its status shows why.
                    context.builds.failed(&active.uid, failure);
                }
                done?;
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
        let key = format!("project/{uid}/collect");
        let collect = async move {
            let garbage = GarbageContext {
                shared: then.shared.clone(),
                executor: then.executor.clone(),
                git: then.git.clone(),
                store: then.store.clone(),
            };
            let collect = async || gc::collect_project(&uid, &namespace, &garbage).await;
            delete_with_retries("what a deleted project left", &uid, collect).await;
        };
        let _ = context.tasks.start(key, collect);
    }
}
