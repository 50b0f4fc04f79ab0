//! Who may work on a mirror now. Whoever has to wait does so without a thread: what a slow server holds up is its own namespace, and never
//! the threads that everything else needs (the store, the names of hosts, other repositories).

use std::{
    collections::HashMap,
    hash::Hash,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use parking_lot::Mutex as Shared;
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use super::job::Job;

/// Jobs that talk to a server, and jobs on local data: the number of each at one time.
const JOBS_MAX: usize = 32;
/// Of these, the number for one namespace.
const JOBS_PER_NAMESPACE: usize = 4;

/// Cheap to clone; all clones are one set of locks. One process has one.
#[derive(Clone, Debug, Default)]
pub(super) struct RepoLocks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    talking: Arc<Semaphore>,
    local: Arc<Semaphore>,
    /// By namespace, and whether they talk to a server.
    namespaces: Shared<HashMap<(String, bool), Weak<Semaphore>>>,
    mirrors: Shared<HashMap<PathBuf, Weak<Mutex<()>>>>,
}

impl Default for Inner {
    fn default() -> Self {
        let all = || Arc::new(Semaphore::new(JOBS_MAX));
        Self { talking: all(), local: all(), namespaces: Shared::default(), mirrors: Shared::default() }
    }
}

/// To be held by the very thread that works, which may go on when its caller has given up.
#[derive(Debug)]
pub(super) struct RepoLock {
    _alone: Option<OwnedMutexGuard<()>>,
    _permits: [Option<OwnedSemaphorePermit>; 2],
}

impl RepoLocks {
    /// Waits for the mirror first: who waits for it takes no place from others meanwhile.
    pub(super) async fn take(&self, mirror: &Path, namespace: &str, job: Job, alone: bool) -> RepoLock {
        let alone = if alone { Some(self.exclusive(mirror).await) } else { None };
        let own =
            shared(&self.inner.namespaces, (namespace.to_owned(), job.talks), || Semaphore::new(JOBS_PER_NAMESPACE));
        let all = if job.talks { &self.inner.talking } else { &self.inner.local };
        // Nobody closes them, so there is always a permit in the end.
        let permits = [own.acquire_owned().await.ok(), all.clone().acquire_owned().await.ok()];
        RepoLock { _alone: alone, _permits: permits }
    }

    /// The mirror's lock among the tasks of this process. Other processes are kept away by its file.
    pub(super) async fn exclusive(&self, mirror: &Path) -> OwnedMutexGuard<()> {
        shared(&self.inner.mirrors, mirror.to_owned(), || Mutex::new(())).lock_owned().await
    }
}

/// The one of this key that somebody has or waits for, else a new one.
fn shared<K: Eq + Hash, T>(all: &Shared<HashMap<K, Weak<T>>>, key: K, new: impl FnOnce() -> T) -> Arc<T> {
    let mut all = all.lock();
    if let Some(there) = all.get(&key).and_then(Weak::upgrade) {
        return there;
    }
    all.retain(|_, one| one.strong_count() > 0);
    let one = Arc::new(new());
    all.insert(key, Arc::downgrade(&one));
    one
}
