//! Records of builds in the store: how they are read and named.

use serde::de::DeserializeOwned;

use crate::{
    api::{Reason, build::Attempt},
    controllers::{build::broken::Broken, world::World},
    effects::store::{Key, keys},
    model::Class,
    plan::build::{BuildPlan, ReleaseRecord},
};

/// A record, or `None` where there is none.
pub async fn read_json<T: DeserializeOwned>(world: &World, key: &Key) -> Result<Option<T>, Broken> {
    let Some(bytes) = world.store.get(key).await? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| Broken {
        reason: Reason::StoreUnavailable,
        message: format!("{key} in the store can't be read as a record ({error}); restore that file from a backup"),
        class: Class::Terminal,
    })
}

pub(super) async fn plan(world: &World, uid: &str) -> Result<Option<BuildPlan>, Broken> {
    read_json(world, &keys::build_plan(uid)?).await
}

/// The plan of a build that was granted.
pub(super) async fn granted(world: &World, uid: &str) -> Result<BuildPlan, Broken> {
    plan(world, uid).await?.ok_or_else(|| Broken {
        reason: Reason::StoreUnavailable,
        message: format!("the store has no plan of build {uid}, though it was granted; was the data folder replaced?"),
        class: Class::Transient,
    })
}

pub(super) async fn release(world: &World, uid: &str) -> Result<Option<ReleaseRecord>, Broken> {
    read_json(world, &keys::build_release(uid)?).await
}

/// Ends of attempts, from the first.
pub(super) async fn ends(world: &World, uid: &str) -> Result<Vec<Attempt>, Broken> {
    let mut ends = Vec::new();
    for number in 1.. {
        match read_json(world, &end_key(uid, number)?).await? {
            Some(end) => ends.push(end),
            None => break,
        }
    }
    Ok(ends)
}

pub(super) fn end_key(uid: &str, attempt: i64) -> Result<Key, Broken> {
    Ok(keys::build_record(uid, &format!("attempt-{attempt}.json"))?)
}

pub(super) fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, Broken> {
    serde_json::to_vec_pretty(value).map_err(|error| Broken::new(Reason::InternalError, Class::Terminal, &error))
}
