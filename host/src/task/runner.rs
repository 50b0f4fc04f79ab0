//! The runner: a process in a session of its own that does a task's steps one after another and writes how it ended. It outlives the
//! connection, the session and the operator, and holds the secret values in its memory.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _},
    path::Path,
    time::Duration,
};

use landfall_host_protocol::{EventKind, FolderName, Outcome, Reason, Secrets, Step, StepName, Task, TaskResult};
use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
    process::WaitOptions,
};

use super::{Events, store, undo};
use crate::{
    core_dumps,
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    gate, incoming,
    keeper::State,
    mask,
    records::{
        Journal, Lock,
        journal::{Act, LineKind},
        shell,
    },
    runtime::{Patience, Waited},
    steps::{self, Context, Done},
};

/// Secret values are at most so large together, in bytes.
const MAX_SECRETS: u64 = 8 << 20;
/// How often and how long the end is tried to be written where the disk refuses.
const END_TRIES: u32 = 20;
const END_INTERVAL: Duration = Duration::from_millis(250);

/// `landfall-host run-task ROOT FOLDER TASK`: TASK names the folder of a task that `begin` wrote; the secret values come on stdin.
pub fn run_command(root: &OsStr, name: &OsStr, task: &OsStr) -> u8 {
    core_dumps::refuse();
    exit_status(run_task(Path::new(root), name, task))
}

/// `landfall-host undo-task ROOT FOLDER`: does what a task needs whose runner died.
pub fn undo_command(root: &OsStr, name: &OsStr) -> u8 {
    // Whatever its commands leave running stays below it: a keeper that started it would take that for its application's.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let status = exit_status(undo_task(Path::new(root), name));
    while !matches!(rustix::process::wait(WaitOptions::empty()), Err(Errno::CHILD)) {}
    status
}

fn exit_status(done: io::Result<()>) -> u8 {
    match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("landfall-host: {error}");
            1
        }
    }
}

fn run_task(root: &Path, name: &OsStr, task: &OsStr) -> io::Result<()> {
    let _lock = detach()?;
    let (folder, task) = find(root, name, task)?;
    let events = Events::create(&folder, &task.id)?;
    let outcome = match read_secrets() {
        Ok(secrets) => run(&folder, &task, &secrets, &events),
        Err(error) => {
            let why = format!("the secret values did not arrive: {error}");
            StepFailure::new(Reason::Lost, why).into_outcome(first(&task))
        }
    };
    end(&folder, &task, outcome, &events)
}

fn undo_task(root: &Path, name: &OsStr) -> io::Result<()> {
    let _ = rustix::process::setsid();
    undo::undo_lost(&folder(root, name)?)
}

fn folder(root: &Path, name: &OsStr) -> io::Result<Folder> {
    let name = name.to_str().and_then(FolderName::parse).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(Folder::new(root, name))
}

/// Leaves for a session of its own; answers the task's lock, which `begin` passed as stdout, so that no child gets it.
fn detach() -> io::Result<File> {
    let _ = rustix::process::setsid();
    let lock = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    let null = rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdout(&null)?;
    let lock = File::from(lock);
    store::name_runner(&lock);
    Ok(lock)
}

fn find(root: &Path, name: &OsStr, task: &OsStr) -> io::Result<(Folder, Task)> {
    let folder = folder(root, name)?;
    let path = folder.tasks().join(task);
    let found: Task = files::read_record(&path.join("task"))?.ok_or(io::ErrorKind::NotFound)?;
    if folder.task(&found.id) != path {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the task lies in another task's folder"));
    }
    Ok((folder, found))
}

fn read_secrets() -> io::Result<Secrets> {
    let mut text = Vec::new();
    io::stdin().lock().take(MAX_SECRETS).read_to_end(&mut text)?;
    let null = File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(serde_json::from_slice(&text)?)
}

fn first(task: &Task) -> StepName {
    task.steps.first().map_or(StepName::Undo, Step::name)
}

