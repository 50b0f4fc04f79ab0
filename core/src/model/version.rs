//! The record that makes a version deployable: `versions/<namespace>/<project>/<version>` in the store, JSON, create-only.
//!
//! Written by a build's controller once everything else about the build is done; read by whoever deploys. It must not change once
//! written, so a new field needs a default.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::format;
use crate::api::project::Run;

/// Artifacts that a status and a record list at most; a release may have any number of files.
pub const LISTED: usize = 100;

/// One published version of a project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionRecord {
    /// Format of this record; records without it are of the first.
    #[serde(default = "format::first")]
    pub format: u32,
    pub version: String,
    /// The commit that was built, 40 hex digits.
    pub commit: String,
    /// Name of the Build.
    pub build: String,
    /// Uid of the Build: a version belongs to exactly one, even where names come back.
    pub build_uid: String,
    /// SHA-256 of the release in hex, 64 digits, without a prefix: `Store::release` takes it as it is.
    pub digest: String,
    /// Bytes of the release's tar.
    pub size: u64,
    /// The recorded end of the build's successful attempt.
    pub built_at: Timestamp,
    /// How this version runs, frozen at the grant. The release's `run.json` holds the same.
    #[serde(deserialize_with = "Run::frozen")]
    pub run: Run,
    /// Parameters that the Build was given; absent in records of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<BTreeMap<String, String>>,
}

impl VersionRecord {
    /// The record's bytes: the same for the same record, so that writing it again is recognised.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec_pretty(self)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}
