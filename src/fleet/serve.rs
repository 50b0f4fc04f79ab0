//! One session from its welcome to its end: orders are done beside each other as far as they may, what the host tells becomes known, and a
//! look now and then proves that it still answers.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::FutureExt;
use landfall_host_protocol::{Event, FolderName, TaskId};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use super::{
    budget::ConnectionUse,
    order::{FleetError, Outcome, Work},
    queue::Job,
    session::{Dialled, Session, TaskEvents},
    shared::Shared,
};
use crate::{
    effects::{
        clock,
        fair::Offer,
        program::{ProgramError, PutOptions, TaskNews},
    },
    plan::hostgroup::unfit,
};

/// How long whoever waits for a task's events may take none. The host has them on file.
const EVENTS_STALL: Duration = Duration::from_secs(5);
/// How long a host may say nothing during a task before it is asked whether it still answers.
const SILENCE: Duration = Duration::from_secs(5);
/// Periods after which a host that can't be used is signed in to again: some of it, as the groups of the user, a new session alone shows.
const UNFIT_PERIODS: u32 = 5;
/// How long a session that came too late for its order waits for the next one: its place among those that wait is not lost.
const LATE: Duration = Duration::from_secs(10);
/// Uploads to one host at once: a host refuses the next one (`MAX_PUTS` there).
const PUTS_MAX: usize = 4;

/// Why a session is over.
pub(super) enum Over {
    Lost(ProgramError),
    /// Another session is to be begun at once.
    Renew,
    /// Nothing is to be done, and no connection is kept.
    Idle,
    /// Nothing is to be done, and another host needs the connection more.
    GivenBack,
}

/// What one piece of work came to.
enum Done {
    Finished(Job, Result<Outcome, FleetError>),
    /// The session was lost under it: it goes on in the next one.
    Lost(Job, ProgramError),
    /// Nobody asked for it: the look now and then.
    Looked(Result<(), ProgramError>),
}

