//! What must be undone where a task ends before the new application is ready: a drain. It is on record (`undo`) before the drain acts,
//! and done by the runner at an early end; where the runner died by whoever finds that: the keeper, or the next task's runner.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use landfall_host_protocol::{
    Drain, EventKind, FolderFacts, Outcome, ProcessFacts, RunAs, Secrets, Step, StepName, Task, TaskId,
};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{Events, lost, runner, store};
use crate::{
    clock, files,
    folder::Folder,
    gate, program,
    records::{
        Journal, Lock,
        journal::{Act, LineKind},
    },
    runtime,
    steps::{self, Context},
};

/// How long the lock of a task without a runner may be held by those who look.
const LOOK_TIME: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The drains of a task that are to be undone, the latest last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    pub task: TaskId,
    pub drains: Vec<Drain>,
    /// User that their commands run as.
    #[serde(default)]
    pub run_as: Option<RunAs>,
    /// Pid and start time of the application that was drained; `None`: none ran.
    #[serde(default)]
    pub drained: Option<(i32, u64)>,
}

fn path(folder: &Folder) -> PathBuf {
    folder.dot().join("undo")
}

fn read(folder: &Folder) -> Option<Pending> {
    files::read_record(&path(folder)).ok()?
}

/// Puts a drain on record before it acts.
pub(crate) fn expect(folder: &Folder, task: &TaskId, drain: &Drain, run_as: Option<&RunAs>) -> io::Result<()> {
    let mut drains = read(folder).filter(|pending| &pending.task == task).map_or_else(Vec::new, |found| found.drains);
    if drains.contains(drain) {
        return Ok(());
    }
    drains.push(drain.clone());
    let drained = application(folder).map(|process| (process.pid, process.start));
    let pending = Pending { task: task.clone(), drains, run_as: run_as.cloned(), drained };
    gate::pass("undo.write", || files::write_record(&path(folder), &pending))
}

fn application(folder: &Folder) -> Option<ProcessFacts> {
    let mut facts = FolderFacts::default();
    runtime::recorded(folder).observe(folder, &mut facts);
    facts.process
}

/// Another application than the drained one is ready: there is nothing to undo any more.
fn is_over(folder: &Folder, pending: &Pending) -> bool {
    application(folder).is_some_and(|now| now.ready && Some((now.pid, now.start)) != pending.drained)
}

/// The new application is ready, or all was undone.
pub(crate) fn forget(folder: &Folder) -> io::Result<()> {
    if !path(folder).exists() {
        return Ok(());
    }
    gate::pass("undo.remove", || {
        files::remove_file(&path(folder))?;
        files::sync_dir(&folder.dot())
    })
}

/// Whether a task left something to undo and does not run any more. It costs a look at one file where nothing is to be undone.
pub fn is_undo_due(folder: &Folder) -> bool {
    read(folder).is_some_and(|pending| !super::is_running(folder, &pending.task))
}

/// Does [`undo_lost`] in a process of its own, where it is due. `None`: it is not. The child is to be reaped.
pub fn spawn_undo(folder: &Folder) -> Option<Child> {
    if !is_undo_due(folder) {
        return None;
    }
    let mut command = Command::new(program::path());
    command
        .arg0("landfall-host")
        .arg("undo-task")
        .arg(folder.root())
        .arg(folder.name().as_str())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().ok()
}

/// Undoes what a task left whose runner died, and writes the task's end. A task that runs is left alone, and so is what a later one has
/// begun meanwhile: its runner sees to what is left.
pub fn undo_lost(folder: &Folder) -> io::Result<()> {
    if read(folder).is_none() {
        return Ok(());
    }
    let Some((pending, _runs)) = take_lost(folder)? else { return Ok(()) };
    let id = &pending.task;
    let Some(task): Option<Task> = files::read_record(&store::task(folder, id))? else { return Ok(()) };
    let events = Events::create(folder, id)?;
    // The drain itself may still be at work.
    let progress = |text| events.say(StepName::Undo, EventKind::Progress { text });
    steps::wait_for_left_command(folder, progress, || false).map_err(|failure| io::Error::other(failure.why))?;
    undo(folder, &task, &pending, &events);
    if Journal::read(folder)?.end_of(id).is_none() {
        runner::write_end(folder, &task, &lost(StepName::Undo))?;
    }
    Ok(())
}

/// What is to be undone, and the lock of its task, with which no other task begins. Both are taken under the folder's lock.
fn take_lost(folder: &Folder) -> io::Result<Option<(Pending, File)>> {
    let _lock = Lock::take(folder, "undoes").map_err(|refusal| io::Error::other(format!("{refusal:?}")))?;
    let Some(pending) = read(folder) else { return Ok(None) };
    let journal = Journal::read(folder)?;
    let begun = journal.lines().iter().rev().find(|line| line.kind == LineKind::Begin);
    if begun.is_none_or(|line| line.task != pending.task) {
        return Ok(None);
    }
    let lock = files::open_plain(&store::lock(folder, &pending.task), OpenOptions::new().read(true).append(true))?;
    let since = clock::monotonic();
    while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        // Who looks whether it runs holds it for a moment.
        if since.elapsed() > LOOK_TIME {
            return Ok(None);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    store::name_runner(&lock);
    Ok(Some((pending, lock)))
}

/// Before a task's first step: what an earlier task left is undone, unless this one drains again.
pub(super) fn before(folder: &Folder, task: &Task, events: &Events) {
    let Some(pending) = read(folder).filter(|pending| pending.task != task.id) else { return };
    let again = |drain: &Drain| task.steps.iter().any(|step| matches!(step, Step::Drain(other) if other == drain));
    if !pending.drains.iter().all(again) {
        undo(folder, task, &pending, events);
    }
}

/// After a task's last step.
pub(super) fn after(folder: &Folder, task: &Task, outcome: &Outcome, events: &Events) {
    let Some(pending) = read(folder) else { return };
    if outcome == &Outcome::Succeeded {
        let _ = forget(folder);
    } else {
        undo(folder, task, &pending, events);
    }
}

/// Undoes the latest first. What fails is journaled and not tried again: it was tried, and a person has to look.
fn undo(folder: &Folder, task: &Task, pending: &Pending, events: &Events) {
    if is_over(folder, pending) {
        let _ = forget(folder);
        return;
    }
    let secrets = Secrets::default();
    let context = Context { folder, task, secrets: &secrets, events, step: StepName::Undo, index: task.steps.len() };
    events.say(StepName::Undo, EventKind::Begun);
    let mut said = Vec::new();
    for drain in pending.drains.iter().rev() {
        match steps::undrain(drain, pending.run_as.as_ref(), &context) {
            Ok(()) => said.push("undrain".to_owned()),
            Err(failure) => {
                events.say(StepName::Undo, EventKind::Failed { reason: failure.reason, why: failure.why.clone() });
                said.push(format!("undrain failed: {}", failure.why));
            }
        }
    }
    events.say(StepName::Undo, EventKind::Ended);
    let _ = note(folder, task, pending, &said.join(", "));
    if read(folder).as_ref() == Some(pending) {
        let _ = forget(folder);
    }
}

fn note(folder: &Folder, task: &Task, pending: &Pending, what: &str) -> io::Result<()> {
    let lock = Lock::take(folder, "undoes").map_err(|refusal| io::Error::other(format!("{refusal:?}")))?;
    let mut journal = Journal::read(folder)?;
    let act = Act { by: &task.author, task: &pending.task, what, prepares: true };
    journal.append(folder, &lock, LineKind::Undo, act, None).map(drop)
}
