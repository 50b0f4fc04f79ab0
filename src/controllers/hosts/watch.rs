//! One background task per host: it looks by schedule and when it is kicked, and wakes who depends on what it saw.

use std::{sync::Arc, time::Duration};

use rand::Rng;
use tracing::Instrument;

use super::{
    Fleet,
    failure::failure,
    link::{Link, link},
    registry::HostKey,
    workers::HostWorkerKey,
};
use crate::{
    api::Reason,
    effects::{clock, host::HostError, ssh::SshError},
    model::{
        Failure,
        facts::{FolderFacts, HostFacts},
        ids::{FolderName, Owner},
    },
    plan::{deployment::Healing, hostgroup::HostCheck},
};

/// A look takes no longer, whatever the SSH library thinks.
const DEADLINE: Duration = Duration::from_secs(30);
/// Who waits for a first look at a host waits no longer: one that is slow must not hold up the others.
const SOON: Duration = Duration::from_secs(15);
/// Nothing on a host but our looks keeps logs short: one that grew long is looked at so soon again.
const LOG_AFTER: Duration = Duration::from_secs(5);
/// Number of checks at that pace after the last time that it was long.
const LOUD_LOOKS: u32 = 24;

/// Probes a host until it leaves its group.
pub async fn watch(fleet: Arc<Fleet>, key: HostKey) {
    let (namespace, name, host) = (&key.namespace, &key.group, &key.host);
    let span = tracing::info_span!(parent: None, "host", kind = "HostGroup", namespace, name, host);
    probe_by_schedule(fleet, key).instrument(span).await;
}

async fn probe_by_schedule(fleet: Arc<Fleet>, key: HostKey) {
    let mut loud = 0_u32;
    loop {
        let Some((request_check, _, _)) = fleet.hosts.watching(&key) else { return };
        let rotated = probe(&fleet, &key).await.is_ok_and(|facts| facts.rotated);
        // One short log proves nothing: what filled ten megabytes may take longer than one quick look to do it again.
        loud = if rotated { LOUD_LOOKS } else { loud.saturating_sub(1) };
        let Some((_, period, missed)) = fleet.hosts.watching(&key) else { return };
        let pause = if loud > 0 { LOG_AFTER.min(period) } else { pause(period, missed) };
        let _ = tokio::time::timeout(pause, request_check.notified()).await;
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
pub async fn probe(fleet: &Fleet, key: &HostKey) -> Result<HostFacts, HostError> {
    let acts = fleet.hosts.acts(key);
    let observed = match link(fleet, key).await {
        Ok(link) => ask(fleet, key, &link).await,
        Err(error) => Err(error),
    };
    if let Some(dial) = fleet.hosts.dial(key) {
        // Where no sense can be made of an answer the script may be gone: it is looked for when the connection is made.
        let lost = matches!(&observed, Err(HostError::Ssh(_) | HostError::Protocol { .. }));
        if lost || !dial.config.keeps_connections() {
            dial.slot.close().await;
        }
    }
    keep(fleet, key, &observed, acts);
    observed
}

/// The same over a connection at hand.
pub async fn probe_over(fleet: &Fleet, key: &HostKey, link: &Link) -> Result<HostFacts, HostError> {
    let acts = fleet.hosts.acts(key);
    let observed = ask(fleet, key, link).await;
    keep(fleet, key, &observed, acts);
    observed
}

async fn ask(fleet: &Fleet, key: &HostKey, link: &Link) -> Result<HostFacts, HostError> {
    let observed = bounded(fleet, key, DEADLINE, "telling its facts", link.host.facts_for(&link.r#become)).await;
    if observed.is_ok() {
        link.mark_healthy();
    }
    observed
}

/// What is known after an act that told of its folder: the rest of the host is as it was. Kept, and answered. Whose act it was wakes who
/// depends on it when more than this one is done.
pub fn after(fleet: &Fleet, key: &HostKey, mut facts: HostFacts, folder: &FolderName, now: FolderFacts) -> HostFacts {
    facts.folders.insert(folder.clone(), now);
    recall(fleet, key, &facts);
    fleet.hosts.record_check(key, HostCheck::Facts(Box::new(facts.clone())), fleet.hosts.acts(key));
    facts
}

/// Something that a host is asked, with an end that the SSH library has no say in.
pub(crate) async fn bounded<T>(
    fleet: &Fleet,
    key: &HostKey,
    limit: Duration,
    what: &'static str,
    work: impl Future<Output = Result<T, HostError>>,
) -> Result<T, HostError> {
    let acts = fleet.hosts.acts(key);
    tokio::pin!(work);
    if let Ok(done) = tokio::time::timeout(SOON, &mut work).await {
        return done;
    }
    if fleet.hosts.check(key) == HostCheck::Unknown {
        let message = format!("no answer from {} for {} s; it is still waited for", key.host, SOON.as_secs());
        record_check(fleet, key, HostCheck::Failed(Failure::waiting(Reason::Unreachable, message)), acts);
    }
    let late = |_| SshError::Deadline { address: key.host.clone(), what, seconds: limit.as_secs() };
    tokio::time::timeout(limit.saturating_sub(SOON), work).await.map_err(late)?
}

/// What an operator before this one did to heal is on the host's own record.
fn recall(fleet: &Fleet, key: &HostKey, facts: &HostFacts) {
    for folder in facts.folders.values() {
        let ours = |owner: &&Owner| owner.control_plane_id == fleet.control_plane_id && owner.host == key.host;
        if let Some(owner) = folder.owner.as_ref().filter(ours) {
            let worker = HostWorkerKey { uid: owner.uid.clone(), host: key.host.clone() };
            let healing = Healing::recorded(&folder.heals, facts.uptime, clock::now());
            fleet.hosts.workers.recall(&worker, healing);
        }
    }
}

/// Keeps a look and wakes who depends on it.
fn keep(fleet: &Fleet, key: &HostKey, observed: &Result<HostFacts, HostError>, acts: u64) {
    if let Ok(facts) = observed {
        recall(fleet, key, facts);
    }
    let check = match observed {
        Ok(facts) => HostCheck::Facts(Box::new(facts.clone())),
        Err(error) => match failure(error) {
            Some(failure) => HostCheck::Failed(failure),
            None => return,
        },
    };
    record_check(fleet, key, check, acts);
}

fn record_check(fleet: &Fleet, key: &HostKey, check: HostCheck, acts: u64) {
    let change = fleet.hosts.record_check(key, check, acts);
    if change.group {
        fleet.requeue.host_group(&key.namespace, &key.group);
    }
    if change.deployments {
        fleet.requeue.deployments_in(&key.namespace);
    }
}
