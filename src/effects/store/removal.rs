//! What is taken out of the store again. It must not know why; each removal may be done twice.

use futures::TryStreamExt;
use jiff::Timestamp;
use object_store::ObjectStoreExt;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard};

use super::{Key, Store, StoreError, keys, within};
use crate::effects::gate::{Effect, Gate};

/// One object, as a listing tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    pub bytes: u64,
    /// When it was written.
    pub at: Timestamp,
}

impl Store {
    /// Hold this from storing a release until the record that says who needs it is written.
    pub(crate) async fn keep_releases(&self) -> OwnedRwLockReadGuard<()> {
        self.releases.clone().read_owned().await
    }

    /// Exclusive guard: hold while checking references and deleting.
    pub(crate) async fn judge_releases(&self) -> OwnedRwLockWriteGuard<()> {
        self.releases.clone().write_owned().await
    }

    /// Size and age of every object below a folder.
    pub async fn entries(&self, folder: &Key) -> Result<Vec<Entry>, StoreError> {
        let prefix = folder.path();
        let listed = self
            .backend
            .objects()
            .list(Some(&prefix))
            .map_ok(|meta| Entry {
                key: Key::found(&meta.location),
                bytes: meta.size,
                at: Timestamp::from_second(meta.last_modified.timestamp()).unwrap_or(Timestamp::UNIX_EPOCH),
            })
            .try_collect::<Vec<_>>();
        within(&format!("list {folder}"), listed)
            .await?
            .map_err(|error| StoreError::from_backend(folder, "list", error))
    }

    /// Removes an object; one that is gone already is fine. Effect `store.remove`.
    pub async fn remove(&self, gate: &Gate, key: &Key) -> Result<(), StoreError> {
        gate.pass(Effect::new("store.remove", key.as_str()), self.remove_ungated(key)).await
    }

    async fn remove_ungated(&self, key: &Key) -> Result<(), StoreError> {
        match within(&format!("remove {key}"), self.backend.objects().delete(&key.path())).await? {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(StoreError::from_backend(key, "remove", error)),
        }
    }

    /// Removes everything below a folder in the order of the names, `last` at the end of it. Effect `store.remove`, where there is
    /// something.
    pub(crate) async fn remove_below(&self, gate: &Gate, folder: &Key, last: Option<&Key>) -> Result<(), StoreError> {
        let mut keys = self.list(folder).await?;
        if keys.is_empty() {
            return Ok(());
        }
        keys.sort_by_key(|key| Some(key) == last);
        gate.pass(Effect::new("store.remove", folder.as_str()), self.remove_all(folder, &keys)).await
    }

    /// Removes logs. Effect `log.remove`, where there are some; it may be done also where a namespace goes, and the lease with it.
    pub(crate) async fn remove_logs(&self, gate: &Gate, folder: &Key) -> Result<(), StoreError> {
        let keys = self.list(folder).await?;
        if keys.is_empty() {
            return Ok(());
        }
        gate.pass(Effect::new("log.remove", folder.as_str()), self.remove_all(folder, &keys)).await
    }

    async fn remove_all(&self, folder: &Key, keys: &[Key]) -> Result<(), StoreError> {
        for key in keys {
            self.remove_ungated(key).await?;
        }
        self.backend.emptied(folder).await;
        Ok(())
    }

    /// Removes what killed writers left more than an hour ago; says how many. Effect `store.sweep`, where there is something.
    pub async fn sweep(&self, gate: &Gate) -> Result<usize, StoreError> {
        let found = self.backend.leftovers().await?;
        if found.is_empty() {
            return Ok(0);
        }
        let count = found.len();
        gate.pass(Effect::new("store.sweep", "leftovers"), self.backend.remove_leftovers(found)).await?;
        Ok(count)
    }

    /// Whether the bytes of a release are there.
    pub(crate) async fn has_release(&self, digest: &str) -> Result<bool, StoreError> {
        Ok(self.size(&keys::release(digest)?).await?.is_some())
    }

    /// Removes the bytes of a release. Effect `store.remove`. Hold [`Store::judge_releases`].
    pub(crate) async fn remove_release(&self, gate: &Gate, digest: &str) -> Result<(), StoreError> {
        self.remove(gate, &keys::release(digest)?).await
    }
}
