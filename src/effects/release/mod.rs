//! A release: one tar of a build's artifacts and `run.json`, the same bytes for the same input. It must not store or publish it.

mod bounds;
mod error;
mod pack;
mod rules;
mod select;

use std::path::Path;

pub use self::{error::ReleaseError, pack::Packed};
use crate::api::project::ArtifactRule;

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
