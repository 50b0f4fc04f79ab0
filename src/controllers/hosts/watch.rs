//! One background task per host: it looks by schedule and when it is kicked, and wakes who depends on what it saw.

use std::{sync::Arc, time::Duration};

use rand::Rng;

use super::{
    link::{Link, link},
    memory::HostKey,
    problem::problem,
};
use crate::{
    controllers::world::World,
    effects::{host::HostError, ssh::SshError},
    plan::{
        facts::{FolderFacts, HostFacts},
        hostgroup::Look,
        ids::FolderName,
    },
};

/// A look takes no longer, whatever the SSH library thinks.
const DEADLINE: Duration = Duration::from_secs(60);

/// Looks at a host until it leaves its group.
pub async fn watch(world: Arc<World>, key: HostKey) {
    loop {
        let Some((kick, period, missed)) = world.hosts.watching(&key) else { return };
        let _ = probe(&world, &key).await;
        let pause = pause(period, missed);
        let _ = tokio::time::timeout(pause, kick.notified()).await;
    }
}

/// The period, some earlier and some later; after a miss sooner, with full jitter, so that a thousand hosts behind one switch that comes
/// back are not dialled in one moment.
fn pause(period: Duration, missed: u32) -> Duration {
    let mut rng = rand::rng();
    if missed == 0 {
        return period.mul_f64(rng.random_range(0.9..1.1));
    }
    let longest = Duration::from_secs(1_u64 << missed.min(8)).min(period);
    longest.mul_f64(rng.random_range(0.0..1.0)).max(Duration::from_millis(200))
}

/// Looks at a host now, keeps what was seen, and wakes its group and the Deployments of the namespace if that is news.
pub async fn probe(world: &Arc<World>, key: &HostKey) -> Result<HostFacts, HostError> {
    let acts = world.hosts.acts(key);
    let seen = match link(&world.hosts, &world.gate, key).await {
        Ok(link) => facts(&link, key).await,
        Err(error) => Err(error),
    };
    if let Some(dial) = world.hosts.dial(key) {
        let lost = matches!(&seen, Err(HostError::Ssh(error)) if error.is_unreachable());
        if lost || !dial.config.keeps_connections() {
            dial.slot.close().await;
        }
    }
    keep(world, key, &seen, acts);
    seen
}

/// The same over a connection at hand.
pub async fn probe_over(world: &World, key: &HostKey, link: &Link) -> Result<HostFacts, HostError> {
    let acts = world.hosts.acts(key);
    let seen = facts(link, key).await;
    keep(world, key, &seen, acts);
    seen
}

/// What is known after an act that told of its folder: the rest of the host is as it was. Kept, and answered.
pub fn after(world: &World, key: &HostKey, mut facts: HostFacts, folder: &FolderName, now: FolderFacts) -> HostFacts {
    facts.folders.insert(folder.clone(), now);
    keep(world, key, &Ok(facts.clone()), world.hosts.acts(key));
    facts
}

async fn facts(link: &Link, key: &HostKey) -> Result<HostFacts, HostError> {
    match tokio::time::timeout(DEADLINE, link.host.facts_for(&link.r#become)).await {
        Ok(seen) => seen,
        Err(_) => {
            let seconds = DEADLINE.as_secs();
            Err(SshError::Deadline { address: key.host.clone(), what: "telling its facts", seconds }.into())
        }
    }
}

/// Keeps a look and wakes who depends on it.
fn keep(world: &World, key: &HostKey, seen: &Result<HostFacts, HostError>, acts: u64) {
    let look = match seen {
        Ok(facts) => Look::Seen(Box::new(facts.clone())),
        Err(error) => match problem(error) {
            Some(problem) => Look::Missed(problem),
            None => return,
        },
    };
    if world.hosts.note(key, look, acts) {
        world.wakes.host_group(&key.namespace, &key.group);
        world.wakes.deployments_in(&key.namespace);
    }
}
