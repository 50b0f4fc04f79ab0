//! Keyed background tasks: long work that outlives a reconcile. A task wakes its object by itself when it is over.

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::task::AbortHandle;
use tracing::Instrument;

use crate::model::{Class, Failure, backoff::Backoff};

/// All tries take some seven minutes.
const MAX_TRIES: u32 = 12;
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// All tasks of one operator. Cheap to clone; all clones are one set.
#[derive(Clone, Default)]
pub struct Tasks {
    running: Arc<Mutex<HashMap<String, AbortHandle>>>,
}

impl Tasks {
    /// Starts `work` under `key`. False: one with this key runs already, and `work` was dropped. A panic ends the task alone.
    /// Its log lines carry the fields of whoever starts it.
    pub fn start(&self, key: impl Into<String>, work: impl Future<Output = ()> + Send + 'static) -> bool {
        let key = key.into();
        let mut running = self.lock();
        if running.get(&key).is_some_and(|task| !task.is_finished()) {
            return false;
        }
        running.retain(|_, task| !task.is_finished());
        running.insert(key, tokio::spawn(work.in_current_span()).abort_handle());
        true
    }

    pub fn running(&self, key: &str) -> bool {
        self.lock().get(key).is_some_and(|task| !task.is_finished())
    }

    /// Stops the task where it stands. What it had begun outside is found again by observing.
    pub fn cancel(&self, key: &str) {
        if let Some(task) = self.lock().remove(key) {
            task.abort();
        }
    }

    /// At shutdown. Detached steps go on, and the next operator finds them.
    pub(crate) fn cancel_all(&self) {
        for (_, task) in self.lock().drain() {
            task.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, AbortHandle>> {
        self.running.lock()
    }
}

/// Repeats a deletion until it is done: the lease may be away for a moment, or the disk be full, and nobody asks a second time. A terminal
/// failure is left to the garbage collector at once, others after some tries.
pub(crate) async fn delete_with_retries<F>(what: &str, of: &str, mut delete: impl FnMut() -> F)
where
    F: Future<Output = Result<(), Failure>>,
{
    let mut waits = BACKOFF.waits();
    for _ in 0..MAX_TRIES {
        let Err(failure) = delete().await else { return };
        tracing::warn!(%of, message = %failure.message, "{what} is deleted later");
        if failure.class == Class::Terminal {
            return;
        }
        tokio::time::sleep(waits.next_wait()).await;
    }
}
