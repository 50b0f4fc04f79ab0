//! A semaphore whose size can be changed while permits are out.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

pub(super) struct Limit {
    free: Semaphore,
    size: Mutex<Size>,
}

struct Size {
    total: usize,
    /// Permits that are out and above the total: they are not given out again.
    surplus: usize,
}

impl Limit {
    pub fn new(size: usize) -> Arc<Self> {
        let total = size.max(1);
        Arc::new(Self { free: Semaphore::new(total), size: Mutex::new(Size { total, surplus: 0 }) })
    }

    /// Where it is lowered, permits above it stay out, and no new one is given until enough of them are back.
    pub fn resize(&self, size: usize) {
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

    pub async fn acquire(self: Arc<Self>) -> LimitPermit {
        // The semaphore is never closed, so there is no error.
        if let Ok(taken) = self.free.acquire().await {
            taken.forget();
        }
        LimitPermit(self)
    }
}

pub(super) struct LimitPermit(Arc<Limit>);

impl Drop for LimitPermit {
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

    fn take(limit: &Arc<Limit>) -> Option<LimitPermit> {
        limit.clone().acquire().now_or_never()
    }

    #[test]
    fn a_lowered_limit_gives_none_until_enough_are_back() {
        let limit = Limit::new(4);
        let mut out: Vec<_> = (0..3).map(|_| take(&limit).unwrap()).collect();
        limit.resize(1);
        for _ in 0..3 {
            assert!(take(&limit).is_none(), "{} are out", out.len());
            out.pop();
        }
        let one = take(&limit).unwrap();
        limit.resize(3);
        let two = take(&limit).unwrap();
        limit.resize(2);
        assert!(take(&limit).is_none(), "two are out");
        drop(one);
        assert!(take(&limit).is_some());
        drop(two);
    }
}
