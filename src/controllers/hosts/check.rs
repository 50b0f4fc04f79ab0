//! What a check of a host, or an act on it, leaves known; and that nothing which is asked of a host waits without end.

use std::time::Duration;

use super::{config::HostKey, failure::failure, fleet::Fleet, workers::HostWorkerKey};
use crate::{
    api::Reason,
    effects::{host::HostError, ssh::SshError},
    model::{
        Failure,
        facts::{FolderFacts, HostFacts},
        ids::{FolderName, Owner},
    },
    plan::hostgroup::HostCheck,
};

/// Time after which a host of which nothing is known counts as unreachable for now: a slow host must not hold up the others.
pub(super) const FIRST_CHECK_TIMEOUT: Duration = Duration::from_secs(15);

/// Records what is known after an act that told of its folder, and answers it: the rest of the host is as it was. The caller wakes what
/// depends on it, once more than this one act is done.
pub fn after(fleet: &Fleet, key: &HostKey, mut facts: HostFacts, folder: &FolderName, now: FolderFacts) -> HostFacts {
    facts.folders.insert(folder.clone(), now);
    fleet.hosts.record_check(key, HostCheck::Facts(Box::new(facts.clone())), fleet.hosts.acts(key));
    facts
}

/// Something that is asked of a host, with a deadline outside the SSH library.
pub(crate) async fn bounded<T>(
    fleet: &Fleet,
    key: &HostKey,
    limit: Duration,
    what: &'static str,
    work: impl Future<Output = Result<T, HostError>>,
) -> Result<T, HostError> {
    let acts = fleet.hosts.acts(key);
    tokio::pin!(work);
    if let Ok(done) = tokio::time::timeout(FIRST_CHECK_TIMEOUT, &mut work).await {
        return done;
    }
    let message = format!("no answer from {} for {} s; still waiting", key.host, FIRST_CHECK_TIMEOUT.as_secs());
    note_waiting(fleet, key, message, acts);
    let late = |_| SshError::Deadline { address: key.host.clone(), what, seconds: limit.as_secs() };
    tokio::time::timeout(limit.saturating_sub(FIRST_CHECK_TIMEOUT), work).await.map_err(late)?
}

/// A host of which nothing is known counts as unreachable for now.
pub(super) fn note_waiting(fleet: &Fleet, key: &HostKey, message: String, acts: u64) {
    if fleet.hosts.check(key) == HostCheck::Unknown {
        record_check(fleet, key, HostCheck::Failed(Failure::waiting(Reason::Unreachable, message)), acts);
    }
}

/// Hosts that an operator before this one acted on are known by their owner files.
fn note_owners(fleet: &Fleet, key: &HostKey, facts: &HostFacts) {
    let owners = facts.folders.values().filter_map(|folder| folder.owner.as_ref());
    let ours = |owner: &&Owner| owner.control_plane_id == fleet.control_plane_id && owner.host == key.host;
    for owner in owners.filter(ours) {
        fleet.hosts.workers.note(HostWorkerKey { uid: owner.uid.clone(), host: key.host.clone() });
    }
}

/// Keeps a check and wakes what depends on it.
pub(super) fn keep(fleet: &Fleet, key: &HostKey, observed: &Result<HostFacts, HostError>, acts: u64) {
    if let Ok(facts) = observed {
        note_owners(fleet, key, facts);
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
