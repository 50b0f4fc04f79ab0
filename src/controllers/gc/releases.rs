//! Who has a claim on which release of the store. Whether the bytes stay decides `plan::gc::releases`.

use crate::model::Failure;
use std::collections::{BTreeMap, BTreeSet};

use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
};
use tokio::sync::OwnedRwLockWriteGuard;

use crate::{
    api::{Deployment, Reason, deployment::versions_named_in},
    controllers::{error::api_message, frame::Shared, records::read_json},
    effects::store::{Key, Store, keys},
    model::{Class, build::ReleaseRecord, version::VersionRecord},
    plan::gc::releases::{self, Claim},
};

/// Who needs which bytes. While it lives nobody stores a release.
pub(crate) struct Releases {
    /// Digest → records of versions that have it.
    versions: BTreeMap<String, Vec<Key>>,
    /// Digest → uids of builds that made it and have not published it.
    unpublished: BTreeMap<String, Vec<String>>,
    _alone: OwnedRwLockWriteGuard<()>,
}

impl Releases {
    /// Reads all records. One that can't be read is an error: then nobody can tell what is needed.
    pub(crate) async fn observe(store: &Store) -> Result<Self, Failure> {
        let alone = store.judge_releases().await;
        let (mut versions, mut publishers) = (BTreeMap::<String, Vec<Key>>::new(), BTreeSet::new());
        for key in store.list(&keys::all_versions()?).await? {
            if let Some(record) = read_json::<VersionRecord>(store, &key).await? {
                publishers.insert(record.build_uid);
                versions.entry(record.digest).or_default().push(key);
            }
        }
        let mut unpublished = BTreeMap::<String, Vec<String>>::new();
        for key in store.list(&keys::builds()?).await? {
            let Some((uid, "release.json")) = keys::build_parts(&key) else { continue };
            if publishers.contains(uid) {
                continue;
            }
            if let Some(record) = read_json::<ReleaseRecord>(store, &key).await? {
                unpublished.entry(record.digest).or_default().push(uid.to_owned());
            }
        }
        Ok(Self { versions, unpublished, _alone: alone })
    }

    /// Deletes these bytes, unless somebody else than the version of this record, or than the build of this uid, needs them.
    pub(crate) async fn delete(
        &self,
        digest: &str,
        excluding: Excluding<'_>,
        shared: &Shared,
        store: &Store,
    ) -> Result<bool, Failure> {
        if releases::is_needed(&self.claims(digest, excluding, shared, store).await?) {
            return Ok(false);
        }
        store.remove_release(&shared.gate, digest).await?;
        Ok(true)
    }

    async fn claims(
        &self,
        digest: &str,
        excluding: Excluding<'_>,
        shared: &Shared,
        store: &Store,
    ) -> Result<Vec<Claim>, Failure> {
        let makers = self.unpublished.get(digest).into_iter().flatten();
        let mut claims: Vec<Claim> =
            makers.filter(|uid| excluding != Excluding::Build(uid)).map(|_| Claim::Unpublished).collect();
        for key in self.versions.get(digest).into_iter().flatten().filter(|key| excluding != Excluding::Version(key)) {
            let Some((namespace, project, version)) = keys::version_parts(key) else {
                // Whose it is can't be told, so it is kept.
                claims.push(Claim::Version { expired: false, needed: true });
                continue;
            };
            let expired = store.get(&keys::removed(namespace, project, version)?).await?.is_some();
            let needed = expired && needed_versions(namespace, project, shared).await?.contains(version);
            claims.push(Claim::Version { expired, needed });
        }
        Ok(claims)
    }
}

/// Whose need does not count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excluding<'a> {
    Version(&'a Key),
    Build(&'a str),
}

/// Versions that Deployments of a project want, run or could go back to, as the API server has them now.
pub(crate) async fn needed_versions(
    namespace: &str,
    project: &str,
    shared: &Shared,
) -> Result<BTreeSet<String>, Failure> {
    let selector = ListParams::default().fields(&format!("spec.projectRef.name={project}"));
    let resource = ApiResource::erase::<Deployment>(&());
    let api = Api::<DynamicObject>::namespaced_with(shared.client.clone(), namespace, &resource);
    let listed = api.list(&selector).await;
    let listed = listed.map_err(|error| Failure::of(Reason::InternalError, Class::Transient, &api_message(&error)))?;
    let mut needed = BTreeSet::new();
    for deployment in listed {
        // As it stands there, not as it reads here: a version that only a later landfall understands is needed as well.
        needed.extend(versions_named_in(&deployment.data));
        deployment.clone().try_parse::<Deployment>().map_err(|error| {
            Failure::new(
                Reason::RetentionFailed,
                Class::Transient,
                format!(
                    "the Deployment {} can't be read ({error}), so nobody can tell which versions it needs; mend it",
                    deployment.name_any()
                ),
            )
        })?;
    }
    Ok(needed)
}
