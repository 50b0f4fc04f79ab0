//! Leftovers of writers that were killed: copies that were never linked under their name.

use std::{fs, path::Path, time::Duration};

use super::{Store, StoreError};
use crate::effects::gate::{Effect, Gate};

/// No write takes longer.
const STALE: Duration = Duration::from_secs(3600);

impl Store {
    /// Removes what killed writers left more than an hour ago; says how many files. Effect `store.sweep`, where there is something.
    pub async fn sweep(&self, gate: &Gate) -> Result<usize, StoreError> {
        let root = self.root.clone();
        let found = super::releases::blocking(move || Ok(leftovers(&root))).await?;
        if found.is_empty() {
            return Ok(0);
        }
        let work = super::releases::blocking(move || {
            for path in &found {
                fs::remove_file(path).map_err(|error| StoreError::from_io("remove a leftover", &error))?;
            }
            Ok(found.len())
        });
        gate.pass(Effect::new("store.sweep", "leftovers"), work).await
    }
}

/// Everything below `incoming`, and the backend's own half-written files: no key has a `#`.
fn leftovers(root: &Path) -> Vec<std::path::PathBuf> {
    let incoming = root.join("incoming");
    let files = walkdir::WalkDir::new(root).into_iter().flatten().filter(|entry| entry.file_type().is_file());
    let unnamed = files
        .filter(|entry| entry.path().starts_with(&incoming) || entry.file_name().as_encoded_bytes().contains(&b'#'));
    let old = unnamed.filter(|entry| {
        let modified = entry.metadata().ok().and_then(|meta| meta.modified().ok());
        modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age >= STALE)
    });
    old.map(walkdir::DirEntry::into_path).collect()
}
