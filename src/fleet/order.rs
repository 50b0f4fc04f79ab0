//! What is to be done on one host, and what came of it.

use std::{sync::Arc, time::Duration};

use landfall_host_protocol::{Digest, Event, FolderFacts, FolderName, Secrets, Task, TaskId, TaskResult};
use tokio::sync::{mpsc, oneshot};

use crate::effects::{payload::Payload, program::ProgramError};

/// What goes first, the most urgent last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    Look,
    Stage,
    Update,
    Heal,
    Stop,
}

/// Bytes for a host.
#[derive(Clone, Debug)]
pub struct Object {
    pub sha256: Digest,
    pub size: u64,
    pub payload: Payload,
}

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Work {
    /// Whatever changed becomes known.
    Look,
    /// The object comes to `incoming/` of the folder.
    Put { folder: FolderName, object: Object },
    /// The task is begun, or attached to where it was begun already.
    Task { task: Box<Task>, secrets: Secrets },
    /// A task that is under way is listened to, from this event on.
    Attach { folder: FolderName, task: TaskId, offset: u64 },
    /// A task is asked to end early.
    Cancel { folder: FolderName, task: TaskId },
}

impl Work {
    /// The folder in which at most one of its kind may be under way.
    pub(super) fn task_folder(&self) -> Option<&FolderName> {
        match self {
            Self::Task { task, .. } => Some(&task.folder),
            Self::Attach { folder, .. } => Some(folder),
            Self::Look | Self::Put { .. } | Self::Cancel { .. } => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Order {
    pub priority: Priority,
    pub work: Work,
    /// How long it may wait for a session, each time that it needs one.
    pub patience: Duration,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was asked for is so.
    Done,
    /// The task ended, in whatever way. `folder`: right after it, `None` where it is gone.
    Ended { result: TaskResult, folder: Option<Box<FolderFacts>> },
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum FleetError {
    /// There was no session in time; nothing is known of the work if it had been begun.
    #[error("the host is not reached: {0}")]
    Unreached(Arc<ProgramError>),
    /// There was no session in time, and the host was not dialled or did not answer yet.
    #[error("the host was not reached yet")]
    NotReachedYet,
    #[error(transparent)]
    Host(ProgramError),
    #[error("the host left its group")]
    Forgotten,
}

/// The order's other end. Dropping it gives the order up; what was begun on the host goes on there, and nobody listens.
pub struct Ticket {
    pub(super) events: mpsc::Receiver<(u64, Vec<Event>)>,
    pub(super) done: oneshot::Receiver<Result<Outcome, FleetError>>,
}

impl Ticket {
    /// The next events of a task, and the number of the first of them; `None`: the last one has come.
    pub async fn events(&mut self) -> Option<(u64, Vec<Event>)> {
        self.events.recv().await
    }

    /// The end; events that were not taken are dropped.
    pub async fn done(mut self) -> Result<Outcome, FleetError> {
        self.events.close();
        (&mut self.done).await.unwrap_or(Err(FleetError::Forgotten))
    }
}
