//! One look-out for each log that is followed, however many follow it: how long the log is by now, and whether it is over.

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::effects::logs::Log;

/// How often the length is looked at. It costs one `stat`, and half of it is what a line waits for.
const LOOK: Duration = Duration::from_millis(15);
/// Looks between two questions whether it is over.
const LOOKS: u32 = 12;

/// How far a log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub size: u64,
    /// Nothing more comes, and `size` is all of it.
    pub over: bool,
}

/// Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct LogFollowers {
    known: Arc<Mutex<HashMap<String, watch::Receiver<Progress>>>>,
}

impl LogFollowers {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<Progress>>> {
        self.known.lock()
    }

    /// Joins those who follow this log. `over` is asked a few times a second while anybody does.
    pub fn join<F, O>(&self, log: &Log, over: F) -> watch::Receiver<Progress>
    where
        F: Fn() -> O + Send + 'static,
        O: Future<Output = bool> + Send + 'static,
    {
        let key = log.file.display().to_string();
        let mut known = self.lock();
        if let Some(tail) = known.get(&key).filter(|tail| tail.has_changed().is_ok()) {
            return tail.clone();
        }
        let (tell, tail) = watch::channel(Progress::default());
        known.insert(key.clone(), tail.clone());
        tokio::spawn(look(self.clone(), key, log.clone(), tell, over));
        tail
    }

    /// Whether nobody but this list follows any more; then it is forgotten.
    fn left(&self, key: &str, tell: &watch::Sender<Progress>) -> bool {
        let mut known = self.lock();
        if tell.receiver_count() > 1 {
            return false;
        }
        known.remove(key);
        true
    }
}

async fn look<F, O>(followers: LogFollowers, key: String, log: Log, tell: watch::Sender<Progress>, over: F)
where
    F: Fn() -> O,
    O: Future<Output = bool>,
{
    let mut looks = 0_u32;
    loop {
        // Asked first: what is measured after it is the whole log.
        let is_over = looks.is_multiple_of(LOOKS) && over().await;
        let size = match (log.file_size().await, is_over) {
            (Some(size), _) => size,
            // Only its sealed pieces are left, or it did not begin yet.
            (None, true) => log.size().await.unwrap_or_default(),
            (None, false) => 0,
        };
        let now = Progress { size, over: is_over };
        tell.send_if_modified(|before| std::mem::replace(before, now) != now);
        if is_over {
            followers.lock().remove(&key);
            return;
        }
        if followers.left(&key, &tell) {
            return;
        }
        looks = looks.wrapping_add(1);
        tokio::time::sleep(LOOK).await;
    }
}
