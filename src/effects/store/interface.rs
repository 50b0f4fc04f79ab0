//! What a place for objects must be able to do; the [`Store`](super::Store) does the rest, the same for all of them. A new one is a folder
//! beside `folder/`, a line in `factory.rs`, and passes `contract.rs`.
//!
//! Records go through `object_store`'s own interface: create-only, get, ranges, list, delete. Releases are large, so they come from a file
//! and go out as streams, and a place may treat them in its own way.

use std::path::Path;

use futures::future::BoxFuture;
use object_store::ObjectStore;

use super::{Key, StoreError};
use crate::effects::payload::Payload;

/// A release in the store, found whole when it was opened.
#[derive(Clone, Debug)]
pub struct Release {
    /// SHA-256 in hex, 64 digits.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// The tar.
    pub tar: Payload,
}

pub(crate) trait Backend: Send + Sync {
    /// Where records are. A write must be durable before it returns, and `PutMode::Create` must let exactly one of many win.
    fn objects(&self) -> &dyn ObjectStore;

    /// Stores the bytes of a file under their SHA-256, read once: what is stored is what was hashed. Doing it again is fine; one that is
    /// there and damaged is an error. There is never half a release under a name.
    fn put_release<'a>(&'a self, tar: &'a Path) -> BoxFuture<'a, Result<Release, StoreError>>;

    /// A release whose bytes were read and still have that digest.
    fn release<'a>(&'a self, key: &'a Key, digest: &'a str) -> BoxFuture<'a, Result<Release, StoreError>>;

    /// Everything below this name was removed: whatever the place keeps beside objects may go.
    fn emptied<'a>(&'a self, folder: &'a Key) -> BoxFuture<'a, ()>;

    /// What writers left that were killed long ago, and never became an object.
    fn leftovers(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>>;

    /// Removes these, as [`Backend::leftovers`] named them.
    fn remove_leftovers(&self, names: Vec<String>) -> BoxFuture<'_, Result<(), StoreError>>;
}
