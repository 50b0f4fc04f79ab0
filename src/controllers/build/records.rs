//! Records of builds in the store: how they are read and named.

use serde::de::DeserializeOwned;

use crate::{
    api::{Reason, build::Attempt},
    effects::store::{Key, Store, keys},
    model::{
        Class, Failure,
        build::{BuildPlan, ReleaseRecord},
        format::{FORMAT, later_format},
    },
};

/// A record, or `None` where there is none.
pub async fn read_json<T: DeserializeOwned>(store: &Store, key: &Key) -> Result<Option<T>, Failure> {
    let Some(bytes) = store.get(key).await? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        let message = match later_format(&bytes) {
            Some(later) => format!(
                "{key} in the store has format {later}, and this landfall reads formats up to {FORMAT} ({error}); run a landfall that is at least as new as the one that wrote it"
            ),
            None => format!("{key} in the store can't be read as a record ({error}); restore that file from a backup"),
        };
        Failure::new(Reason::StoreUnavailable, Class::Terminal, message)
    })
}

pub(super) async fn plan(store: &Store, uid: &str) -> Result<Option<BuildPlan>, Failure> {
    read_json(store, &keys::build_plan(uid)?).await
}

/// The plan of a build that was granted.
pub(super) async fn granted(store: &Store, uid: &str) -> Result<BuildPlan, Failure> {
    plan(store, uid).await?.ok_or_else(|| {
        Failure::new(
            Reason::StoreUnavailable,
            Class::Transient,
            format!("the store has no plan of build {uid}, though it was granted; was the data folder replaced?"),
        )
    })
}

pub(super) async fn release(store: &Store, uid: &str) -> Result<Option<ReleaseRecord>, Failure> {
    read_json(store, &keys::build_release(uid)?).await
}

/// Ends of attempts, from the first.
pub(super) async fn ends(store: &Store, uid: &str) -> Result<Vec<Attempt>, Failure> {
    let mut ends = Vec::new();
    for number in 1.. {
        match read_json(store, &end_key(uid, number)?).await? {
            Some(end) => ends.push(end),
            None => break,
        }
    }
    Ok(ends)
}

pub(super) fn end_key(uid: &str, attempt: i64) -> Result<Key, Failure> {
    Ok(keys::build_record(uid, &format!("attempt-{attempt}.json"))?)
}

pub(super) fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec_pretty(value).map_err(|error| Failure::of(Reason::InternalError, Class::Terminal, &error))
}
