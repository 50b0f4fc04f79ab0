//! Records of builds in the store: how they are read and named.

use serde::de::DeserializeOwned;

use crate::{
    api::{Reason, build::Attempt},
    controllers::build::broken::Broken,
    effects::store::{Key, Store, keys},
    model::Class,
    plan::build::{BuildPlan, ReleaseRecord},
};

/// A record, or `None` where there is none.
pub async fn read_json<T: DeserializeOwned>(store: &Store, key: &Key) -> Result<Option<T>, Broken> {
    let Some(bytes) = store.get(key).await? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| Broken {
        reason: Reason::StoreUnavailable,
        message: format!("{key} in the store can't be read as a record ({error}); restore that file from a backup"),
        class: Class::Terminal,
    })
}

pub(super) async fn plan(store: &Store, uid: &str) -> Result<Option<BuildPlan>, Broken> {
    read_json(store, &keys::build_plan(uid)?).await
}

/// The plan of a build that was granted.
pub(super) async fn granted(store: &Store, uid: &str) -> Result<BuildPlan, Broken> {
    plan(store, uid).await?.ok_or_else(|| Broken {
        reason: Reason::StoreUnavailable,
        message: format!("the store has no plan of build {uid}, though it was granted; was the data folder replaced?"),
        class: Class::Transient,
    })
}

pub(super) async fn release(store: &Store, uid: &str) -> Result<Option<ReleaseRecord>, Broken> {
    read_json(store, &keys::build_release(uid)?).await
}

/// Ends of attempts, from the first.
pub(super) async fn ends(store: &Store, uid: &str) -> Result<Vec<Attempt>, Broken> {
    let mut ends = Vec::new();
    for number in 1.. {
        match read_json(store, &end_key(uid, number)?).await? {
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
