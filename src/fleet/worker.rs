//! One host's worker: it dials, serves, and dials again. Nothing that goes wrong here, a panic included, reaches another worker.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::AbortOnDropHandle,
};

use super::{
    access::{HostAccess, HostId},
    backoff,
    budget::ConnectionPermit,
    changes::Changes,
    known::{Known, Link},
    order::{FleetError, Order, Ticket},
    serve::{Over, serve},
    session::{Dialer, Dialled},
    shared::{Shared, WorkerBounds},
};
use crate::effects::{clock, program::ProgramError};

/// A session that lasted so long was a good one: the next dial after it is at once.
pub(crate) const GOOD_SESSION: Duration = Duration::from_secs(20);

/// Ends with its connection when it is dropped.
pub(super) struct Worker {
    shared: Arc<Shared>,
    _cut: DropGuard,
}

impl Worker {
    pub fn start(
        id: HostId,
        access: HostAccess,
        dialer: Arc<dyn Dialer>,
        bounds: WorkerBounds,
        changes: Changes,
    ) -> Self {
        let shared = Shared::new(id, access, &bounds, changes);
        let cut = CancellationToken::new();
        tokio::spawn(run(shared.clone(), dialer, cut.clone()));
        Self { shared, _cut: cut.drop_guard() }
    }

    pub fn set(&self, access: HostAccess, period: Duration) {
        self.shared.set(access, period);
    }

    pub fn known(&self) -> Known {
        self.shared.known.lock().clone()
    }

    pub fn add(&self, order: Order) -> Ticket {
        let ticket = self.shared.queue.lock().add(order, clock::monotonic());
        self.shared.queued.notify_one();
        ticket
    }

    /// A host that is waited for is dialled now.
    pub fn redial(&self) {
        self.shared.redial.notify_one();
    }
}

/// Until it is cut.
async fn run(shared: Arc<Shared>, dialer: Arc<dyn Dialer>, cut: CancellationToken) {
    let working = async {
        loop {
            let round = AssertUnwindSafe(rounds(&shared, &dialer)).catch_unwind().await;
            if round.is_err() {
                shared.lose(ProgramError::Ended("its worker failed here and starts again".to_owned()), true);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    };
    tokio::select! {
        () = cut.cancelled() => {}
        () = working => {}
    }
    // Work under way holds the session.
    shared.end_work();
    for job in shared.queue.lock().drain() {
        job.finish(Err(FleetError::Forgotten));
    }
}

async fn rounds(shared: &Arc<Shared>, dialer: &Arc<dyn Dialer>) {
    let mut failed = 0;
    loop {
        match round(shared, dialer).await {
            Ok((Over::Idle, _)) => {
                failed = 0;
                shared.learn(|known, _| {
                    known.link = Link::Idle;
                    known.seen = 0;
                    false
                });
                idle(shared).await;
            }
            Ok((Over::Changed, _)) => {
                failed = 0;
                shared.learn(|known, _| {
                    *known = Known::default();
                    true
                });
            }
            Ok((Over::Lost(error), lasted)) => {
                shared.lose(error, false);
                // At once after a good session; one that ends right away again and again is none.
                failed = if lasted >= GOOD_SESSION { 0 } else { failed + 1 };
                pause(shared, failed.max(1) - 1).await;
            }
            Err(error) => {
                shared.lose(error, true);
                failed += 1;
                pause(shared, failed).await;
            }
        }
    }
}

/// One connection, from its dial to its end.
async fn round(shared: &Arc<Shared>, dialer: &Arc<dyn Dialer>) -> Result<(Over, Duration), ProgramError> {
    let access = shared.access.borrow().clone();
    let doubtful = shared.known.lock().failed > 0;
    let permit = {
        // Orders do not wait for a permit beyond their patience either.
        let waiting = shared.budgets.connect(&shared.group, doubtful);
        tokio::pin!(waiting);
        loop {
            tokio::select! {
                permit = &mut waiting => break permit,
                () = next_expiry(shared) => shared.expire(clock::monotonic()),
            }
        }
    };
    let health = permit.health();
    let limit = access.sign_in_limit();
    let dialled = dial(shared, dialer.clone(), access, permit, limit).await?;
    health.mark_healthy();
    let began = clock::monotonic();
    let over = serve(shared, dialled).await;
    Ok((over, began.elapsed()))
}

/// In a task of its own: what panics in there costs this try.
async fn dial(
    shared: &Arc<Shared>,
    dialer: Arc<dyn Dialer>,
    access: Arc<HostAccess>,
    permit: ConnectionPermit,
    limit: Duration,
) -> Result<Dialled, ProgramError> {
    let id = shared.id.clone();
    let work = tokio::spawn(async move { dialer.dial(&id, &access, permit).await });
    let late = ProgramError::Deadline { what: "signing in", seconds: limit.as_secs() };
    let dialling = tokio::time::timeout(limit, AbortOnDropHandle::new(work));
    tokio::pin!(dialling);
    loop {
        tokio::select! {
            done = &mut dialling => {
                let Ok(done) = done else { return Err(late) };
                return done.unwrap_or_else(|_| Err(ProgramError::Ended("signing in failed here".to_owned())));
            }
            () = next_expiry(shared) => shared.expire(clock::monotonic()),
        }
    }
}

/// Back when the next order has waited too long.
async fn next_expiry(shared: &Shared) {
    loop {
        let queued = shared.queued.notified();
        let next = shared.queue.lock().next_expiry();
        match next {
            Some(at) => {
                tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => return,
                    () = queued => {}
                }
            }
            None => queued.await,
        }
    }
}

/// Until the host may be dialled again.
async fn pause(shared: &Shared, failed: u32) {
    let wait = backoff::wait(failed, rand::random());
    let until = tokio::time::sleep(wait);
    tokio::pin!(until);
    let mut access = shared.access.subscribe();
    access.mark_unchanged();
    loop {
        tokio::select! {
            () = &mut until => return,
            () = shared.redial.notified() => return,
            _ = access.changed() => return,
            () = next_expiry(shared) => shared.expire(clock::monotonic()),
        }
    }
}

/// Until something is to be done, or the next look is due.
async fn idle(shared: &Shared) {
    let mut access = shared.access.subscribe();
    access.mark_unchanged();
    let queued = shared.queued.notified();
    if !shared.queue.lock().is_empty() {
        return;
    }
    tokio::select! {
        () = tokio::time::sleep(shared.period()) => {}
        () = shared.redial.notified() => {}
        () = queued => {}
        _ = access.changed() => {}
    }
}
