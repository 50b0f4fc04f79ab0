//! One host's worker: it dials, serves, and dials again. Nothing that goes wrong here, a panic included, reaches another worker.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use landfall_host_protocol::FolderName;
use parking_lot::Mutex;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::AbortOnDropHandle,
};

use super::{
    access::{HostAccess, HostId},
    backoff,
    budget::{ConnectionPermit, Short},
    changes::Changes,
    known::{Known, Link, Waiting},
    order::{FleetError, Order, Ticket},
    serve::{Over, serve},
    session::{Dialer, Dialled},
    shared::{Reach, Shared, WorkerBounds},
};
use crate::effects::{
    clock,
    program::{LogPart, LogStream, ProgramError},
};

/// A session that lasted so long was a good one: the next dial after it is at once.
const GOOD_SESSION: Duration = Duration::from_secs(20);
/// How long whoever wants to read over a session waits for a dial.
const READ_PATIENCE: Duration = Duration::from_secs(2);

/// Ends with its connection when it is dropped.
pub(super) struct Worker {
    shared: Arc<Shared>,
    _cut: DropGuard,
}

/// Why there is no session to read over.
#[derive(Debug, thiserror::Error)]
pub enum NoSession {
    #[error("its HostGroup is not watched yet")]
    Unwatched,
    #[error("it is being dialled")]
    Dialled,
    #[error("the connection is lost, and made again as soon as the host answers")]
    Lost,
    #[error(
        "no connection is kept between checks: there may be fewer than hosts (ssh.maxConcurrentConnections of its HostGroup), or others needed \
         it; raise the former, try again, or read the log on the host with landfall-host logs"
    )]
    NotKept,
    #[error(transparent)]
    Host(#[from] ProgramError),
}

/// While it lives the host's connection stays open between orders, where it would be closed after each.
pub struct Hold(Arc<Shared>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.let_go();
    }
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

    pub fn set(&self, access: HostAccess, period: Duration, least_rate: Option<u64>) {
        self.shared.set(access, period, least_rate);
    }

    pub fn known(&self) -> Known {
        self.shared.known.lock().clone()
    }

    pub fn add(&self, order: Order) -> Ticket {
        let ticket = self.shared.queue.lock().add(order, clock::monotonic());
        self.shared.queued.notify_one();
        ticket
    }

    /// The host is looked at now; one that is waited for is dialled now.
    pub fn look_now(&self) {
        self.shared.look_now.notify_one();
    }

    /// The session is closed, and another one is begun.
    pub fn renew(&self) {
        self.shared.renew();
    }

    pub fn hold(&self) -> Hold {
        self.shared.hold();
        Hold(self.shared.clone())
    }

    /// Opens an application's log over the session that there is. None is made for it.
    pub fn log(&self, folder: FolderName, part: LogPart) -> BoxFuture<'static, Result<LogStream, NoSession>> {
        let shared = self.shared.clone();
        let opening = async move {
            let mut sessions = shared.session.subscribe();
            let is_lost = || matches!(shared.known.lock().link, Link::Lost(_));
            let is_idle = || matches!(shared.known.lock().link, Link::Idle);
            let patience =
                if is_lost() || is_idle() || !shared.keeps_connection() { Duration::ZERO } else { READ_PATIENCE };
            let open = tokio::time::timeout(patience, sessions.wait_for(Option::is_some)).await;
            let session = open.ok().and_then(|open| open.ok()?.as_ref()?.upgrade());
            match session.filter(|session| !session.is_closed()) {
                Some(session) => Ok(session.log(&folder, part).await?),
                None if is_idle() || !shared.keeps_connection() => Err(NoSession::NotKept),
                None if is_lost() => Err(NoSession::Lost),
                None => Err(NoSession::Dialled),
            }
        };
        opening.boxed()
    }
}

