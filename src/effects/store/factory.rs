//! Which place a store is in. One line for each kind.

use std::{path::PathBuf, sync::Arc};

use super::{Store, StoreError, folder::Folder, interface::Backend};

impl Store {
    /// The store in a folder, which is made where it is missing.
    pub fn folder(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Ok(Self::at(Arc::new(Folder::open(path.into())?)))
    }

    pub(super) fn at(backend: Arc<dyn Backend>) -> Self {
        Self { backend, releases: Arc::default() }
    }
}
