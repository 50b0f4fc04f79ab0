//! Bytes that are sent somewhere, perhaps more than once: each attempt opens them again and reads them as a stream. It must not know where
//! they go, and whoever sends them need not know where they lie.

use std::{fmt, io, path::PathBuf, sync::Arc};

use futures::future::BoxFuture;
use tokio::io::AsyncRead;

/// A stream of bytes from its beginning.
pub type Bytes = Box<dyn AsyncRead + Send + Unpin>;

/// Where a payload comes from.
pub trait Source: Send + Sync {
    /// For messages: a path, or the name of an object.
    fn name(&self) -> String;

    fn open(&self) -> BoxFuture<'_, io::Result<Bytes>>;
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Payload(Arc<dyn Source>);

impl Payload {
    pub fn of(source: impl Source + 'static) -> Self {
        Self(Arc::new(source))
    }

    /// A file of this machine.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::of(File(path.into()))
    }

    pub fn name(&self) -> String {
        self.0.name()
    }

    pub async fn open(&self) -> io::Result<Bytes> {
        self.0.open().await
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Payload").field(&self.name()).finish()
    }
}

struct File(PathBuf);

impl Source for File {
    fn name(&self) -> String {
        self.0.display().to_string()
    }

    fn open(&self) -> BoxFuture<'_, io::Result<Bytes>> {
        Box::pin(async {
            let file = tokio::fs::File::open(&self.0).await?;
            Ok(Box::new(file) as Bytes)
        })
    }
}