/// Until it is cut.
async fn run(shared: Arc<Shared>, dialer: Arc<dyn Dialer>, cut: CancellationToken) {
    let working = async {
        loop {
            let round = AssertUnwindSafe(rounds(&shared, &dialer)).catch_unwind().await;
            if round.is_err() {
                let reach = shared.reach.borrow().number;
                shared.lose(reach, ProgramError::Ended("its worker failed here and starts again".to_owned()), true);
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
    let mut failed: u32 = 0;
    loop {
        let reach = shared.reach.borrow().clone();
        let number = reach.number;
        let Some(round) = round(shared, dialer, reach).await else {
            failed = 0;
            continue;
        };
        match round {
            Ok((over @ (Over::Idle | Over::GivenBack), _)) => {
                failed = 0;
                shared.pass_over(number, Link::Idle);
                idle(shared, number, matches!(over, Over::GivenBack)).await;
            }
            Ok((Over::Renew, _)) => {
                failed = 0;
                shared.pass_over(number, Link::Again);
            }
            Ok((Over::Lost(error), lasted)) => {
                // At once after a good session; one that ends right away again and again is none.
                failed = if lasted >= GOOD_SESSION { 0 } else { failed.saturating_add(1) };
                match failed {
                    0 | 1 => shared.pass_over(number, Link::Again),
                    _ => shared.lose(number, error, false),
                }
                pause(shared, number, failed.saturating_sub(1)).await;
            }
            Err(error) => {
                shared.lose(number, error, true);
                failed = failed.saturating_add(1);
                pause(shared, number, failed).await;
            }
        }
    }
}

/// One connection, from its dial to its end. `None`: the host is reached otherwise meanwhile.
async fn round(
    shared: &Arc<Shared>,
    dialer: &Arc<dyn Dialer>,
    reach: Reach,
) -> Option<Result<(Over, Duration), ProgramError>> {
    let Reach { access, number } = reach;
    let past_answer = shared.past_answer();
    let short = Mutex::new(None::<Short>);
    let connecting = shared.settings.budgets.connect(&shared.group, past_answer, |now| *short.lock() = Some(now));
    let permit = attend(shared, number, connecting, || short.lock().map(Waiting::Connection)).await?;
    let connection = permit.use_of();
    let limit = access.dial_limit();
    let dialling = dial(shared, dialer.clone(), access, permit, limit);
    let dialled = match attend(shared, number, dialling, || Some(Waiting::Answer)).await? {
        Ok(dialled) => dialled,
        Err(error) => return Some(Err(error)),
    };
    connection.mark_healthy();
    let began = clock::monotonic();
    let over = serve(shared, dialled, &connection, number).await;
    Some(Ok((over, began.elapsed())))
}

/// Waits for something on the way to a session. Orders do not wait for it beyond their patience, and a host of which nothing is known is
/// told as one that waits. `None`: the host is reached otherwise now.
async fn attend<T>(
    shared: &Shared,
    reach: u64,
    work: impl Future<Output = T>,
    waiting: impl Fn() -> Option<Waiting>,
) -> Option<T> {
    tokio::pin!(work);
    let silent_wait = shared.settings.silent_wait;
    let mut tell_at = tokio::time::Instant::now() + silent_wait;
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            () = reached_otherwise(shared, reach) => return None,
            () = next_expiry(shared) => shared.expire(clock::monotonic()),
            () = tokio::time::sleep_until(tell_at) => {
                if let Some(waiting) = waiting() {
                    shared.note_waiting(reach, waiting);
                }
                tell_at += silent_wait;
            }
        }
    }
}

async fn reached_otherwise(shared: &Shared, reach: u64) {
    let mut reached = shared.reach.subscribe();
    // The sender is in `shared`.
    let _ = reached.wait_for(|now| now.number != reach).await;
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
    let route = shared.route.clone();
    let work = tokio::spawn(async move { dialer.dial(&id, &access, &route, permit).await });
    match tokio::time::timeout(limit, AbortOnDropHandle::new(work)).await {
        Ok(done) => done.unwrap_or_else(|_| Err(ProgramError::Ended("signing in failed here".to_owned()))),
        Err(_) => Err(ProgramError::Deadline { what: "signing in", seconds: limit.as_secs() }),
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
async fn pause(shared: &Shared, reach: u64, failed: u32) {
    let wait = backoff::wait(failed, shared.period(), rand::random());
    let until = tokio::time::sleep(wait);
    tokio::pin!(until);
    loop {
        tokio::select! {
            () = &mut until => return,
            () = shared.look_now.notified() => return,
            () = reached_otherwise(shared, reach) => return,
            () = next_expiry(shared) => shared.expire(clock::monotonic()),
        }
    }
}

/// Until something is to be done, or the next look is due: some earlier and some later, so that hosts do not come together. `gave_back`: its
/// connection went to a host that needed it more, so it is not made again at once.
async fn idle(shared: &Shared, reach: u64, gave_back: bool) {
    let until = tokio::time::sleep(shared.period().mul_f64(rand::random_range(0.9..1.1)));
    tokio::pin!(until);
    loop {
        let queued = shared.queued.notified();
        // Those that nobody waits for any more are no reason to dial.
        let keeps = if gave_back { shared.is_held() } else { shared.keeps_connection() };
        if shared.queue.lock().has_some() || keeps {
            return;
        }
        tokio::select! {
            () = &mut until => return,
            () = shared.look_now.notified() => return,
            () = queued => {}
            () = reached_otherwise(shared, reach) => return,
        }
    }
}
