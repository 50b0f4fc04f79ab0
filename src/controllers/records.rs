//! Records of the store as JSON: read, and written. It decides nothing.

use serde::de::DeserializeOwned;

use crate::{
    api::Reason,
    effects::store::{Key, Store},
    model::{
        Class, Failure,
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

/// The bytes of a record: the same for the same record.
pub fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec_pretty(value).map_err(|error| Failure::of(Reason::InternalError, Class::Terminal, &error))
}