/// `connection`: the one that it is over. `reach`: how the host was reached.
pub(super) async fn serve(shared: &Arc<Shared>, dialled: Dialled, connection: &ConnectionUse, reach: u64) -> Over {
    let Dialled { session, server, welcome, mut pushes } = dialled;
    let began = Instant::now();
    shared.learn(reach, |known, now| {
        known.server = server;
        known.replace(welcome.seen, welcome.facts, now)
    });
    shared.session.send_replace(Some(Arc::downgrade(&session)));
    // It has just told its facts.
    let _ = shared.look_now.notified().now_or_never();
    let mut under_way = UnderWay::default();
    let mut work: JoinSet<Done> = JoinSet::new();
    let mut reached = shared.reach.subscribe();
    // Hosts that were dialled together are not looked at together.
    let mut next_look = began + shared.period().mul_f64(rand::random_range(0.5..1.0));
    let mut stays = shared.was_late.swap(false, Ordering::Relaxed).then(|| began + LATE);
    let mut look_again = false;
    let mut offer: Option<Offer> = None;
    let over = loop {
        if reached.borrow_and_update().number != reach {
            break Over::Renew;
        }
        let queued = shared.queued.notified();
        while let Some(job) = shared.queue.lock().take(|work| under_way.has_room(work)) {
            stays = None;
            under_way.add(&job.order.work);
            work.spawn(done(shared.clone(), session.clone(), shared.lost.subscribe(), job, reach));
        }
        let now = Instant::now();
        stays = stays.filter(|until| *until > now);
        let is_idle = work.is_empty() && stays.is_none() && !shared.queue.lock().has_some();
        if is_idle && !shared.keeps_connection() {
            break Over::Idle;
        }
        match is_idle && !shared.is_held() {
            true if offer.is_none() => offer = connection.offer(),
            true => {}
            false => offer = None,
        }
        let due = due(shared, &under_way, next_look);
        let wake = stays.map_or(due, |until| until.min(due));
        tokio::select! {
            () = queued => {}
            () = shared.look_now.notified() => match under_way.looks {
                // What is under way may have been answered before.
                true => look_again = true,
                false => next_look = Instant::now(),
            },
            () = asked_back(offer.as_ref()) => match shared.is_held() || shared.queue.lock().has_some() {
                true => offer = None,
                false => break Over::GivenBack,
            },
            () = tokio::time::sleep_until(wake) => {
                let now = Instant::now();
                if now < due {
                    continue;
                }
                let period = shared.period();
                next_look = now + period;
                let is_unfit = || shared.known.lock().host.as_deref().is_some_and(|facts| unfit(facts).is_some());
                if is_idle && began.elapsed() >= period * UNFIT_PERIODS && is_unfit() {
                    break Over::Renew;
                }
                if !under_way.looks {
                    under_way.looks = true;
                    let (shared, session) = (shared.clone(), session.clone());
                    let mut lost = shared.lost.subscribe();
                    work.spawn(async move {
                        tokio::select! {
                            looked = look(&shared, session.as_ref(), reach) => Done::Looked(looked),
                            _ = lost.changed() => Done::Looked(Ok(())),
                        }
                    });
                }
            }
            told = pushes.next() => match told {
                Some(told) => shared.learn(reach, |known, now| {
                    known.seen = told.seen;
                    let host = told.host.is_some_and(|facts| known.merge_host(*facts, now));
                    known.merge(told.folders, now) || host
                }),
                None => break Over::Lost(ProgramError::Ended(String::new())),
            },
            Some(ended) = work.join_next() => match ended {
                Ok(Done::Finished(job, result)) => {
                    under_way.remove(&job.order.work);
                    job.finish(result);
                    if !under_way.looks && std::mem::take(&mut look_again) {
                        next_look = Instant::now();
                    }
                    if session.is_closed() {
                        break Over::Lost(ProgramError::Ended(String::new()));
                    }
                }
                Ok(Done::Lost(job, error)) => {
                    shared.put_back(job, reach);
                    break Over::Lost(error);
                }
                Ok(Done::Looked(looked)) => {
                    under_way.looks = false;
                    if std::mem::take(&mut look_again) {
                        next_look = Instant::now();
                    }
                    if let Err(error) = looked {
                        break Over::Lost(error);
                    }
                }
                Err(_) => break Over::Lost(ProgramError::Ended("work on it failed here".to_owned())),
            },
            _ = reached.changed() => {}
        }
    };
    if let (Over::GivenBack, Some(offer)) = (&over, offer) {
        offer.accept();
    }
    // What waited for something else in this session has its time to wait for the next one.
    shared.queue.lock().wait_anew(clock::monotonic());
    // Whatever is under way goes on in the next session.
    shared.session.send_replace(None);
    drop(pushes);
    shared.end_work();
    while let Some(ended) = work.join_next().await {
        match ended {
            Ok(Done::Finished(job, result)) => job.finish(result),
            Ok(Done::Lost(job, _)) => shared.put_back(job, reach),
            Ok(Done::Looked(_)) | Err(_) => {}
        }
    }
    over
}

/// Back when somebody needs the connection more.
async fn asked_back(offer: Option<&Offer>) {
    match offer {
        Some(offer) => offer.asked().await,
        None => std::future::pending().await,
    }
}

/// When the host is looked at next: by schedule, and sooner where it says nothing during a task.
fn due(shared: &Shared, under_way: &UnderWay, next_look: Instant) -> Instant {
    let heard = shared.known.lock().heard;
    match heard {
        Some(heard) if !under_way.folders.is_empty() && !under_way.looks => {
            next_look.min(Instant::from_std(heard) + SILENCE)
        }
        _ => next_look,
    }
}

/// What may be beside what: one task and one upload a folder, some uploads and one look a host.
#[derive(Default)]
struct UnderWay {
    folders: HashSet<FolderName>,
    puts: HashSet<FolderName>,
    looks: bool,
}

impl UnderWay {
    fn has_room(&self, work: &Work) -> bool {
        match work {
            Work::Look => !self.looks,
            Work::Put { folder, .. } => self.puts.len() < PUTS_MAX && !self.puts.contains(folder),
            Work::Cancel { .. } => true,
            Work::Task { .. } | Work::Attach { .. } => {
                work.task_folder().is_none_or(|folder| !self.folders.contains(folder))
            }
        }
    }

    fn add(&mut self, work: &Work) {
        match work {
            Work::Look => self.looks = true,
            Work::Put { folder, .. } => {
                self.puts.insert(folder.clone());
            }
            _ => self.folders.extend(work.task_folder().cloned()),
        }
    }

