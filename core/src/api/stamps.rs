//! Stamps: annotations in which the API server writes who asked for something, and which of landfall's rights he held then
//! (`manifests/policies/stamps.yaml`). They are read here and written nowhere.

use std::collections::BTreeMap;

/// Who created the object, or last changed its spec.
pub const REQUESTED_BY: &str = "landfall.dev/requested-by";

/// Who created the object or last changed its spec; `None` where nothing stamped it: it is from before the policies.
pub fn requested_by(annotations: &BTreeMap<String, String>) -> Option<&str> {
    annotations.get(REQUESTED_BY).map(String::as_str)
}

/// Who gave this verb its value.
pub fn verb_by<'a>(verb: &str, annotations: &'a BTreeMap<String, String>) -> Option<&'a str> {
    annotations.get(&format!("{verb}-by")).map(String::as_str)
}
