//! A task on the host as it goes on: its events in order, none twice, then its result. It must not judge them.

use std::{sync::Arc, time::Duration};

use landfall_host_protocol::{Answer, Event, FolderFacts, FolderName, Request, TaskId, TaskResult};

use super::{
    ProgramError,
    inbox::Incoming,
    session::{ANSWER_TIMEOUT, Asked, Live},
};

/// The longest time until a task has begun: another act may have the folder's lock.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Events of one task that are read. The host bounds its output long before.
const EVENTS_MAX: u64 = 200_000;

/// What a task tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskNews {
    /// `offset`: number of the first of them.
    Events { offset: u64, events: Vec<Event> },
    /// It ended; `folder`: right after it, `None` where it is gone.
    Ended { result: TaskResult, folder: Option<Box<FolderFacts>> },
}

/// A task that is listened to. Dropping it ends the listening, not the task.
pub struct TaskStream {
    live: Arc<Live>,
    folder: FolderName,
    task: TaskId,
    asked: Asked,
    /// The next event's number.
    offset: u64,
    /// Heard already and not yet told.
    first: Option<Answer>,
    ended: bool,
}

impl TaskStream {
    pub(super) async fn open(
        live: &Arc<Live>,
        folder: FolderName,
        task: TaskId,
        offset: u64,
        request: &Request,
    ) -> Result<Self, ProgramError> {
        let mut asked = live.ask(request)?;
        let limit = if matches!(request, Request::Begin { .. }) { BEGIN_TIMEOUT } else { ANSWER_TIMEOUT };
        let first = Some(asked.answer_within("beginning a task", limit).await?);
        Ok(Self { live: live.clone(), folder, task, asked, offset, first, ended: false })
    }

    /// Number of the next event: where to attach after a lost connection.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What happened next; `None` once the end was told. It waits as long as the task takes: whether the host still answers is `look`'s.
    pub async fn next(&mut self) -> Result<Option<TaskNews>, ProgramError> {
        while !self.ended {
            let answer = match self.first.take() {
                Some(answer) => answer,
                None => match self.asked.next().await {
                    // The host has them on file.
                    Err(ProgramError::Lagged) => {
                        let (folder, task) = (self.folder.clone(), self.task.clone());
                        self.asked = self.live.ask(&Request::Attach { folder, task, offset: self.offset })?;
                        continue;
                    }
                    Err(error) => return Err(error),
                    Ok(Incoming::Bytes { .. }) => return Err(self.asked.violation("bytes where events are due")),
                    Ok(Incoming::Answer(answer)) => answer,
                },
            };
            match answer {
                Answer::Events { offset, events } => {
                    if let Some(news) = self.events(offset, events)? {
                        return Ok(Some(news));
                    }
                }
                Answer::Ended { result, folder, .. } => {
                    self.ended = true;
                    self.asked.finish();
                    return Ok(Some(TaskNews::Ended { result, folder }));
                }
                Answer::Refused(refusal) => {
                    self.ended = true;
                    self.asked.finish();
                    return Err(ProgramError::Refused(refusal));
                }
                _ => return Err(self.asked.violation("an answer that no task gives")),
            }
        }
        Ok(None)
    }

    /// Those that are new; a host that leaves some out is not believed.
    fn events(&mut self, offset: u64, mut events: Vec<Event>) -> Result<Option<TaskNews>, ProgramError> {
        if offset > self.offset {
            return Err(self.asked.violation("events are left out"));
        }
        let known = usize::try_from(self.offset - offset).unwrap_or(usize::MAX).min(events.len());
        events.drain(..known);
        if events.is_empty() {
            return Ok(None);
        }
        let offset = self.offset;
        self.offset += events.len() as u64;
        if self.offset > EVENTS_MAX {
            return Err(self.asked.violation("events without end"));
        }
        Ok(Some(TaskNews::Events { offset, events }))
    }
}
