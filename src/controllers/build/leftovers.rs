//! What a Build that is gone left in the store: its records, what it said, and a release that it never published.

use super::{broken::Broken, records};
use crate::{
    controllers::{
        releases::{Excluding, Releases},
        world::World,
    },
    effects::store::keys,
};

/// Removes it all; the plan, which says whose it is, at the end. A version that it published stays.
pub async fn remove(uid: &str, world: &World) -> Result<(), Broken> {
    world.store.remove_below(&world.gate, &keys::logs(uid)?, None).await?;
    if let Some(release) = records::release(world, uid).await?
        && world.store.has_release(&release.digest).await?
    {
        Releases::look(world).await?.remove(&release.digest, Excluding::Build(uid), world).await?;
    }
    let (folder, plan) = (keys::build(uid)?, keys::build_plan(uid)?);
    Ok(world.store.remove_below(&world.gate, &folder, Some(&plan)).await?)
}