fn run(folder: &Folder, task: &Task, secrets: &Secrets, events: &Events) -> Outcome {
    steps::collect_garbage(folder);
    match wait_for_left_command(folder, task, secrets, events) {
        Ok(Waited::Reached) => {}
        Ok(Waited::Cancelled) => return Outcome::Cancelled,
        Err(failure) => return failure.into_outcome(first(task)),
    }
    undo::before(folder, task, events);
    if let Err(error) = take_over(folder) {
        return files::failure(Reason::Internal, &error, &folder.dot()).into_outcome(first(task));
    }
    let patience = Patience::default();
    for (index, step) in task.steps.iter().enumerate() {
        let name = step.name();
        let context = Context { folder, task, secrets, events, step: name, index, patience: &patience };
        if context.is_cancelled() {
            return Outcome::Cancelled;
        }
        events.say(name, EventKind::Begun);
        match run_step(step, &context) {
            Ok(Done::Ended) => events.say(name, EventKind::Ended),
            Ok(Done::Skipped) => events.say(name, EventKind::Skipped),
            Ok(Done::Cancelled) => return Outcome::Cancelled,
            Err(mut failure) => {
                hide(secrets, &mut failure);
                events.say(name, EventKind::Failed { reason: failure.reason, why: failure.why.clone() });
                return failure.into_outcome(name);
            }
        }
    }
    Outcome::Succeeded
}

/// What the application said is told without its secret values.
fn hide(secrets: &Secrets, failure: &mut StepFailure) {
    mask::mask(secrets, &mut failure.why);
    mask::mask_lines(secrets, &mut failure.lines);
    if let Some(ended) = &mut failure.ended {
        mask::mask_lines(secrets, &mut ended.lines);
    }
}

/// A command of a runner that died may still run: nothing is done beside it.
fn wait_for_left_command(folder: &Folder, task: &Task, secrets: &Secrets, events: &Events) -> StepResult<Waited> {
    let patience = Patience::default();
    let context = Context { folder, task, secrets, events, step: first(task), index: 0, patience: &patience };
    steps::wait_for_left_command(folder, |text| context.progress(text), || context.is_cancelled())
}

/// A process of the shell helper's time comes on record in our own way; it is not touched.
fn take_over(folder: &Folder) -> io::Result<()> {
    if shell::process(folder).is_none() {
        return Ok(());
    }
    if let Some(mut state) = State::read(folder)? {
        state.write(folder)?;
    }
    shell::forget_process(folder)
}

fn run_step(step: &Step, context: &Context<'_>) -> StepResult<Done> {
    steps::preflight(step, context)?;
    steps::run(step, context)
}

/// Does what the steps need where the task ended early, and writes the end: journal first, for it is what counts, then `result`.
fn end(folder: &Folder, task: &Task, outcome: Outcome, events: &Events) -> io::Result<()> {
    if outcome == Outcome::Succeeded && matches!(task.steps.last(), Some(Step::Remove)) {
        return Ok(());
    }
    undo::after(folder, task, &outcome, events);
    let _ = std::fs::remove_file(store::reserve(folder, &task.id));
    // Before the end is told, or bytes that come for the next task would be collected. What can't be removed now goes at the end of the next.
    let _ = incoming::collect(folder);
    let mut tries = 0;
    loop {
        match write_end(folder, task, &outcome) {
            Ok(()) => break,
            Err(error) if tries >= END_TRIES => return Err(error),
            Err(_) => {
                tries += 1;
                steps::collect_garbage(folder);
                std::thread::sleep(END_INTERVAL);
            }
        }
    }
    let needed: Vec<_> = std::iter::once(task.id.clone()).chain(undo::pending_task(folder)).collect();
    store::collect(folder, &needed);
    Ok(())
}

pub(super) fn write_end(folder: &Folder, task: &Task, outcome: &Outcome) -> io::Result<()> {
    let lock = Lock::take(folder, "ends a task").map_err(|refusal| io::Error::other(format!("{refusal:?}")))?;
    let mut journal = Journal::read(folder)?;
    let what = steps::describe(&task.steps);
    let act = Act { by: &task.author, task: &task.id, what: &what, prepares: steps::prepare(&task.steps) };
    let number = match journal.end_of(&task.id) {
        Some(end) => end.n,
        None => journal.append(folder, &lock, LineKind::End, act, Some(short(outcome)))?,
    };
    let result = TaskResult { outcome: outcome.clone(), journal: number };
    gate::pass("result.write", || files::write_record(&store::result(folder, &task.id), &result))
}

/// The outcome as the journal keeps it: without output.
fn short(outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Failed(failure) => {
            let mut failure = failure.clone();
            failure.lines.clear();
            failure.strangers.truncate(3);
            failure.why = failure.why.chars().take(1000).collect();
            if let Some(ended) = &mut failure.ended {
                ended.lines.clear();
            }
            Outcome::Failed(failure)
        }
        other => other.clone(),
    }
}
