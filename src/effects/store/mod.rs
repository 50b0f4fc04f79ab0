//! The object store: records and releases that are created once and never changed. It must not know what a record means.
//!
//! A plug point: `interface.rs` says what a place for objects must do, `factory.rs` which ones there are, `contract.rs` tests all of them
//! alike. What stands here and in `removal.rs` is the same for each place: the gate, deadlines, errors, limits.

#[cfg(test)]
mod contract;
mod error;
mod factory;
mod folder;
mod interface;
pub mod keys;
#[cfg(test)]
pub(crate) mod memory;
mod removal;

use std::{path::Path, sync::Arc, time::Duration};

use futures::TryStreamExt;
use object_store::{ObjectStoreExt, PutMode, PutPayload};
use tokio::sync::RwLock;

use self::interface::Backend;
pub use self::{
    error::StoreError,
    interface::Release,
    keys::{BadPart, Key},
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
    backend: Arc<dyn Backend>,
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
    /// Writes an object if there is none of that name. Effect `store.create`.
    pub async fn create(&self, gate: &Gate, key: &Key, bytes: Vec<u8>) -> Result<Create, StoreError> {
        gate.pass(Effect::new("store.create", key.as_str()), self.create_ungated(key, bytes)).await
    }

    async fn create_ungated(&self, key: &Key, bytes: Vec<u8>) -> Result<Create, StoreError> {
        let path = key.path();
        let put = self.backend.objects().put_opts(&path, PutPayload::from(bytes), PutMode::Create.into());
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
            let found = match self.backend.objects().get(&key.path()).await {
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
        match within(&format!("read {key}"), self.backend.objects().head(&key.path())).await? {
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
        let part = within(&format!("read {key}"), self.backend.objects().get_range(&key.path(), from..end)).await?;
        Ok(part.map_err(|error| StoreError::from_backend(key, "read", error))?.to_vec())
    }

    /// Stores a tar under the digest of the bytes that were stored; doing it again is fine. Effect `store.create`.
    pub(crate) async fn put_release(&self, gate: &Gate, tar: &Path) -> Result<Release, StoreError> {
        let subject = format!("release {}", tar.file_name().unwrap_or_default().to_string_lossy());
        gate.pass(Effect::new("store.create", subject), self.backend.put_release(tar)).await
    }

    /// A release, verified again: its bytes still have that digest.
    pub async fn release(&self, digest: &str) -> Result<Release, StoreError> {
        self.backend.release(&keys::release(digest)?, digest).await
    }

    /// The keys below a folder, sorted by name.
    pub async fn list(&self, folder: &Key) -> Result<Vec<Key>, StoreError> {
        let prefix = folder.path();
        let listed = self
            .backend
            .objects()
            .list(Some(&prefix))
            .map_ok(|meta| Key::found(&meta.location))
            .try_collect::<Vec<_>>();
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