    fn remove(&mut self, work: &Work) {
        match work {
            Work::Look => self.looks = false,
            Work::Put { folder, .. } => {
                self.puts.remove(folder);
            }
            _ => {
                if let Some(folder) = work.task_folder() {
                    self.folders.remove(folder);
                }
            }
        }
    }
}

async fn look(shared: &Shared, session: &dyn Session, reach: u64) -> Result<(), ProgramError> {
    let seen = shared.known.lock().seen;
    let found = session.look(seen).await?;
    shared.learn(reach, |known, now| match found {
        Some((seen, facts)) => known.replace(seen, facts, now),
        None => {
            known.hear(now);
            false
        }
    });
    Ok(())
}

/// Does one order, or as much of it as the session lasts.
async fn done(
    shared: Arc<Shared>,
    session: Arc<dyn Session>,
    mut lost: watch::Receiver<u64>,
    mut job: Job,
    reach: u64,
) -> Done {
    let (order, events, given_up) = job.parts();
    let acting = Acting { shared: &shared, session: session.as_ref(), reach, work: &mut order.work, events };
    let result = tokio::select! {
        result = acting.act() => result,
        _ = lost.changed() => Err(ProgramError::Ended(String::new())),
        // What was begun on the host goes on there; another one may listen to it.
        () = given_up.closed() => return Done::Finished(job, Err(FleetError::Forgotten)),
    };
    match result {
        Ok(outcome) => Done::Finished(job, Ok(outcome)),
        Err(error) if error.ends_session() => Done::Lost(job, error),
        Err(error) => Done::Finished(job, Err(FleetError::Host(error))),
    }
}

/// An order that is being done.
struct Acting<'a> {
    shared: &'a Shared,
    session: &'a dyn Session,
    reach: u64,
    /// What is left of it, for the next session.
    work: &'a mut Work,
    events: &'a mpsc::Sender<(u64, Vec<Event>)>,
}

impl Acting<'_> {
    async fn act(mut self) -> Result<Outcome, ProgramError> {
        match self.work.clone() {
            Work::Look => look(self.shared, self.session, self.reach).await.map(|()| Outcome::Done),
            Work::Put { folder, object } => {
                let (budget, least_rate) = (self.shared.settings.budgets.bytes(), self.shared.least_rate());
                let options = PutOptions { budget, least_rate };
                self.session.put(&folder, &object, &options).await.map(|()| Outcome::Done)
            }
            Work::Cancel { folder, task } => self.session.cancel(&folder, &task).await.map(|()| Outcome::Done),
            Work::Task { task, secrets } => {
                let events = self.session.begin(&task, &secrets).await?;
                // It is on record there: another session only has to listen.
                let (folder, id) = (task.folder.clone(), task.id.clone());
                *self.work = Work::Attach { folder: folder.clone(), task: id.clone(), offset: 0 };
                self.listen(folder, id, events).await
            }
            Work::Attach { folder, task, offset } => {
                let events = self.session.attach(&folder, &task, offset).await?;
                self.listen(folder, task, events).await
            }
        }
    }

    async fn listen(
        &mut self,
        folder: FolderName,
        task: TaskId,
        mut stream: Box<dyn TaskEvents>,
    ) -> Result<Outcome, ProgramError> {
        loop {
            match stream.next().await? {
                Some(TaskNews::Events { offset, events }) => {
                    let next = offset + events.len() as u64;
                    *self.work = Work::Attach { folder: folder.clone(), task: task.clone(), offset: next };
                    self.shared.learn(self.reach, |known, now| {
                        known.hear(now);
                        false
                    });
                    // A reader that does not keep up gets no further events, and still gets the end.
                    if !self.events.is_closed() {
                        let _ = self.events.send_timeout((offset, events), EVENTS_STALL).await;
                    }
                }
                Some(TaskNews::Ended { result, folder: facts }) => {
                    self.shared
                        .learn(self.reach, |known, now| known.set_folder(&folder, facts.as_deref().cloned(), now));
                    return Ok(Outcome::Ended { result, folder: facts });
                }
                None => return Err(ProgramError::Ended("a task's events ended without its end".to_owned())),
            }
        }
    }
}
