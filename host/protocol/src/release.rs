//! What a release consists of, and how its bytes come to a host.
//!
//! The manifest is computed by the operator from the verified tar. A *bundle* is what a host lacks: whole files, and deltas against files of
//! a release that it holds. Both are put into `incoming/` under their SHA-256.

use serde::{Deserialize, Serialize};

use crate::{Digest, ReleaseName};

/// Every entry of a release, sorted by path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// SHA-256 of the release's tar: the version's digest.
    pub release: Digest,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Relative, `/` between components, no `.` or `..`, no empty component.
    pub path: String,
    pub kind: EntryKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum EntryKind {
    Folder,
    /// `mode`: 0755, 0644 or 0600.
    File {
        mode: u32,
        size: u64,
        sha256: Digest,
    },
    /// Within the release.
    Link {
        target: String,
    },
}

/// Bytes in `incoming/` from which a release is assembled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    pub sha256: Digest,
    pub size: u64,
    /// Release whose files the deltas and unnamed files are taken from; `None`: the bundle holds every file.
    pub base: Option<ReleaseName>,
}
