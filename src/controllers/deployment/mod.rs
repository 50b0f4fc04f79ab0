//! Deployments: how to look at one, and how to do what its planner says. It must not decide.

mod claims;
mod diary;
mod failure;
mod observe;
mod records;
mod step;
mod turn;
mod verify;

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;

pub use self::claims::Claims;
use self::turn::Place;
use super::{
    frame::{Kind, Trouble},
    hosts::TurnKey,
    world::World,
};
use crate::{
    api::{Deployment, deployment::DeploymentStatus},
    effects::clock,
    plan::{
        Plan,
        deployment::{self, Act, Drive, GoalKind, Observed, RolloutAttempt},
    },
};

impl Kind for Deployment {
    const KIND: &'static str = "Deployment";
    type Seen = Observed;
    type Act = Act;
    type Status = DeploymentStatus;

    async fn observe(&self, world: &World) -> Result<Observed, Trouble> {
        observe::observe(self, world).await
    }

    fn plan(seen: &Observed, now: Timestamp) -> Plan<DeploymentStatus, Act> {
        deployment::plan(seen, now)
    }

    async fn act(&self, act: Act, world: &Arc<World>) -> Result<(), Trouble> {
        let namespace = self.namespace().unwrap_or_default();
        let uid = self.uid().unwrap_or_default();
        let group = &self.spec.host_group_ref.name;
        match act {
            Act::Probe(hosts) => {
                world.hosts.kick(&namespace, group, &hosts);
                world.wakes.host_group(&namespace, group);
            }
            Act::Record(record) => records::write_revision(world, &uid, &record).await?,
            Act::Judge(verdict) => records::write_verdict(world, &uid, &verdict).await?,
            Act::Drive(drive) => self.drive(drive, world),
            Act::Forget(hosts) => {
                for host in hosts {
                    world.hosts.turns.forget(&TurnKey { uid: uid.clone(), host });
                }
            }
            Act::KeepLogs(rollouts) => self.limit_logs(rollouts, world),
            Act::RemoveLogs => world.diaries.remove(&world.gate, &world.store, &uid).await?,
        }
        Ok(())
    }

    fn status(&self) -> Option<&DeploymentStatus> {
        self.status.as_ref()
    }

    /// Nobody depends on a Deployment's status. One that went is forgotten.
    fn changed(&self, world: &World) {
        if self.metadata.deletion_timestamp.is_some() && self.finalizers().is_empty() {
            world.hosts.turns.forget_all(&self.uid().unwrap_or_default());
            world.diaries.forget(&self.uid().unwrap_or_default());
        }
    }

    /// Who claims its hosts may have them now.
    fn gone(&self, world: &Arc<World>) {
        world.wakes.deployments_in(&self.namespace().unwrap_or_default());
    }
}

impl Deployment {
    /// Of the rollout that stands in the status, which was committed before.
    fn limit_logs(&self, rollouts: usize, world: &Arc<World>) {
        let current = self.status.as_ref().and_then(|status| status.rollout.as_ref());
        if let Some(current) = current.and_then(|rollout| RolloutAttempt::new(&rollout.id, rollout.attempt)) {
            diary::limit(world, &self.uid().unwrap_or_default(), current, rollouts);
        }
    }

    /// Gives a host its goal; a task that is under way there takes it up after its step.
    fn drive(&self, drive: Drive, world: &Arc<World>) {
        let place = Place {
            namespace: self.namespace().unwrap_or_default(),
            deployment: self.name_any(),
            uid: self.uid().unwrap_or_default(),
            project: self.spec.project_ref.name.clone(),
            group: self.spec.host_group_ref.name.clone(),
            host: drive.host.clone(),
        };
        let key = place.turn_key();
        match drive.key.kind {
            GoalKind::Heal => world.hosts.turns.heal(&key, drive.key.attempt, clock::now()),
            GoalKind::Run => world.hosts.turns.healed(&key),
            _ => {}
        }
        if let Some(number) = world.hosts.turns.set(&key, drive) {
            let task = format!("turn/{}/{}/{number}", key.uid, key.host);
            world.tasks.start(task, turn::run(world.clone(), place, number));
        }
    }
}
