//! Releases as they come to hosts: a manifest and a bundle, made once from the store's tar and kept while they are in use. It must not know
//! which host needs what.

use std::{
    fs::File,
    io::{self, Seek as _},
    sync::{Arc, Weak},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use landfall_host_bundle as bundle;
use landfall_host_protocol::Digest;
use parking_lot::Mutex;
use tempfile::NamedTempFile;
use tokio::sync::OnceCell;

use super::HostError;
use crate::effects::payload::{self, Payload};

/// Bundles that are kept although nobody uses them.
const KEPT_MAX: usize = 4;

/// One release, ready to be sent.
pub struct Bundle {
    /// SHA-256 of the manifest.
    pub manifest: Digest,
    /// What the `stage` step is told.
    pub bundle: landfall_host_protocol::Bundle,
    objects: [(Digest, u64, Payload); 2],
    /// The bundle's file lives as long.
    _file: NamedTempFile,
}

impl Bundle {
    /// SHA-256, size and bytes of what goes to `incoming/`.
    pub(super) fn objects(&self) -> impl Iterator<Item = (&Digest, u64, &Payload)> {
        self.objects.iter().map(|(sha256, size, payload)| (sha256, *size, payload))
    }
}

type Cell = OnceCell<Arc<Bundle>>;

/// Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Bundles {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    cells: Vec<(String, Weak<Cell>)>,
    /// The newest last.
    kept: Vec<Arc<Cell>>,
}

impl Bundles {
    /// The bundle of a release, from its tar; whoever asks meanwhile waits for the same one.
    pub async fn of(&self, digest: &str, tar: &Payload) -> Result<Arc<Bundle>, HostError> {
        let cell = self.cell(digest);
        cell.get_or_try_init(|| make(digest, tar)).await.cloned()
    }

    fn cell(&self, digest: &str) -> Arc<Cell> {
        let mut inner = self.inner.lock();
        inner.cells.retain(|(_, cell)| cell.strong_count() > 0);
        let known = inner.cells.iter().find(|(of, _)| of == digest).and_then(|(_, cell)| cell.upgrade());
        let cell = known.unwrap_or_else(|| {
            let cell = Arc::new(Cell::new());
            inner.cells.push((digest.to_owned(), Arc::downgrade(&cell)));
            cell
        });
        inner.kept.retain(|kept| !Arc::ptr_eq(kept, &cell));
        inner.kept.push(cell.clone());
        if inner.kept.len() > KEPT_MAX {
            inner.kept.remove(0);
        }
        cell
    }
}

async fn make(digest: &str, tar: &Payload) -> Result<Arc<Bundle>, HostError> {
    let unreadable = |error: io::Error| unusable(format!("{error}"));
    let digest = Digest::parse(digest).ok_or_else(|| unusable(format!("{digest} is no SHA-256")))?;
    let mut stream = tar.open().await.map_err(unreadable)?;
    let local = tempfile::tempfile().map_err(unreadable)?;
    let mut copy = tokio::fs::File::from_std(local.try_clone().map_err(unreadable)?);
    tokio::io::copy(&mut stream, &mut copy).await.map_err(unreadable)?;
    tokio::io::AsyncWriteExt::flush(&mut copy).await.map_err(unreadable)?;
    let made = tokio::task::spawn_blocking(move || write(local, &digest)).await;
    made.map_err(|error| unusable(error.to_string()))?
}

fn write(mut tar: File, digest: &Digest) -> Result<Arc<Bundle>, HostError> {
    let failed = |error: io::Error| unusable(error.to_string());
    tar.rewind().map_err(failed)?;
    let release = bundle::Release::read(tar, digest).map_err(|error| unusable(error.to_string()))?;
    let file = NamedTempFile::new().map_err(failed)?;
    let written = bundle::write(&release, None, file.as_file()).map_err(failed)?;
    let manifest = Bytes::from(bundle::encode(release.manifest()));
    let of_manifest = bundle::digest(&manifest);
    let objects = [
        (of_manifest.clone(), manifest.len() as u64, Payload::of(Memory(manifest))),
        (written.sha256.clone(), written.size, Payload::file(file.path())),
    ];
    let bundle = landfall_host_protocol::Bundle { sha256: written.sha256, size: written.size, base: None };
    Ok(Arc::new(Bundle { manifest: of_manifest, bundle, objects, _file: file }))
}

fn unusable(why: String) -> HostError {
    HostError::BadInput { what: "the release", why }
}

/// A payload in memory.
struct Memory(Bytes);

impl payload::Source for Memory {
    fn name(&self) -> String {
        "a manifest".to_owned()
    }

    fn open(&self) -> BoxFuture<'_, io::Result<payload::Bytes>> {
        let bytes = self.0.clone();
        Box::pin(async move { Ok(Box::new(io::Cursor::new(bytes)) as payload::Bytes) })
    }
}
