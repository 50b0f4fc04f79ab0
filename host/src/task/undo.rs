//! What must be undone where a task ends before the new application is ready: a drain. It is on record (`undo`) before the drain acts,
//! and done by the runner at an early end; where the runner died by whoever finds that: the keeper, or the next task's runner.
//!
//! Traffic goes back to an application that is there and to no dead port: the one that was drained, as long as nobody told it to end, or any
//! that is ready. Where there is none the host stays drained, which its facts say, until one is.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use landfall_host_protocol::{
    Drain, EventKind, FolderFacts, Outcome, ProcessFacts, ProcessState, RunAs, Secrets, Step, StepName, Task, TaskId,
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
    runtime::{self, Patience},
    steps::{self, Context},
};

/// How long the lock of a task without a runner may be held by those who look.
const LOOK_TIME: Duration = Duration::from_secs(1);
/// Seconds that ending a drain's command may take.
const LEFT_TIME: u64 = 20;
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
    /// Pid and start time of the application that was drained; `None`: none was ever started.
    #[serde(default)]
    pub drained: Option<(i32, u64)>,
    /// That application did not run, or was told to end: only one that is ready is brought back into service.
    #[serde(default)]
    pub down: bool,
    /// Its task ended early, and found no application to bring back.
    #[serde(default)]
    pub left: bool,
}

fn path(folder: &Folder) -> PathBuf {
    folder.dot().join("undo")
}

fn read(folder: &Folder) -> Option<Pending> {
    files::read_record(&path(folder)).ok()?
}

/// Puts a drain on record before it acts.
pub(crate) fn expect(folder: &Folder, task: &TaskId, drain: &Drain, run_as: Option<&RunAs>) -> io::Result<()> {
    // An undo that is under way ends before: it would undo this drain.
    let _lock = lock(folder, true)?;
    let before = read(folder);
    let mut pending = match before {
        Some(pending) if &pending.task == task => pending,
        before => {
            let application = application(folder);
            let down = application.as_ref().map_or(before.is_some_and(|pending| pending.down), |now| !runs(now));
            let drained = application.map(|process| (process.pid, process.start));
            Pending { task: task.clone(), drains: Vec::new(), run_as: run_as.cloned(), drained, down, left: false }
        }
    };
    if pending.drains.contains(drain) {
        return Ok(());
    }
    pending.drains.push(drain.clone());
    write(folder, &pending)
}

/// The application that this task drained is about to be told to end.
pub(crate) fn expect_down(folder: &Folder, task: &TaskId) -> io::Result<()> {
    match read(folder).filter(|pending| &pending.task == task && !pending.down) {
        Some(pending) => write(folder, &Pending { down: true, ..pending }),
        None => Ok(()),
    }
}

fn write(folder: &Folder, pending: &Pending) -> io::Result<()> {
    gate::pass("undo.write", || files::write_record(&path(folder), pending))
}

/// Something is drained here and not undone.
pub fn is_drained(folder: &Folder) -> bool {
    path(folder).exists()
}

/// Whose tasks' folders are needed for an undo.
pub(super) fn pending_task(folder: &Folder) -> Option<TaskId> {
    Some(read(folder)?.task)
}

