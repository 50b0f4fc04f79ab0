//! Records of rollouts in the store. They are created once and never changed, so each is read once and kept.

use super::context::DeploymentContext;
use crate::{
    controllers::{frame::ReconcileError, hosts::HostWorkers, records::of_a_later_format},
    effects::store::{Create, Key, keys},
    model::{
        rollout::{HostFailure, RolloutRecord},
        version::VersionRecord,
    },
};

/// Every revision of a Deployment.
pub async fn revisions(context: &DeploymentContext, uid: &str) -> Result<Vec<RolloutRecord>, ReconcileError> {
    read_all(context, &keys::rollouts(uid)?, HostWorkers::revision, HostWorkers::keep_revision).await
}

/// Every failure of hosts of a Deployment.
pub async fn failures(context: &DeploymentContext, uid: &str) -> Result<Vec<HostFailure>, ReconcileError> {
    read_all(context, &keys::host_failures_of(uid)?, HostWorkers::host_failure, HostWorkers::keep_host_failure).await
}

/// The records of a folder, those in memory and the others from the store.
async fn read_all<T: Clone + serde::de::DeserializeOwned>(
    context: &DeploymentContext,
    folder: &Key,
    kept: impl Fn(&HostWorkers, &str) -> Option<T>,
    keep: impl Fn(&HostWorkers, &str, T),
) -> Result<Vec<T>, ReconcileError> {
    let workers = &context.hosts.workers;
    let mut records = Vec::new();
    for key in context.store.list(folder).await? {
        if let Some(record) = kept(workers, key.as_str()) {
            records.push(record);
        } else if let Some(record) = read::<T>(context, &key).await? {
            keep(workers, key.as_str(), record.clone());
            records.push(record);
        }
    }
    Ok(records)
}

/// The record that makes a version deployable; `None` where it was not published.
pub async fn version(
    context: &DeploymentContext,
    namespace: &str,
    project: &str,
    name: &str,
) -> Result<Option<VersionRecord>, ReconcileError> {
    let key = keys::version(namespace, project, name)?;
    read(context, &key).await
}

/// Whether a version is recorded as deleted.
pub(crate) async fn version_removed(
    context: &DeploymentContext,
    namespace: &str,
    project: &str,
    name: &str,
) -> Result<bool, ReconcileError> {
    let key = keys::removed(namespace, project, name)?;
    Ok(context.store.size(&key).await?.is_some())
}

/// A record that can't be read counts as missing and is logged: one damaged file must not stop a Deployment. One of a later format is no
/// damage: without what it says nothing is decided.
async fn read<T: serde::de::DeserializeOwned>(
    context: &DeploymentContext,
    key: &Key,
) -> Result<Option<T>, ReconcileError> {
    let Some(bytes) = context.store.get(key).await? else { return Ok(None) };
    if let Some(failure) = of_a_later_format(key, &bytes) {
        return Err(failure.into());
    }
    match serde_json::from_slice(&bytes) {
        Ok(record) => Ok(Some(record)),
        Err(error) => {
            tracing::error!(%key, %error, "a record in the store is damaged; restore it from a backup");
            Ok(None)
        }
    }
}

pub(crate) async fn write_revision(
    context: &DeploymentContext,
    uid: &str,
    record: &RolloutRecord,
) -> Result<(), ReconcileError> {
    let key = keys::rollout(uid, record.revision)?;
    let bytes = serde_json::to_vec_pretty(record)?;
    match context.store.create(&context.shared.gate, &key, bytes).await? {
        Create::Created => Ok(()),
        Create::Exists(found) => {
            let same = serde_json::from_slice::<RolloutRecord>(&found).is_ok_and(|found| found.hash == record.hash);
            // Another hash under this number: the next reconcile reads it and takes the next number.
            if same { Ok(()) } else { Err(ReconcileError::Outdated) }
        }
    }
}

/// The first failure of a host in an attempt stands.
pub(crate) async fn write_failure(
    context: &DeploymentContext,
    uid: &str,
    failure: &HostFailure,
) -> Result<(), ReconcileError> {
    let key = keys::host_failure(uid, &failure.rollout, failure.attempt, &failure.host)?;
    let bytes = serde_json::to_vec_pretty(failure)?;
    context.store.create(&context.shared.gate, &key, bytes).await?;
    Ok(())
}
