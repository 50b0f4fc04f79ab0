//! The object store: records and releases that are created once and never changed. It must not know what a record means.
//!
//! A folder now, any `object_store` backend later; so only create-if-absent, get, list and delete are used. Everything is synced before a
//! call returns.

mod error;
pub mod keys;
mod releases;
mod removal;
mod sweep;

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload, local::LocalFileSystem};
use tokio::sync::RwLock;

pub use self::{
    error::StoreError,
    keys::{BadPart, Key},
    releases::Release,
    removal::Entry,
};
use super::gate::{Effect, Gate};

/// A record is small; what is larger is a release or a piece of a log.
const RECORD_LIMIT: u64 = 8 * 1024 * 1024;
/// No single call may take longer; a hung file system must not hang a reconcile.
const DEADLINE: Duration = Duration::from_secs(60);

/// Cheap to clone.
#[derive(Clone)]
pub struct Store {
    backend: Arc<LocalFileSystem>,
    root: PathBuf,
    /// Who has stored a release and not put on record yet who needs it, against who removes what nobody needs.
    releases: Arc<RwLock<()>>,
}

/// What a create-if-absent found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Create {
    Created,
    /// The object was there, with these bytes. Equal bytes are a success that happened before.
    Exists(Vec<u8>),
}

impl Create {
    /// Whether the object now holds `bytes`, whoever wrote it.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Created => true,
            Self::Exists(found) => found == bytes,
        }
    }
}

impl Store {
    /// The store in a folder, which is made where it is missing.
    pub fn folder(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root: PathBuf = path.into();
        std::fs::create_dir_all(&root).map_err(|error| StoreError::from_io("make the store's folder", &error))?;
        let root = root.canonicalize().map_err(|error| StoreError::from_io("find the store's folder", &error))?;
        let backend = LocalFileSystem::new_with_prefix(&root)
            .map_err(|error| StoreError::Failed { what: "open its folder".into(), why: error.to_string() })?
            .with_fsync(true);
        Ok(Self { backend: Arc::new(backend), root, releases: Arc::default() })
    }

    /// Writes an object if there is none of that name. Effect `store.create`.
    pub async fn create(&self, gate: &Gate, key: &Key, bytes: Vec<u8>) -> Result<Create, StoreError> {
        gate.pass(Effect::new("store.create", key.as_str()), self.create_ungated(key, bytes)).await
    }

    async fn create_ungated(&self, key: &Key, bytes: Vec<u8>) -> Result<Create, StoreError> {
        let path = key.path();
        let put = self.backend.put_opts(&path, PutPayload::from(bytes), PutMode::Create.into());
        match within(&format!("write {key}"), put).await? {
            Ok(_) => Ok(Create::Created),
            Err(object_store::Error::AlreadyExists { .. }) => match self.get(key).await? {
                Some(found) => Ok(Create::Exists(found)),
                None => Err(StoreError::NotFound { key: key.clone() }),
            },
            Err(error) => Err(StoreError::from_backend(key, "write", error)),
        }
    }

    /// The bytes of an object; `None` where there is none.
    pub async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        let read = async {
            let found = match self.backend.get(&key.path()).await {
                Ok(found) => found,
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(StoreError::from_backend(key, "read", error)),
            };
            if found.meta.size > RECORD_LIMIT {
                return Err(StoreError::TooLarge { key: key.clone(), limit: RECORD_LIMIT });
            }
            let bytes = found.bytes().await.map_err(|error| StoreError::from_backend(key, "read", error))?;
            Ok(Some(bytes.to_vec()))
        };
        within(&format!("read {key}"), read).await?
    }

    /// Bytes in an object; `None` where there is none.
    pub async fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        match within(&format!("read {key}"), self.backend.head(&key.path())).await? {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(StoreError::from_backend(key, "read", error)),
        }
    }

    /// A part of an object; empty behind its end, or where there is no such object.
    pub async fn read(&self, key: &Key, from: u64, most: u64) -> Result<Vec<u8>, StoreError> {
        let end = self.size(key).await?.unwrap_or(0).min(from.saturating_add(most));
        if from >= end {
            return Ok(Vec::new());
        }
        let part = within(&format!("read {key}"), self.backend.get_range(&key.path(), from..end)).await?;
        Ok(part.map_err(|error| StoreError::from_backend(key, "read", error))?.to_vec())
    }

    /// The keys below a folder, sorted by name.
    pub async fn list(&self, folder: &Key) -> Result<Vec<Key>, StoreError> {
        let prefix = folder.path();
        let listed = self.backend.list(Some(&prefix)).map_ok(|meta| Key::found(&meta.location)).try_collect::<Vec<_>>();
        let mut keys = within(&format!("list {folder}"), listed)
            .await?
            .map_err(|error| StoreError::from_backend(folder, "list", error))?;
        keys.sort();
        Ok(keys)
    }
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> Result<T, StoreError> {
    tokio::time::timeout(DEADLINE, work)
        .await
        .map_err(|_| StoreError::Failed { what: what.to_owned(), why: format!("no answer in {DEADLINE:?}") })
}

#[cfg(test)]
mod tests;
