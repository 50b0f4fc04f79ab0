//! Keyed background tasks: long work that outlives a reconcile. A task wakes its object by itself when it is over.

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::task::AbortHandle;

use super::build::broken::Broken;
use crate::model::Class;

/// Pauses between tries double from one second to a minute: so all of them take some seven minutes.
const TRIES: u32 = 12;
const LONGEST: Duration = Duration::from_secs(60);

/// All tasks of one operator. Cheap to clone; all clones are one set.
#[derive(Clone, Default)]
pub struct Tasks {
    running: Arc<Mutex<HashMap<String, AbortHandle>>>,
}

impl Tasks {
    /// Starts `work` under `key`. False: one with this key runs already, and `work` was dropped. A panic ends the task alone.
    pub fn start(&self, key: impl Into<String>, work: impl Future<Output = ()> + Send + 'static) -> bool {
        let key = key.into();
        let mut running = self.lock();
        if running.get(&key).is_some_and(|task| !task.is_finished()) {
            return false;
        }
        running.retain(|_, task| !task.is_finished());
        running.insert(key, tokio::spawn(work).abort_handle());
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

    /// At shutdown. Nothing is lost: detached steps go on, and the next operator finds them.
    pub fn cancel_all(&self) {
        for (_, task) in self.lock().drain() {
            task.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, AbortHandle>> {
        self.running.lock()
    }
}
/// Tidies up, again and again: the lease may be away for a moment, or the disk be full, and nobody asks a second time. What no try can help is
/// left to the next sweep at once, the rest after some tries.
pub async fn insist<F>(what: &str, of: &str, mut work: impl FnMut() -> F)
where
    F: Future<Output = Result<(), Broken>>,
{
    for nth in 0..TRIES {
        let Err(broken) = work().await else { return };
        tracing::warn!(%of, message = %broken.message, "{what} is removed later");
        if broken.class == Class::Terminal {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1 << nth).min(LONGEST)).await;
    }
}
