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
    if let Some(failure) = of_a_later_format(key, &bytes) {
        return Err(failure);
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        let message =
            format!("{key} in the store can't be read as a record ({error}); restore that file from a backup");
        Failure::new(Reason::StoreUnavailable, Class::Terminal, message)
    })
}

/// What to do about a record of a later format; `None` for a record of a format that this landfall knows, and for one that is damaged.
pub fn of_a_later_format(key: &Key, record: &[u8]) -> Option<Failure> {
    let later = later_format(record)?;
    let message = format!(
        "{key} in the store has format {later}, and this landfall reads formats up to {FORMAT}; run a landfall that is at least as new as the \
         one that wrote it"
    );
    Some(Failure::new(Reason::StoreUnavailable, Class::Terminal, message))
}

/// The bytes of a record: the same for the same record.
pub fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec_pretty(value).map_err(|error| Failure::of(Reason::InternalError, Class::Terminal, &error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::effects::store::keys;

    #[test]
    fn a_record_of_a_later_format_is_refused_by_name_and_a_damaged_one_is_not_taken_for_it() {
        let key = keys::rollout("0b4a1c9e-6f0e-4f0e-9d3c-2d6a4f1f8a11", 3).unwrap();
        let refused = of_a_later_format(&key, br#"{ "format": 2, "revision": 3 }"#).unwrap();
        assert_eq!((refused.reason, refused.class), (Reason::StoreUnavailable, Class::Terminal));
        assert!(refused.message.contains(key.as_str()) && refused.message.contains("format 2"), "{}", refused.message);
        assert!(of_a_later_format(&key, br#"{ "revision": 3 }"#).is_none());
        assert!(of_a_later_format(&key, b"{ torn").is_none());
    }
}
