//! The object that a planner decides about, as it was read.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What planners of Builds and Projects are given of their object.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound = "Spec: Deserialize<'de>, Status: Deserialize<'de>")]
pub struct ObservedObject<Spec, Status> {
    #[serde(default)]
    pub uid: String,
    #[serde(default)]
    pub namespace: String,
    #[serde(default)]
    pub name: String,
    pub generation: i64,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub deleting: bool,
    pub spec: Spec,
    /// `None`: nothing has been decided yet, or the status was lost.
    #[serde(default)]
    pub status: Option<Status>,
}
