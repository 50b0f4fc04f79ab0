//! Records of builds in the store: how they are read and named.

use crate::{
    api::{Reason, build::Attempt},
    controllers::records::read_json,
    effects::store::{Key, Store, keys},
    model::{
        Class, Failure,
        build::{BuildPlan, ReleaseRecord},
    },
};

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
