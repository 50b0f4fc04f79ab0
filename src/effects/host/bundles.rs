//! Releases as they come to hosts: a manifest and a bundle, whole or against an earlier release that hosts hold, made once from the store's
//! tars and kept while in use. It must not know which host needs what.

use std::{
    fs::File,
    future::Future,
    io::{self, Seek as _},
    sync::{Arc, Weak},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use landfall_host_bundle as bundle;
use landfall_host_protocol::{Digest, ReleaseName};
use parking_lot::Mutex;
use tempfile::NamedTempFile;
use tokio::sync::OnceCell;

use super::HostError;
use crate::effects::{
    fair::FairPlaces,
    payload::{self, Payload},
    store::Store,
};

/// Bundles that are kept although nobody uses them, and their bytes. Those of the namespace that has the most go first.
const KEPT_MAX: usize = 8;
const KEPT_BYTES: u64 = 1 << 30;
/// Bundles that are made at one time, shared by namespaces: each takes a processor, and up to 24 MB of memory.
const AT_ONCE: usize = 2;

/// Bytes that are copied at a time: each piece of a file costs a turn of another thread.
const COPIED: usize = 1 << 20;

/// One release, ready to be sent.
#[derive(Debug)]
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
    pub fn objects(&self) -> impl Iterator<Item = (&Digest, u64, &Payload)> {
        self.objects.iter().map(|(sha256, size, payload)| (sha256, *size, payload))
    }
}

/// An earlier release, which hosts hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    pub name: ReleaseName,
    /// SHA-256 in hex.
    pub digest: String,
}

type Made = Result<Arc<Bundle>, HostError>;
type Cell = OnceCell<Made>;
/// Digest of the release, and digest and name of its base, which the bundle has in it.
type Key = (String, Option<(String, String)>);

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Bundles {
    inner: Arc<Mutex<Inner>>,
    makers: FairPlaces,
}

#[derive(Default)]
struct Inner {
    cells: Vec<(Key, Weak<Cell>)>,
    /// The newest last.
    kept: Vec<Kept>,
}

struct Kept {
    /// Whose hosts asked for it last.
    namespace: String,
    cell: Arc<Cell>,
}

impl Default for Bundles {
    fn default() -> Self {
        Self { inner: Arc::default(), makers: FairPlaces::new(AT_ONCE) }
    }
}

impl Bundles {
    /// The bundle of a release for hosts of a namespace that hold `base`, or for any. Whoever asks while it is made waits for the same one, and gets
    /// the same error; who asks later gets another try.
    pub async fn of(&self, store: &Store, namespace: &str, digest: &str, base: Option<&Base>) -> Made {
        let key = (digest.to_owned(), base.map(|base| (base.digest.clone(), base.name.as_str().to_owned())));
        self.get(namespace, key, || async {
            let tar = local(store, digest).await?;
            let base = match base {
                Some(base) => Some((base.name.clone(), local(store, &base.digest).await?)),
                None => None,
            };
            Ok((tar, base))
        })
        .await
    }

    async fn get<F>(&self, namespace: &str, key: Key, read: impl FnOnce() -> F) -> Made
    where
        F: Future<Output = Result<(Tar, Option<(ReleaseName, Tar)>), HostError>>,
    {
        let cell = self.cell(namespace, key);
        let made = cell.get_or_init(|| async {
            let place = self.makers.take(namespace).await;
            let (tar, base) = read().await?;
            let made = tokio::task::spawn_blocking(move || {
                // Whoever asked may be gone before it is made.
                let _place = place;
                write(tar, base)
            });
            made.await.map_err(|error| unusable(error.to_string()))?
        });
        let made = made.await.clone();
        if made.is_err() {
            self.forget(&cell);
        }
        made
    }

    fn cell(&self, namespace: &str, key: Key) -> Arc<Cell> {
        let mut inner = self.inner.lock();
        inner.cells.retain(|(_, cell)| cell.strong_count() > 0);
        let known = inner.cells.iter().find(|(of, _)| *of == key).and_then(|(_, cell)| cell.upgrade());
        let cell = known.unwrap_or_else(|| {
            let cell = Arc::new(Cell::new());
            inner.cells.push((key, Arc::downgrade(&cell)));
            cell
        });
        inner.kept.retain(|kept| !Arc::ptr_eq(&kept.cell, &cell));
        inner.kept.push(Kept { namespace: namespace.to_owned(), cell: cell.clone() });
        while inner.kept.len() > KEPT_MAX || inner.kept.len() > 1 && bytes_of(&inner.kept) > KEPT_BYTES {
            let next = next_to_go(&inner.kept);
            inner.kept.remove(next);
        }
        cell
    }

