//! One poller for each log that is followed, whatever its number of followers: how long the log is, and whether it is complete.

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::effects::logs::Log;

/// Interval between reads of the length. Each costs one `stat`; a line waits for half of it on average.
const POLL_INTERVAL: Duration = Duration::from_millis(15);
/// Polls between two questions whether the log is complete.
const POLLS_PER_END_CHECK: u32 = 12;

/// How far a log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub size: u64,
    /// The log is complete, and `size` is all of it.
    pub over: bool,
}

/// Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct LogFollowers {
    known: Arc<Mutex<HashMap<String, watch::Receiver<Progress>>>>,
}

impl LogFollowers {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<Progress>>> {
        self.known.lock()
    }

    /// Joins the followers of this log. `over` is asked a few times a second while there are any.
    pub fn join<F, O>(&self, log: &Log, over: F) -> watch::Receiver<Progress>
    where
        F: Fn() -> O + Send + 'static,
        O: Future<Output = bool> + Send + 'static,
    {
        let key = log.file.display().to_string();
        let mut known = self.lock();
        if let Some(progress) = known.get(&key).filter(|progress| progress.has_changed().is_ok()) {
            return progress.clone();
        }
        let (sender, progress) = watch::channel(Progress::default());
        known.insert(key.clone(), progress.clone());
        tokio::spawn(poll(self.clone(), key, log.clone(), sender, over));
        progress
    }

    /// Forgets the log where no follower is left, and tells whether that is so. This list is a receiver itself.
    fn forget_abandoned(&self, key: &str, sender: &watch::Sender<Progress>) -> bool {
        let mut known = self.lock();
        if sender.receiver_count() > 1 {
            return false;
        }
        known.remove(key);
        true
    }
}

async fn poll<F, O>(followers: LogFollowers, key: String, log: Log, sender: watch::Sender<Progress>, over: F)
where
    F: Fn() -> O,
    O: Future<Output = bool>,
{
    let mut polls = 0_u32;
    loop {
        // Asked first: what is measured after it is the whole log.
        let is_over = polls.is_multiple_of(POLLS_PER_END_CHECK) && over().await;
        let size = match (log.file_size().await, is_over) {
            (Some(size), _) => size,
            // Only its sealed pieces are left, or it has not begun yet.
            (None, true) => log.size().await.unwrap_or_default(),
            (None, false) => 0,
        };
        let now = Progress { size, over: is_over };
        sender.send_if_modified(|before| std::mem::replace(before, now) != now);
        if is_over {
            followers.lock().remove(&key);
            return;
        }
        if followers.forget_abandoned(&key, &sender) {
            return;
        }
        polls = polls.wrapping_add(1);
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
