//! Projects: how to look at one, and how to do what its planner says. It must not decide.

mod caches;
mod grant;
mod listing;
mod memory;
mod observe;

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;

pub use self::memory::Memory;
use super::{
    frame::{Kind, Trouble},
    world::World,
};
use crate::{
    api::{Project, project::ProjectStatus},
    plan::{
        Plan,
        project::{self, Act, Seen},
    },
};

impl Kind for Project {
    const KIND: &'static str = "Project";
    type Seen = Seen;
    type Act = Act;
    type Status = ProjectStatus;

    async fn observe(&self, world: &World) -> Result<Seen, Trouble> {
        observe::observe(self, world).await
    }

    fn plan(seen: &Seen, now: Timestamp) -> Plan<ProjectStatus, Act> {
        project::plan(seen, now)
    }

    async fn act(&self, act: Act, world: &Arc<World>) -> Result<(), Trouble> {
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
        match act {
            Act::List { again } => listing::start(self, again, world),
            Act::Announce(line) => {
                for build in world.builds.announce(&namespace, &name, line) {
                    world.wakes.build(&namespace, &build);
                }
            }
            Act::Grant(active) => {
                let done = grant::grant(self, &active, world).await;
                // To take another number where this one was gone, and to tell the build.
                world.wakes.project(&namespace, &name);
                world.wakes.build(&namespace, &active.name);
                done.map_err(|broken| Trouble::Effect { class: broken.class, message: broken.message })?;
            }
        }
        Ok(())
    }

    fn status(&self) -> Option<&ProjectStatus> {
        self.status.as_ref()
    }

    fn changed(&self, world: &World) {
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
        for build in world.builds.open(&namespace, &name) {
            world.wakes.build(&namespace, &build);
        }
    }

    fn gone(&self, world: &Arc<World>) {
        let namespace = self.namespace().unwrap_or_default();
        let then = world.clone();
        let sweep = async move { caches::sweep(&then, &namespace).await };
        let _ = world.tasks.start(format!("project/{}/gone", self.uid().unwrap_or_default()), sweep);
    }
}
