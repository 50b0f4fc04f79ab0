//! One session from its welcome to its end: orders are done beside each other as far as they may, what the host tells becomes known, and a
//! look now and then proves that it still answers.

use std::{collections::HashSet, sync::Arc, time::Duration};

use landfall_host_protocol::{FolderName, TaskId};
use tokio::{sync::watch, task::JoinSet};

use super::{
    order::{FleetError, Outcome, Work},
    queue::Job,
    session::{Dialled, Session, TaskEvents},
    shared::Shared,
};
use crate::effects::program::{ProgramError, PutOptions, TaskNews};

/// How long whoever waits for a task's events may take none. The host has them on file.
const EVENTS_STALL: Duration = Duration::from_secs(5);

/// Why a session is over.
pub(super) enum Over {
    Lost(ProgramError),
    /// The host is reached otherwise now: what was known is out of date.
    Changed,
    /// Nothing is to be done, and no connection is kept.
    Idle,
}

/// What one piece of work came to.
enum Done {
    Finished(Job, Result<Outcome, FleetError>),
    /// The session was lost under it: it goes on in the next one.
    Lost(Job, ProgramError),
    /// Nobody asked for it: the look now and then.
    Looked(Result<(), ProgramError>),
}

pub(super) async fn serve(shared: &Arc<Shared>, dialled: Dialled) -> Over {
    let Dialled { session, welcome, mut pushes } = dialled;
    shared.learn(|known, now| known.replace(welcome.seen, welcome.facts, now));
    let mut under_way = UnderWay::default();
    let mut work: JoinSet<Done> = JoinSet::new();
    let mut access = shared.access.subscribe();
    access.mark_unchanged();
    let period = shared.period();
    // Hosts that were dialled together are not looked at together.
    let mut next_look = tokio::time::Instant::now() + period.mul_f64(rand::random_range(0.5..1.0));
    let over = loop {
        let queued = shared.queued.notified();
        while let Some(job) = shared.queue.lock().take(|work| under_way.has_room(work)) {
            under_way.add(&job.order.work);
            work.spawn(done(shared.clone(), session.clone(), shared.lost.subscribe(), job));
        }
        if work.is_empty() && !shared.keeps_connection() && shared.queue.lock().is_empty() {
            break Over::Idle;
        }
        tokio::select! {
            () = queued => {}
            () = tokio::time::sleep_until(next_look) => {
                next_look += period;
                if !under_way.looks {
                    under_way.looks = true;
                    let (shared, session) = (shared.clone(), session.clone());
                    let mut lost = shared.lost.subscribe();
                    work.spawn(async move {
                        tokio::select! {
                            looked = look(&shared, session.as_ref()) => Done::Looked(looked),
                            _ = lost.changed() => Done::Looked(Ok(())),
                        }
                    });
                }
            }
            told = pushes.next() => match told {
                Some(told) => shared.learn(|known, now| {
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
                    if session.is_closed() {
                        break Over::Lost(ProgramError::Ended(String::new()));
                    }
                }
                Ok(Done::Lost(job, error)) => {
                    shared.put_back(job);
                    break Over::Lost(error);
                }
                Ok(Done::Looked(looked)) => {
                    under_way.looks = false;
                    if let Err(error) = looked {
                        break Over::Lost(error);
                    }
                }
                Err(_) => break Over::Lost(ProgramError::Ended("work on it failed here".to_owned())),
            },
            _ = access.changed() => break Over::Changed,
        }
    };
    // Whatever is under way goes on in the next session.
    drop(pushes);
    shared.end_work();
    while let Some(ended) = work.join_next().await {
        match ended {
            Ok(Done::Finished(job, result)) => job.finish(result),
            Ok(Done::Lost(job, _)) => shared.put_back(job),
            Ok(Done::Looked(_)) | Err(_) => {}
        }
    }
    over
}

/// What may be beside what: one task a folder, one upload and one look a host.
#[derive(Default)]
struct UnderWay {
    folders: HashSet<FolderName>,
    puts: bool,
    looks: bool,
}

impl UnderWay {
    fn has_room(&self, work: &Work) -> bool {
        match work {
            Work::Look => !self.looks,
            Work::Put { .. } => !self.puts,
            Work::Cancel { .. } => true,
            Work::Task { .. } | Work::Attach { .. } => {
                work.task_folder().is_none_or(|folder| !self.folders.contains(folder))
            }
        }
    }

    fn add(&mut self, work: &Work) {
        match work {
            Work::Look => self.looks = true,
            Work::Put { .. } => self.puts = true,
            _ => self.folders.extend(work.task_folder().cloned()),
        }
    }

    fn remove(&mut self, work: &Work) {
        match work {
            Work::Look => self.looks = false,
            Work::Put { .. } => self.puts = false,
            _ => {
                if let Some(folder) = work.task_folder() {
                    self.folders.remove(folder);
                }
            }
        }
    }
}

async fn look(shared: &Shared, session: &dyn Session) -> Result<(), ProgramError> {
    let seen = shared.known.lock().seen;
    let found = session.look(seen).await?;
    shared.learn(|known, now| match found {
        Some((seen, facts)) => known.replace(seen, facts, now),
        None => {
            known.heard = Some(now);
            false
        }
    });
    Ok(())
}

/// Does one order, or as much of it as the session lasts.
async fn done(shared: Arc<Shared>, session: Arc<dyn Session>, mut lost: watch::Receiver<u64>, mut job: Job) -> Done {
    let result = tokio::select! {
        result = act(&shared, session.as_ref(), &mut job) => result,
        _ = lost.changed() => Err(ProgramError::Ended(String::new())),
    };
    match result {
        Ok(outcome) => Done::Finished(job, Ok(outcome)),
        Err(error) if error.ends_session() => Done::Lost(job, error),
        Err(error) => Done::Finished(job, Err(FleetError::Host(error))),
    }
}

async fn act(shared: &Shared, session: &dyn Session, job: &mut Job) -> Result<Outcome, ProgramError> {
    match job.order.work.clone() {
        Work::Look => look(shared, session).await.map(|()| Outcome::Done),
        Work::Put { folder, object } => {
            let options = PutOptions { budget: shared.budgets.bytes(), least_rate: shared.least_rate };
            session.put(&folder, &object, &options).await.map(|()| Outcome::Done)
        }
        Work::Cancel { folder, task } => session.cancel(&folder, &task).await.map(|()| Outcome::Done),
        Work::Task { task, secrets } => {
            let events = session.begin(&task, &secrets).await?;
            // It is on record there: another session only has to listen.
            let (folder, id) = (task.folder.clone(), task.id.clone());
            job.order.work = Work::Attach { folder: folder.clone(), task: id.clone(), offset: 0 };
            listen(shared, job, folder, id, events).await
        }
        Work::Attach { folder, task, offset } => {
            let events = session.attach(&folder, &task, offset).await?;
            listen(shared, job, folder, task, events).await
        }
    }
}

async fn listen(
    shared: &Shared,
    job: &mut Job,
    folder: FolderName,
    task: TaskId,
    mut stream: Box<dyn TaskEvents>,
) -> Result<Outcome, ProgramError> {
    loop {
        match stream.next().await? {
            Some(TaskNews::Events { offset, events }) => {
                let next = offset + events.len() as u64;
                job.order.work = Work::Attach { folder: folder.clone(), task: task.clone(), offset: next };
                // A reader that does not keep up gets no further events, and still gets the end.
                if !job.events.is_closed() {
                    let _ = job.events.send_timeout((offset, events), EVENTS_STALL).await;
                }
            }
            Some(TaskNews::Ended { result, folder: facts }) => {
                shared.learn(|known, now| known.set_folder(&folder, facts.as_deref().cloned(), now));
                return Ok(Outcome::Ended { result, folder: facts });
            }
            None => return Err(ProgramError::Ended("a task's events ended without its end".to_owned())),
        }
    }
}