    fn forget(&self, cell: &Arc<Cell>) {
        let mut inner = self.inner.lock();
        inner.kept.retain(|kept| !Arc::ptr_eq(&kept.cell, cell));
        inner.cells.retain(|(_, known)| !std::ptr::eq(known.as_ptr(), Arc::as_ptr(cell)));
    }
}

fn bytes_of(kept: &[Kept]) -> u64 {
    kept.iter().map(Kept::bytes).fold(0, u64::saturating_add)
}

impl Kept {
    fn bytes(&self) -> u64 {
        self.cell.get().and_then(|made| Some(made.as_ref().ok()?.bundle.size)).unwrap_or(0)
    }
}

/// Of the namespace that keeps the most bundles, among equals the most bytes, the one that was not used for longest. The newest stays.
fn next_to_go(kept: &[Kept]) -> usize {
    let of = |namespace: &str| {
        let own = || kept.iter().filter(|kept| kept.namespace == namespace);
        (own().count(), own().map(Kept::bytes).fold(0, u64::saturating_add))
    };
    let older = kept.iter().take(kept.len().saturating_sub(1)).enumerate();
    // Of equals the first one.
    older.rev().max_by_key(|(_, kept)| of(&kept.namespace)).map_or(0, |(at, _)| at)
}

/// A release's tar in a file of this machine that has no name, and its SHA-256.
type Tar = (File, Digest);

async fn local(store: &Store, digest: &str) -> Result<Tar, HostError> {
    let stored = store.release(digest).await.map_err(|error| unusable(error.to_string()))?;
    copy(digest, &stored.tar).await
}

async fn copy(digest: &str, tar: &Payload) -> Result<Tar, HostError> {
    let unreadable = |error: io::Error| unusable(format!("{error}"));
    let digest = Digest::parse(digest).ok_or_else(|| unusable(format!("{digest} is no SHA-256")))?;
    let mut stream = tokio::io::BufReader::with_capacity(COPIED, tar.open().await.map_err(unreadable)?);
    let local = tempfile::tempfile().map_err(unreadable)?;
    let mut copy = tokio::fs::File::from_std(local.try_clone().map_err(unreadable)?);
    tokio::io::copy_buf(&mut stream, &mut copy).await.map_err(unreadable)?;
    tokio::io::AsyncWriteExt::flush(&mut copy).await.map_err(unreadable)?;
    Ok((local, digest))
}

