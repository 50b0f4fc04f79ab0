//! Records of rollouts in the store: which hosts failed in an attempt, and with which process. Records are created once and never
//! changed.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;

use super::{observed::Observed, target::Target};
use crate::{
    api::{EnvVar, deployment::Rollout},
    model::{
        rollout::{HostFailure, ProcessId, RolloutRecord},
        version::VersionRecord,
    },
};

/// The record of a new revision, without values of Secrets.
pub fn record(version: &VersionRecord, env: Vec<EnvVar>, hash: String, revision: i64, now: Timestamp) -> RolloutRecord {
    RolloutRecord {
        revision,
        hash,
        version: version.version.clone(),
        commit: version.commit.clone(),
        digest: version.digest.clone(),
        size: version.size,
        env,
        values: BTreeMap::new(),
        run: version.run.clone(),
        started_at: now,
        pinned: Vec::new(),
        returned_from: None,
    }
}

/// Whether any host has failed in this attempt of the rollout on record.
pub(crate) fn any_failed(observed: &Observed, rollout: &Rollout) -> bool {
    failures_of(observed, &rollout.id, rollout.attempt).next().is_some()
}

/// Failures of an attempt of a rollout, the oldest first.
pub(crate) fn failures_of<'a>(
    observed: &'a Observed,
    rollout: &'a str,
    attempt: i64,
) -> impl DoubleEndedIterator<Item = &'a HostFailure> {
    let failures = observed.failures.iter().filter(|failure| !failure.is_given_up_healing());
    failures.filter(move |failure| failure.rollout == rollout && failure.attempt == attempt)
}

/// Failures of this attempt, by host.
pub fn failures<'a>(observed: &'a Observed, target: Option<&'a Target>) -> HashMap<&'a str, &'a HostFailure> {
    let Some(target) = target else { return HashMap::new() };
    // The first of a host stands.
    let newest_first = failures_of(observed, &target.rollout, target.attempt).rev();
    newest_first.map(|failure| (failure.host.as_str(), failure)).collect()
}

/// Processes that failed, in whatever attempt.
pub(crate) fn failed_processes(observed: &Observed) -> HashSet<(&str, ProcessId)> {
    let processes = observed.failures.iter().filter_map(|failure| Some((failure.host.as_str(), failure.process?)));
    processes.collect()
}
