//! The store in a folder of this machine. Everything is synced before a call returns. It must not know what a record means.

mod leftovers;
mod releases;

use std::{
    fs,
    path::{Path, PathBuf},
};

use futures::future::BoxFuture;
use object_store::{ObjectStore, local::LocalFileSystem};

use super::{
    Key, StoreError,
    interface::{Backend, Release},
};

pub(super) struct Folder {
    objects: LocalFileSystem,
    root: PathBuf,
}

impl Folder {
    pub fn open(root: PathBuf) -> Result<Self, StoreError> {
        fs::create_dir_all(&root).map_err(|error| StoreError::from_io("make the store's folder", &error))?;
        let root = root.canonicalize().map_err(|error| StoreError::from_io("find the store's folder", &error))?;
        let objects = LocalFileSystem::new_with_prefix(&root)
            .map_err(|error| StoreError::Failed { what: "open its folder".into(), why: error.to_string() })?
            .with_fsync(true);
        Ok(Self { objects, root })
    }
}

impl Backend for Folder {
    fn objects(&self) -> &dyn ObjectStore {
        &self.objects
    }

    fn put_release<'a>(&'a self, tar: &'a Path) -> BoxFuture<'a, Result<Release, StoreError>> {
        let (root, tar) = (self.root.clone(), tar.to_owned());
        Box::pin(blocking(move || releases::put(&root, &tar)))
    }

    fn release<'a>(&'a self, key: &'a Key, digest: &'a str) -> BoxFuture<'a, Result<Release, StoreError>> {
        let (key, path, digest) = (key.clone(), self.root.join(key.as_str()), digest.to_owned());
        Box::pin(blocking(move || releases::verify(&key, path, digest)))
    }

    fn emptied<'a>(&'a self, folder: &'a Key) -> BoxFuture<'a, ()> {
        let path = self.root.join(folder.as_str());
        Box::pin(async move {
            let work = blocking(move || {
                leftovers::remove_empty_folders(&path);
                Ok(())
            });
            if let Err(error) = work.await {
                tracing::debug!(%error, "an empty folder stays behind");
            }
        })
    }

    fn leftovers(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        let root = self.root.clone();
        Box::pin(blocking(move || Ok(leftovers::find(&root))))
    }

    fn remove_leftovers(&self, names: Vec<String>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(blocking(move || leftovers::remove(&names)))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| StoreError::Failed { what: "finish its work".into(), why: error.to_string() })?
}

#[cfg(test)]
mod tests;
