//! What a deleted Build left in the store: its records, its logs, and a release that it never published.

use super::records;
use crate::model::Failure;
use crate::{
    controllers::{
        frame::Shared,
        gc::releases::{Excluding, Releases},
    },
    effects::store::{Store, keys},
};

/// Deletes it all; the plan, which says whose it is, at the end. A version that it published stays.
pub async fn delete_records(uid: &str, shared: &Shared, store: &Store) -> Result<(), Failure> {
    store.remove_below(&shared.gate, &keys::logs(uid)?, None).await?;
    if let Some(release) = records::release(store, uid).await?
        && store.has_release(&release.digest).await?
    {
        Releases::observe(store).await?.delete(&release.digest, Excluding::Build(uid), shared, store).await?;
    }
    let (folder, plan) = (keys::build(uid)?, keys::build_plan(uid)?);
    Ok(store.remove_below(&shared.gate, &folder, Some(&plan)).await?)
}