/// One acts on the record at a time. `None`: another one does, and is not waited for.
fn lock(folder: &Folder, waits: bool) -> io::Result<Option<File>> {
    let file = files::open_append(&folder.dot().join("undoing"), 0o600)?;
    // Commands of an undo have limits, and so has this.
    let seconds = read(folder).map_or(0, |pending| pending.drains.iter().map(timeout).sum());
    let end = clock::monotonic() + LOOK_TIME + Duration::from_secs(seconds);
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if !waits {
            return Ok(None);
        }
        if clock::monotonic() > end {
            return Err(io::Error::other("an undo of an earlier drain does not end"));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(Some(file))
}

fn timeout(drain: &Drain) -> u64 {
    let (Drain::Exec { timeout_seconds, .. } | Drain::Http { timeout_seconds, .. }) = drain;
    // A command that is ended for its time needs a moment more.
    u64::from(*timeout_seconds) + LEFT_TIME
}

fn application(folder: &Folder) -> Option<ProcessFacts> {
    observed(folder).process
}

fn observed(folder: &Folder) -> FolderFacts {
    let mut facts = FolderFacts::default();
    runtime::recorded(folder).observe(folder, &mut facts);
    facts
}

fn runs(process: &ProcessFacts) -> bool {
    process.state == ProcessState::Running
}

/// Readiness of a process is as fresh as its keeper; what has no pid is looked at by its own command.
fn is_ready(facts: &FolderFacts) -> bool {
    let is_fresh = |process: &ProcessFacts| process.pid == 0 || facts.keeper.is_some();
    facts.process.as_ref().is_some_and(|process| runs(process) && process.ready && is_fresh(process))
}

/// Another application than the drained one is ready, and its task did not end early before: the new one comes into service by itself.
fn is_over(folder: &Folder, pending: &Pending) -> bool {
    let now = observed(folder);
    let is_other = |process: &ProcessFacts| Some((process.pid, process.start)) != pending.drained;
    !pending.left && is_ready(&now) && now.process.as_ref().is_some_and(is_other)
}

/// Whether traffic may go back. The drained application need not be ready: that may be the drain's work.
fn can_go_back(now: &FolderFacts, pending: &Pending) -> bool {
    let stays = match (&now.process, pending.drained) {
        (Some(process), Some(drained)) => runs(process) && (process.pid, process.start) == drained,
        // Nothing was ever started: it is as it was before.
        (None, None) => true,
        _ => false,
    };
    is_ready(now) || !pending.down && stays
}

/// An application is ready. What this very task drained was another one, and the new one comes into service by itself; what an earlier task
/// left drained at its early end is undone.
pub(crate) fn at_ready(folder: &Folder, task: &Task, events: &Events) -> io::Result<()> {
    let Some(pending) = read(folder) else { return Ok(()) };
    if pending.task == task.id {
        return forget(folder);
    }
    undo(folder, task, &pending, events);
    Ok(())
}

/// All was undone, or nothing needs to be.
fn forget(folder: &Folder) -> io::Result<()> {
    if !path(folder).exists() {
        return Ok(());
    }
    gate::pass("undo.remove", || {
        files::remove_file(&path(folder))?;
        files::sync_dir(&folder.dot())
    })
}

/// Whether a task left something to undo that can be undone now, and none runs that sees to it. It costs a look at one file where nothing is
/// to be undone; else the application is asked for, which may take its time.
pub fn is_undo_due(folder: &Folder) -> bool {
    is_due(folder, || observed(folder))
}

/// The same for who has just looked: nothing is asked again.
pub fn is_undo_due_by(folder: &Folder, facts: &FolderFacts) -> bool {
    is_due(folder, || facts.clone())
}

fn is_due(folder: &Folder, now: impl FnOnce() -> FolderFacts) -> bool {
    read(folder).is_some_and(|pending| !is_acted_on(folder) && (!pending.down || can_go_back(&now(), &pending)))
}

fn is_acted_on(folder: &Folder) -> bool {
    super::open(folder).is_some_and(|open| open.running)
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

/// Undoes what a task left whose runner died, and writes the task's end; and what ended tasks left drained until an application is ready.
/// A task that runs is left alone, and so is what a later one has begun meanwhile: its runner sees to what is left.
pub fn undo_lost(folder: &Folder) -> io::Result<()> {
    match read(folder) {
        None => return Ok(()),
        Some(pending) if pending.down => return undo_left(folder, &pending),
        Some(_) => {}
    }
    let Some((pending, begun, _runs)) = take_lost(folder)? else { return Ok(()) };
    let id = &pending.task;
    let Some(task): Option<Task> = files::read_record(&store::task(folder, id))? else { return Ok(()) };
    let events = Events::create(folder, id)?;
    // The drain itself may still be at work.
    let progress = |text| events.say(StepName::Undo, EventKind::Progress { text });
    steps::wait_for_left_command(folder, progress, || false).map_err(|failure| io::Error::other(failure.why))?;
    undo(folder, &task, &pending, &events);
    if &begun == id && Journal::read(folder)?.end_of(id).is_none() {
        runner::write_end(folder, &task, &lost(StepName::Undo))?;
    }
    Ok(())
}

/// What was left drained is undone once it can be. A task that runs sees to that itself.
fn undo_left(folder: &Folder, pending: &Pending) -> io::Result<()> {
    if is_acted_on(folder) || !can_go_back(&observed(folder), pending) {
        return Ok(());
    }
    let Some(lock) = lock(folder, false)? else { return Ok(()) };
    let task: Option<Task> = files::read_record(&store::task(folder, &pending.task))?;
    if let Some(task) = task.filter(|_| !is_acted_on(folder)) {
        let events = Events::create(folder, &pending.task)?;
        undo_locked(folder, &task, pending, &events, &lock);
    }
    Ok(())
}

/// What is to be undone, the task that was begun last, which may be a later one, and its lock, with which no other task begins. All are
/// taken under the folder's lock.
fn take_lost(folder: &Folder) -> io::Result<Option<(Pending, TaskId, File)>> {
    let _lock = Lock::take(folder, "undoes").map_err(|refusal| io::Error::other(format!("{refusal:?}")))?;
    let Some(pending) = read(folder) else { return Ok(None) };
    let journal = Journal::read(folder)?;
    let begun = journal.lines().iter().rev().find(|line| line.kind == LineKind::Begin);
    let Some(begun) = begun.map(|line| line.task.clone()) else { return Ok(None) };
    let lock = files::open_plain(&store::lock(folder, &begun), OpenOptions::new().read(true).append(true))?;
    let since = clock::monotonic();
    while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        // Who looks whether it runs holds it for a moment.
        if since.elapsed() > LOOK_TIME {
            return Ok(None);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    store::name_runner(&lock);
    Ok(Some((pending, begun, lock)))
}

/// Before a task's first step: what an earlier task left is undone, unless this one drains again. An undo that is under way is waited for.
pub(super) fn before(folder: &Folder, task: &Task, events: &Events) {
    if read(folder).is_none_or(|pending| pending.task == task.id) {
        return;
    }
    let Ok(Some(lock)) = lock(folder, true) else { return };
    let Some(pending) = read(folder).filter(|pending| pending.task != task.id) else { return };
    let again = |drain: &Drain| task.steps.iter().any(|step| matches!(step, Step::Drain(other) if other == drain));
    if !pending.drains.iter().all(again) {
        undo_locked(folder, task, &pending, events, &lock);
    }
}

/// After a task's last step.
pub(super) fn after(folder: &Folder, task: &Task, outcome: &Outcome, events: &Events) {
    let Some(pending) = read(folder) else { return };
    if outcome == &Outcome::Succeeded && pending.task == task.id {
        let _ = forget(folder);
    } else {
        undo(folder, task, &pending, events);
    }
}

fn undo(folder: &Folder, task: &Task, pending: &Pending, events: &Events) {
    if let Ok(Some(lock)) = lock(folder, true) {
        undo_locked(folder, task, pending, events, &lock);
    }
}

/// Undoes the latest first. What fails is journaled and not tried again: it was tried, and a person has to look. `pending`: what was seen
/// before the lock was taken.
fn undo_locked(folder: &Folder, task: &Task, pending: &Pending, events: &Events, _: &File) {
    if read(folder).as_ref() != Some(pending) {
        return;
    }
    if is_over(folder, pending) {
        let _ = forget(folder);
        return;
    }
    if !can_go_back(&observed(folder), pending) {
        stay_drained(folder, task, pending, events);
        return;
    }
    let secrets = Secrets::default();
    let patience = Patience::default();
    let (step, index) = (StepName::Undo, task.steps.len());
    let context = Context { folder, task, secrets: &secrets, events, step, index, patience: &patience };
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
    let _ = forget(folder);
}

/// Once it is on record that only a ready application is brought back, whoever finds one does that.
fn stay_drained(folder: &Folder, task: &Task, pending: &Pending, events: &Events) {
    let text = "the host stays drained until an application on it is ready".to_owned();
    events.say(StepName::Undo, EventKind::Progress { text });
    if !pending.left {
        let _ = write(folder, &Pending { down: true, left: true, ..pending.clone() });
        let _ = note(folder, task, pending, "stays drained");
    }
}

fn note(folder: &Folder, task: &Task, pending: &Pending, what: &str) -> io::Result<()> {
    let lock = Lock::take(folder, "undoes").map_err(|refusal| io::Error::other(format!("{refusal:?}")))?;
    let mut journal = Journal::read(folder)?;
    let act = Act { by: &task.author, task: &pending.task, what, prepares: true };
    journal.append(folder, &lock, LineKind::Undo, act, None).map(drop)
}
