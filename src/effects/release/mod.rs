//! A release: one tar of a build's artifacts and `run.json`, the same bytes for the same input. It must not store or publish it.

mod bounds;
mod error;
mod pack;
mod rules;
mod select;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::error::ReleaseError;

/// One line of `build.artifacts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRule {
    /// A glob below the checkout; a folder is taken with all that is in it.
    pub path: String,
    /// The name in the release; needs exactly one match. Without it a file keeps its path below the checkout.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    pub rename: Option<String>,
}

/// One file of the release, as `Build.status.artifacts` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its path in the release.
    pub name: String,
    /// SHA-256 of the file in hex.
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

/// A tar that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    pub tar: PathBuf,
    /// SHA-256 of the tar in hex, of the very bytes that were written.
    pub digest: String,
    /// Bytes of the tar.
    pub size: u64,
    /// The first regular files by name, without `run.json`; no more than a record lists.
    pub artifacts: Vec<Artifact>,
    /// How many there are.
    pub artifact_count: u64,
}

/// Packs what the rules select below `folder` of `checkout`, and `run_json` as `run.json`, into `tar` (replaced where it exists).
///
/// `run_json` holds commit, version and the frozen run; the caller writes it deterministically. The processes of the build must be
/// gone by now: a file that changes while it is read fails the pack.
pub async fn pack(
    checkout: &Path,
    folder: &str,
    rules: &[ArtifactRule],
    run_json: Vec<u8>,
    tar: &Path,
) -> Result<Packed, ReleaseError> {
    let (checkout, folder, rules, tar) = (checkout.to_owned(), folder.to_owned(), rules.to_vec(), tar.to_owned());
    tokio::task::spawn_blocking(move || {
        let base = select::within(&checkout, &folder)?;
        let entries = select::select(&base, &rules, bounds::Bounds::USUAL)?;
        pack::write(&base, &entries, &run_json, &tar)
    })
    .await
    .map_err(|error| ReleaseError::Failed { what: "pack the release".into(), why: error.to_string() })?
}

#[cfg(test)]
mod tests;
