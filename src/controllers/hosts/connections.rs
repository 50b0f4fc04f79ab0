//! How many connections a group may have at once. A connection counts until its socket is closed, whether or not signing in succeeded. The
//! limit can be changed while connections are open: there is one count of them, before and after a change.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// `maxConcurrentConnections` of one group. Hosts whose last check failed share a quarter of it: each may hold its permit up to the last
/// deadline, and a group full of them must not keep the others waiting. Cheap to clone; all clones share one count.
#[derive(Clone)]
pub struct ConnectionLimit {
    all: Arc<Limit>,
    doubtful: Arc<Limit>,
}

impl ConnectionLimit {
    pub fn new(max: usize) -> Self {
        Self { all: Arc::new(Limit::new(max)), doubtful: Arc::new(Limit::new(max / 4)) }
    }

    /// Where it is lowered, connections above it stay open, and no new one is opened until enough of them are closed.
    pub fn resize(&self, max: usize) {
        self.all.resize(max);
        self.doubtful.resize(max / 4);
    }

    /// Waits for the right to one connection. `doubtful`: the host's last check failed.
    pub async fn acquire(&self, doubtful: bool) -> ConnectionPermit {
        let quarter = match doubtful {
            true => Some(self.doubtful.clone().acquire().await),
            false => None,
        };
        let one = self.all.clone().acquire().await;
        ConnectionPermit { doubtful: Mutex::new(quarter), _one: one }
    }
}

/// The right to one connection, until it is dropped.
pub struct ConnectionPermit {
    doubtful: Mutex<Option<Permit>>,
    _one: Permit,
}

impl ConnectionPermit {
    /// The host told its facts: it does not count among the doubtful.
    pub(crate) fn mark_healthy(&self) {
        self.doubtful.lock().take();
    }
}

/// A semaphore whose size can be changed while permits are out.
struct Limit {
    free: Semaphore,
    size: Mutex<Size>,
}

struct Size {
    total: usize,
    /// Permits that are out and above the total: they are not given out again.
    surplus: usize,
}

impl Limit {
    fn new(size: usize) -> Self {
        let total = size.max(1);
        Self { free: Semaphore::new(total), size: Mutex::new(Size { total, surplus: 0 }) }
    }

    fn resize(&self, size: usize) {
        let mut now = self.size.lock();
        let total = size.max(1);
        if total >= now.total {
            let more = total - now.total;
            let still_out = more.min(now.surplus);
            now.surplus -= still_out;
            self.free.add_permits(more - still_out);
        } else {
            let fewer = now.total - total;
            now.surplus += fewer - self.free.forget_permits(fewer);
        }
        now.total = total;
    }

    async fn acquire(self: Arc<Self>) -> Permit {
        // The semaphore is never closed, so there is no error.
        if let Ok(taken) = self.free.acquire().await {
            taken.forget();
        }
        Permit(self)
    }
}

struct Permit(Arc<Limit>);

impl Drop for Permit {
    fn drop(&mut self) {
        let mut size = self.0.size.lock();
        match size.surplus {
            0 => self.0.free.add_permits(1),
            _ => size.surplus -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn take(limit: &ConnectionLimit) -> Option<ConnectionPermit> {
        limit.acquire(false).now_or_never()
    }

    #[test]
    fn connections_of_before_count_after_a_change() {
        let limit = ConnectionLimit::new(1);
        let first = take(&limit).unwrap();
        limit.resize(2);
        let second = take(&limit).unwrap();
        assert!(take(&limit).is_none(), "an older connection and a new one are two");
        drop(first);
        let _third = take(&limit).unwrap();
        assert!(take(&limit).is_none());
        drop(second);
        assert!(take(&limit).is_some());
    }

    #[tokio::test]
    async fn one_that_waits_since_before_a_change_counts_after_it() {
        let limit = ConnectionLimit::new(1);
        let first = take(&limit).unwrap();
        let waiting = tokio::spawn({
            let limit = limit.clone();
            async move { limit.acquire(false).await }
        });
        tokio::task::yield_now().await;
        limit.resize(2);
        let _second = waiting.await.unwrap();
        assert!(take(&limit).is_none());
        drop(first);
        assert!(take(&limit).is_some());
    }

    #[test]
    fn a_lowered_limit_opens_none_until_enough_are_closed() {
        let limit = ConnectionLimit::new(4);
        let mut open: Vec<_> = (0..3).map(|_| take(&limit).unwrap()).collect();
        limit.resize(1);
        for _ in 0..3 {
            assert!(take(&limit).is_none(), "{} are open", open.len());
            open.pop();
        }
        let one = take(&limit).unwrap();
        assert!(take(&limit).is_none());
        // Raised again while more than the old limit are out.
        limit.resize(3);
        let two = take(&limit).unwrap();
        limit.resize(1);
        limit.resize(2);
        assert!(take(&limit).is_none(), "two are out");
        drop(one);
        assert!(take(&limit).is_some());
        drop(two);
    }

    #[test]
    fn doubtful_hosts_share_a_quarter_until_they_are_healthy() {
        let limit = ConnectionLimit::new(8);
        let doubtful: Vec<_> = (0..3).map_while(|_| limit.acquire(true).now_or_never()).collect();
        assert_eq!(doubtful.len(), 2);
        doubtful[0].mark_healthy();
        let third = limit.acquire(true).now_or_never();
        assert!(third.is_some() && limit.acquire(true).now_or_never().is_none());
    }
}
