//! What a Build that is gone left in the store: its records, what it said, and a release that it never published.

use super::{broken::Broken, records};
use crate::{
    controllers::{
        frame::Shared,
        releases::{Excluding, Releases},
    },
    effects::store::{Store, keys},
};

/// Removes it all; the plan, which says whose it is, at the end. A version that it published stays.
pub async fn remove(uid: &str, shared: &Shared, store: &Store) -> Result<(), Broken> {
    store.remove_below(&shared.gate, &keys::logs(uid)?, None).await?;
    if let Some(release) = records::release(store, uid).await?
        && store.has_release(&release.digest).await?
    {
        Releases::look(store).await?.remove(&release.digest, Excluding::Build(uid), shared, store).await?;
    }
    let (folder, plan) = (keys::build(uid)?, keys::build_plan(uid)?);
    Ok(store.remove_below(&shared.gate, &folder, Some(&plan)).await?)
}
