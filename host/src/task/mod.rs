//! Tasks: the whole work on one folder as data, begun under the lock and run by a detached runner, which survives whoever began it.
//!
//! ```text
//! tasks/<id>/task     what was asked; no secret value
//!            lock     held as long as the runner lives, who is named in it
//!            events   a line for everything that happens, numbered from 0
//!            cancel   the task is to end before its next step, or within one that waits
//!            result   how it ended
//! ```
//!
//! At most one task is open in a folder. Where a runner died, its task stays open and does not run; the next task goes on from what is
//! there, for every step looks before it acts. Nothing here reads from or writes to a connection.

mod begin;
mod events;
mod runner;
mod store;
mod undo;

use std::io;

use landfall_host_protocol::{Event, Failure, OpenTask, Outcome, Reason, Refusal, StepName, TaskId, TaskResult};

#[cfg(debug_assertions)]
pub use begin::begin_command;
pub use begin::{Begun, begin};
pub use events::Events;
pub use runner::{run_command, undo_command};
pub(crate) use store::write_removed as keep_result;
pub(crate) use undo::{at_ready as undo_at_ready, expect as expect_undo, expect_down};
pub use undo::{is_drained, is_undo_due, is_undo_due_by, spawn_undo, undo_lost};

use crate::{
    files,
    folder::Folder,
    gate,
    process::Identity,
    records::{Journal, shell},
};

/// The open task, and whether its runner lives.
pub fn open(folder: &Folder) -> Option<OpenTask> {
    open_in(folder, &Journal::read(folder).ok()?)
}

fn open_in(folder: &Folder, journal: &Journal) -> Option<OpenTask> {
    let begun = journal.open()?;
    let running = runs(folder, &begun.task);
    let step = if is_of_shell_helper(folder, &begun.task) {
        begun.what.clone()
    } else {
        events::last(folder, &begun.task).map_or("begin", |event| event.step.as_str()).to_owned()
    };
    Some(OpenTask { id: begun.task.clone(), step, running })
}

/// A step of the shell helper's time.
fn is_of_shell_helper(folder: &Folder, task: &TaskId) -> bool {
    !folder.task(task).exists()
}

/// Whether somebody is at work for a task that is open, whoever began it.
pub fn runs(folder: &Folder, task: &TaskId) -> bool {
    if is_of_shell_helper(folder, task) { shell::is_acting(folder) } else { is_running(folder, task) }
}

/// The process that runs a task, or ran it last: it is watched, so that its end is heard. `None`: it did not say so, or not yet; its lock
/// tells then.
pub fn runner(folder: &Folder, task: &TaskId) -> Option<Identity> {
    store::runner(folder, task)
}

/// Whether the task's runner lives: it holds the task's lock from before `begin` returns until its end.
pub fn is_running(folder: &Folder, task: &TaskId) -> bool {
    let Ok(lock) = files::open_to_read(&store::lock(folder, task)) else { return false };
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
}

/// Events of a task from the line `offset` on, as many as fit one answer; more may follow. A task that is not known has none.
pub fn events(folder: &Folder, task: &TaskId, offset: u64) -> io::Result<Vec<Event>> {
    events::read(folder, task, offset)
}

/// How a task ended; `None`: it runs, or is not known. One whose runner died without a word is `Lost`.
pub fn result(folder: &Folder, task: &TaskId) -> Option<TaskResult> {
    if let Some(result) = written_result(folder, task) {
        return Some(result);
    }
    if !folder.task(task).exists() || is_running(folder, task) {
        return None;
    }
    // It may have ended between the two looks.
    if let Some(result) = written_result(folder, task) {
        return Some(result);
    }
    let journal = Journal::read(folder).ok()?;
    if let Some(end) = journal.end_of(task) {
        return Some(TaskResult { outcome: end.outcome.clone()?, journal: end.n });
    }
    if !journal.lines().iter().any(|line| &line.task == task) {
        return None;
    }
    let step = events::last(folder, task).map_or(StepName::Undo, |event| event.step);
    Some(TaskResult { outcome: lost(step), journal: journal.number() })
}

fn written_result(folder: &Folder, task: &TaskId) -> Option<TaskResult> {
    // A removal's result is written before the folder goes, and counts once it has. Of a folder that came again its numbers mean other tasks.
    let path = if folder.dot().exists() { store::result(folder, task) } else { store::removed(folder, task) };
    files::read_record(&path).ok().flatten()
}

fn lost(step: StepName) -> Outcome {
    Outcome::Failed(Box::new(Failure {
        step,
        reason: Reason::Lost,
        why: "the process that ran this task is gone without a word".to_owned(),
        lines: Vec::new(),
        ended: None,
        full: None,
        strangers: Vec::new(),
    }))
}

/// Asks a task to end before its next step, or within one that waits. A task that has ended stays as it is.
pub fn cancel(folder: &Folder, task: &TaskId) -> Result<(), Refusal> {
    if !folder.task(task).exists() {
        return Err(Refusal::NotFound { what: format!("task {}-{}", task.rollout, task.n) });
    }
    let path = store::cancel(folder, task);
    let cancelled = gate::pass("task.cancel", || files::create(&path, 0o600).map(drop));
    cancelled.map_err(|error| files::refusal(&error, &path, 0))
}
