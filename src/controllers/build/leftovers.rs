//! What a Build that is gone left in the store: its records, what it said, and a release that it never published.

use super::{
    broken::Broken,
    records::{self, bad_key},
};
use crate::{
    controllers::{
        releases::{But, Releases},
        world::World,
    },
    effects::store::keys,
};

/// Removes it all; the plan, which says whose it is, at the end. A version that it published stays.
pub async fn remove(uid: &str, world: &World) -> Result<(), Broken> {
    world.store.remove_below(&world.gate, &keys::logs(uid).map_err(bad_key)?, None).await?;
    if let Some(release) = records::release(world, uid).await?
        && world.store.has_release(&release.digest).await?
    {
        Releases::look(world).await?.remove(&release.digest, But::Build(uid), world).await?;
    }
    let (folder, plan) = (keys::build(uid).map_err(bad_key)?, keys::build_plan(uid).map_err(bad_key)?);
    Ok(world.store.remove_below(&world.gate, &folder, Some(&plan)).await?)
}