fn write(tar: Tar, base: Option<(ReleaseName, Tar)>) -> Made {
    let failed = |error: io::Error| unusable(error.to_string());
    let read = |(mut tar, digest): Tar| {
        tar.rewind().map_err(failed)?;
        bundle::Release::read(tar, &digest).map_err(|error| unusable(error.to_string()))
    };
    let release = read(tar)?;
    let (name, base) = match base {
        Some((name, tar)) => (Some(name), Some(read(tar)?)),
        None => (None, None),
    };
    let file = NamedTempFile::new().map_err(failed)?;
    let written = bundle::write(&release, base.as_ref(), io::BufWriter::new(file.as_file())).map_err(failed)?;
    let manifest = Bytes::from(bundle::encode(release.manifest()));
    let of_manifest = bundle::digest(&manifest);
    let objects = [
        (of_manifest.clone(), manifest.len() as u64, Payload::of(Memory(manifest))),
        (written.sha256.clone(), written.size, Payload::file(file.path())),
    ];
    let bundle = landfall_host_protocol::Bundle { sha256: written.sha256, size: written.size, base: name };
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

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures::future::join_all;

    use super::*;

    /// A release of one file, with its digest.
    fn tar(n: usize) -> Tar {
        let text = format!("release {n}, ").repeat(5000 + n);
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, "app", text.as_bytes()).unwrap();
        let bytes = builder.into_inner().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        (file, bundle::digest(&bytes))
    }

    fn name(n: usize) -> ReleaseName {
        ReleaseName::new(&format!("v{n}"), tar(n).1.as_str())
    }

    fn key(n: usize, base: Option<usize>) -> Key {
        (n.to_string(), base.map(|base| (base.to_string(), format!("v{base}"))))
    }

    #[tokio::test]
    async fn a_bundle_is_made_once_however_many_hosts_ask() {
        let (bundles, read) = (Bundles::default(), AtomicUsize::new(0));
        let ask = || {
            bundles.get("a", key(2, Some(1)), || async {
                read.fetch_add(1, Ordering::SeqCst);
                Ok((tar(2), Some((name(1), tar(1)))))
            })
        };
        let made = join_all((0..20).map(|_| ask())).await;
        let first = made[0].as_ref().unwrap();
        assert!(made.iter().all(|one| Arc::ptr_eq(one.as_ref().unwrap(), first)));
        assert_eq!(read.load(Ordering::SeqCst), 1);
        assert_eq!(first.bundle.base, Some(name(1)));
        let whole = bundles.get("a", key(2, None), || async { Ok((tar(2), None)) }).await.unwrap();
        assert_eq!(whole.bundle.base, None);
        assert_ne!(whole.bundle.sha256, first.bundle.sha256);
    }

    #[tokio::test]
    async fn no_more_than_two_bundles_are_made_at_once() {
        let (bundles, now, most) = (Bundles::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        let (now, most) = (&now, &most);
        let made = (0..10).map(|n| {
            bundles.get("a", key(n, None), move || async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                now.fetch_sub(1, Ordering::SeqCst);
                Ok((tar(n), None))
            })
        });
        assert!(join_all(made).await.iter().all(Result::is_ok));
        assert_eq!(most.load(Ordering::SeqCst), AT_ONCE);
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all_who_wait_and_the_next_gets_another_try() {
        let (bundles, read) = (Bundles::default(), AtomicUsize::new(0));
        let ask = || {
            bundles.get("a", key(1, None), || async {
                read.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                Err(unusable("it is damaged".to_owned()))
            })
        };
        let failed = join_all((0..5).map(|_| ask())).await;
        assert!(failed.iter().all(|one| one.as_ref().unwrap_err().to_string().contains("damaged")), "{failed:?}");
        assert_eq!(read.load(Ordering::SeqCst), 1);
        assert!(bundles.get("a", key(1, None), || async { Ok((tar(1), None)) }).await.is_ok());
        assert_eq!(bundles.makers.free(), AT_ONCE);
    }

    #[tokio::test]
    async fn what_is_held_stays_and_what_was_not_used_for_longest_goes() {
        let bundles = Bundles::default();
        let get = |n: usize| bundles.get("a", key(n, None), move || async move { Ok((tar(n), None)) });
        let held = get(0).await.unwrap();
        let first = get(1).await.unwrap()._file.path().to_owned();
        for n in 2..KEPT_MAX + 2 {
            get(n).await.unwrap();
        }
        assert!(held._file.path().exists() && !first.exists());
        assert_eq!(bundles.inner.lock().kept.len(), KEPT_MAX);
    }

    #[tokio::test]
    async fn a_namespace_with_many_releases_takes_none_from_another() {
        let bundles = Bundles::default();
        let get = |namespace: &'static str, n: usize| {
            bundles.get(namespace, key(n, None), move || async move { Ok((tar(n), None)) })
        };
        let paths = [get("small", 0).await, get("small", 1).await].map(|made| made.unwrap()._file.path().to_owned());
        for n in 2..KEPT_MAX * 2 {
            get("big", n).await.unwrap();
        }
        assert!(paths.iter().all(|path| path.exists()));
        assert_eq!(bundles.inner.lock().kept.len(), KEPT_MAX);
    }

    #[tokio::test]
    async fn one_base_under_two_names_is_two_bundles() {
        let bundles = Bundles::default();
        let get = |name: &'static str| {
            let key = (2.to_string(), Some((1.to_string(), name.to_owned())));
            bundles.get("a", key, move || async move {
                let name = ReleaseName::new(name, tar(1).1.as_str());
                Ok((tar(2), Some((name, tar(1)))))
            })
        };
        let names = [get("v1").await, get("v1-again").await].map(|made| made.unwrap().bundle.base.clone().unwrap());
        assert_ne!(names[0], names[1]);
    }
}
