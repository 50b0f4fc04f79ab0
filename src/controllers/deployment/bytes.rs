//! How the bytes of a release come to a host: as what differs from a release that it holds, where a delta was ordered for that one, else
//! whole. Which delta, `plan::deployment::base` decides.

use std::sync::Arc;

use landfall_host_protocol as protocol;

use super::{
    context::DeploymentContext,
    failure::{StepError, TaskFailure, host_failed},
    host_ref::HostRef,
    orders::OrderKey,
    records,
    rollout_log::RolloutLog,
};
use crate::{
    api::{Reason, deployment::Phase},
    effects::host::{Base, Bundle},
    model::{facts::FolderFacts, ids::ReleaseName},
    plan::deployment::{BASES_MOST, Holding, StepProgress, Target, base, candidates},
};

/// A release that a host needs.
pub(super) struct Wanted<'a> {
    pub controller: &'a DeploymentContext,
    pub host_ref: &'a HostRef,
    pub log: &'a RolloutLog<'a>,
    /// What the host shows.
    pub folder: &'a FolderFacts,
    pub target: &'a Target,
    /// A delta was of no use there.
    pub delta_failed: bool,
}

impl Wanted<'_> {
    /// The release, made for this host.
    pub async fn bundle(&self) -> Result<Arc<Bundle>, StepError> {
        let (controller, target, namespace) = (self.controller, self.target, &self.host_ref.namespace);
        let base = if self.delta_failed { None } else { self.base().await };
        if let Some(base) = base {
            let version = base.name.version();
            match controller.bundles.of(&controller.store, namespace, &target.digest, Some(&base)).await {
                Ok(bundle) => {
                    let size = bundle.bundle.size;
                    self.log.note(&format!("stage: {size} bytes, with what the host has of {version}"));
                    return Ok(bundle);
                }
                Err(error) => {
                    self.log.note(&format!("stage: no delta against {version}: {error}; the whole release is sent"));
                    let order = controller.orders.of(&self.order_key());
                    order.lock().await.failed.extend(ReleaseName::parse(base.name.as_str()));
                }
            }
        }
        let bundle = controller.bundles.of(&controller.store, namespace, &target.digest, None).await;
        bundle.map_err(|error| StepError::Failed(host_failed(Reason::StoreUnavailable, &error.to_string(), &[])))
    }

    fn order_key(&self) -> OrderKey {
        let HostRef { namespace, project, .. } = self.host_ref;
        (namespace.clone(), project.clone(), self.target.digest.clone())
    }

    /// The base of this host's delta; where it is to be a new one, it is ordered.
    async fn base(&self) -> Option<Base> {
        let holding = Holding::of(self.folder, &self.target.release);
        if holding.is_empty() {
            return None;
        }
        let order = self.controller.orders.of(&self.order_key());
        let mut order = order.lock().await;
        let ordered = order.names();
        if let Some(name) = holding.first_of(&ordered) {
            return order.against(name);
        }
        if ordered.len() >= BASES_MOST {
            return None;
        }
        let hosts: Vec<Holding> = [holding.clone()].into_iter().chain(self.others()).collect();
        let size = self.target.size;
        let known = self.known(candidates(&hosts, &ordered, size)).await;
        let names: Vec<ReleaseName> = known.iter().map(|(name, _)| name.clone()).collect();
        let chosen = base(&holding, &hosts, &ordered, size, &names)?;
        let digest = known.into_iter().find(|(name, _)| *name == chosen).map(|(_, digest)| digest)?;
        let base = Base { name: protocol::ReleaseName::parse(chosen.as_str())?, digest };
        order.bases.push(base.clone());
        Some(base)
    }

    /// What the other hosts of this Deployment hold, as far as they need the release.
    fn others(&self) -> Vec<Holding> {
        let HostRef { namespace, group, host, uid, .. } = self.host_ref;
        let folders = self.controller.hosts.folders(namespace, group, &self.host_ref.folder());
        let is_other = |(name, folder): &&(String, FolderFacts)| {
            name != host && folder.owner.as_ref().is_some_and(|owner| owner.uid == *uid)
        };
        folders.iter().filter(is_other).map(|(_, folder)| Holding::of(folder, &self.target.release)).collect()
    }

    /// Those of the releases that are versions of this Project, with their digests.
    async fn known(&self, candidates: Vec<ReleaseName>) -> Vec<(ReleaseName, String)> {
        let HostRef { namespace, project, .. } = self.host_ref;
        let mut known = Vec::new();
        for name in candidates {
            let record = records::version(self.controller, namespace, project, name.version()).await;
            let Ok(Some(record)) = record else { continue };
            if ReleaseName::new(&record.version, &record.digest) == name {
                known.push((name, record.digest));
            }
        }
        known
    }
}

/// A release that could not be put together from a delta is sent whole: what the host has of its base is not what it was, or is gone.
pub(super) fn or_whole(error: StepError, steps: &[protocol::Step], done: &mut StepProgress) -> StepError {
    let base = steps.iter().find_map(|step| match step {
        protocol::Step::Stage { bundle: Some(bundle), .. } => bundle.base.as_ref(),
        _ => None,
    });
    let failed = match error {
        StepError::Task(failed) if is_of_stage(&failed) => failed,
        other => return other,
    };
    let Some(base) = base else { return StepError::Task(failed) };
    done.delta_failed = true;
    StepError::Delta { version: base.version().to_owned(), why: failed.failure.message.clone() }
}

fn is_of_stage(failed: &TaskFailure) -> bool {
    failed.phase == Phase::Staging && failed.failure.reason == Reason::HelperFailed
}

#[cfg(test)]
mod tests {
    use protocol::Digest;

    use super::*;

    fn failed(reason: Reason, phase: Phase) -> StepError {
        let failure = host_failed(reason, "app.jar has another SHA-256", &[]);
        StepError::Task(Box::new(TaskFailure { failure, phase, process: None }))
    }

    fn stage(base: Option<&str>) -> protocol::Step {
        let digest = Digest::from_bytes([1; 32]);
        let name = |version: &str| protocol::ReleaseName::new(version, digest.as_str());
        let bundle = protocol::Bundle { sha256: digest.clone(), size: 1, base: base.map(name) };
        protocol::Step::Stage {
            release: name("v2"),
            digest: digest.clone(),
            manifest: digest.clone(),
            bundle: Some(bundle),
        }
    }

    #[test]
    fn a_delta_that_is_of_no_use_is_followed_by_the_whole_release_once() {
        let mut done = StepProgress::default();
        let error = or_whole(failed(Reason::HelperFailed, Phase::Staging), &[stage(Some("v1"))], &mut done);
        assert!(matches!(&error, StepError::Delta { version, why } if version == "v1" && why.contains("SHA-256")));
        assert!(done.delta_failed);
    }

    #[test]
    fn other_failures_and_those_of_whole_releases_stay_what_they_are() {
        for (error, base) in [
            (failed(Reason::HelperFailed, Phase::Staging), None),
            (failed(Reason::DiskFull, Phase::Staging), Some("v1")),
            (failed(Reason::HelperFailed, Phase::Starting), Some("v1")),
        ] {
            let mut done = StepProgress::default();
            assert!(matches!(or_whole(error, &[stage(base)], &mut done), StepError::Task(_)));
            assert!(!done.delta_failed);
        }
    }
}
