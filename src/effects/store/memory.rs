//! A second place for objects, for tests alone: memory, which has no paths. What passes with it leans on no folder, and it counts reads.

use std::{
    fmt, io,
    ops::Range,
    path::Path as FilePath,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use sha2::{Digest, Sha256};

use super::{
    Key, Store, StoreError,
    interface::{Backend, Release},
    keys,
};
use crate::effects::payload::{Bytes, Payload, Source};

#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    objects: InMemory,
    reads: AtomicUsize,
}

impl Memory {
    pub fn store(&self) -> Store {
        Store::at(Arc::new(self.clone()))
    }

    /// How often the bytes of an object were read; its size alone does not count.
    pub fn reads(&self) -> usize {
        self.0.reads.load(Ordering::Relaxed)
    }
}

impl Backend for Memory {
    fn objects(&self) -> &dyn ObjectStore {
        &*self.0
    }

    fn put_release<'a>(&'a self, tar: &'a FilePath) -> BoxFuture<'a, std::result::Result<Release, StoreError>> {
        Box::pin(async move {
            let bytes = tokio::fs::read(tar).await.map_err(|error| StoreError::from_io("read a tar", &error))?;
            let digest = format!("{:x}", Sha256::digest(&bytes));
            let key = keys::release(&digest)?;
            match self.0.put_opts(&key.path(), PutPayload::from(bytes), PutMode::Create.into()).await {
                Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => self.release(&key, &digest).await,
                Err(error) => Err(StoreError::from_backend(&key, "write", error)),
            }
        })
    }

    fn release<'a>(&'a self, key: &'a Key, digest: &'a str) -> BoxFuture<'a, std::result::Result<Release, StoreError>> {
        Box::pin(async move {
            let failed = |error| StoreError::from_backend(key, "read", error);
            let mut stream = self.0.get(&key.path()).await.map_err(failed)?.into_stream();
            let (mut hash, mut size) = (Sha256::new(), 0);
            while let Some(bytes) = stream.try_next().await.map_err(failed)? {
                hash.update(&bytes);
                size += bytes.len() as u64;
            }
            let found = format!("{:x}", hash.finalize());
            if found != digest {
                return Err(StoreError::Damaged { key: key.clone(), found });
            }
            let tar = Payload::of(Object { memory: self.clone(), key: key.clone() });
            Ok(Release { digest: digest.to_owned(), size, tar })
        })
    }

    fn emptied<'a>(&'a self, _folder: &'a Key) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn leftovers(&self) -> BoxFuture<'_, std::result::Result<Vec<String>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn remove_leftovers(&self, _names: Vec<String>) -> BoxFuture<'_, std::result::Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

struct Object {
    memory: Memory,
    key: Key,
}

impl Source for Object {
    fn name(&self) -> String {
        self.key.to_string()
    }

    fn open(&self) -> BoxFuture<'_, io::Result<Bytes>> {
        Box::pin(async {
            let stream = self.memory.0.get(&self.key.path()).await?.into_stream().map_err(io::Error::other);
            Ok(Box::new(tokio_util::io::StreamReader::new(stream.boxed())) as Bytes)
        })
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Counted {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.objects.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.reads.fetch_add(usize::from(!options.head), Ordering::Relaxed);
        self.objects.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.objects.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}
