//! The begin of a task: who may, whether it may now, and the detached runner. All of it is checked and written under the folder's lock;
//! secret values go to the runner over a pipe, after the lock, and nowhere else.

use std::{
    fs::File,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use landfall_host_protocol::{EnvValue, Outcome, Refusal, Secrets, Step, StepName, Task, TaskId, TaskResult};
use rustix::fs::{FallocateFlags, FlockOperation};

use super::{open_in, store, written_result};
use crate::{
    files,
    folder::Folder,
    gate, process, program,
    records::{
        Holder, Journal, Lock, fence,
        journal::{Act, LineKind},
        owner, shell,
    },
    steps,
};

const MAX_STEPS: usize = 64;
/// Bytes that are kept for the end of a task.
const RESERVE: u64 = 64 << 10;

/// A task that was begun, now or before.
#[derive(Debug)]
pub struct Begun {
    pub id: TaskId,
    /// It was begun before.
    pub attached: bool,
    /// The runner, a child of this process in a session of its own: to be reaped by whoever lives on.
    pub runner: Option<Child>,
}

/// Begins a task, or attaches to the one with the same id.
pub fn begin(folder: &Folder, task: &Task, secrets: &Secrets) -> Result<Begun, Refusal> {
    check_input(folder, task)?;
    check_secrets(task, secrets)?;
    if !folder.dot().exists() && task.steps.iter().all(|step| matches!(step, Step::Remove | Step::GiveUp)) {
        return nothing_there(folder, task);
    }
    let missing = steps::missing(folder, task);
    if !missing.is_empty() && !folder.task(&task.id).exists() {
        return Err(Refusal::Missing { digests: missing });
    }
    create(folder).map_err(|error| files::refusal(&error, &folder.dot(), 0))?;
    let holder = Holder { what: format!("begins {}", steps::describe(&task.steps)), fence: Some(task.fence.clone()) };
    let lock = Lock::take(folder, holder)?;
    let mut begun = begin_locked(folder, task, &lock)?;
    drop(lock);
    if let Some(runner) = &mut begun.runner {
        // A runner that dies here leaves a task that is open and does not run, as after any other death.
        let _ = hand_over(runner, secrets);
    }
    Ok(begun)
}

fn check_input(folder: &Folder, task: &Task) -> Result<(), Refusal> {
    let refuse = |field: &str, why: String| Err(Refusal::BadInput { field: field.to_owned(), why });
    if &task.folder != folder.name() {
        return refuse("folder", format!("the task is for {}", task.folder));
    }
    if task.steps.is_empty() || task.steps.len() > MAX_STEPS {
        return refuse("steps", format!("{} steps, 1 to {MAX_STEPS} are allowed", task.steps.len()));
    }
    let last = task.steps.len() - 1;
    if task.steps.iter().position(|step| matches!(step, Step::Remove)).is_some_and(|remove| remove != last) {
        return refuse("steps", "remove is not the last one".to_owned());
    }
    Ok(())
}

/// A variable holds text. It is said before anything is done.
fn check_secrets(task: &Task, secrets: &Secrets) -> Result<(), Refusal> {
    let configurations = task.steps.iter().filter_map(|step| match step {
        Step::Start(start) => Some(&start.config),
        Step::Hook { config, .. } => Some(&**config),
        _ => None,
    });
    for variable in configurations.flat_map(|configuration| &configuration.env) {
        let EnvValue::Secret(key) = &variable.value else { continue };
        let Some(value) = secrets.0.get(key) else { continue };
        if value.as_text().is_none_or(|text| text.contains('\0')) {
            let why = format!(
                "the value {key} holds bytes that no variable of the environment can hold ({}); it can come as a file",
                variable.name
            );
            return Err(Refusal::BadInput { field: "secrets".to_owned(), why });
        }
    }
    Ok(())
}

/// What is to be removed or given up is not there: that is the end already.
fn nothing_there(folder: &Folder, task: &Task) -> Result<Begun, Refusal> {
    let result = TaskResult { outcome: Outcome::Succeeded, journal: 0 };
    store::write_removed(folder, &task.id, &result)
        .map_err(|error| files::refusal(&error, &store::removed(folder, &task.id), 0))?;
    Ok(Begun { id: task.id.clone(), attached: false, runner: None })
}

fn create(folder: &Folder) -> io::Result<()> {
    // Until there is a journal its folders may not have come to the disk.
    if folder.tasks().exists() && folder.journal().exists() {
        return Ok(());
    }
    gate::pass("folder.create", || {
        files::create_folder(&folder.path(), 0o755)?;
        files::create_folder(&folder.dot(), 0o700)?;
        files::create_folder(&folder.tasks(), 0o700)?;
        files::sync_dir(folder.root())?;
        files::sync_dir(&folder.path())?;
        files::sync_dir(&folder.dot())
    })?;
    store::forget_removed(folder);
    Ok(())
}

fn begin_locked(folder: &Folder, task: &Task, lock: &Lock) -> Result<Begun, Refusal> {
    let adopts = task.steps.iter().any(|step| matches!(step, Step::Adopt));
    let journal_path = folder.journal();
    let recorded_fence = readable(fence::read(folder), &folder.fence(), adopts)?;
    fence::check(recorded_fence.as_ref(), &task.fence, adopts)?;
    let recorded_owner = readable(owner::read(folder), &folder.owner(), adopts)?;
    owner::check(recorded_owner.as_ref(), &task.owner, task.replaces.as_ref())?;
    let mut journal = Journal::read(folder).map_err(|error| files::refusal(&error, &journal_path, 0))?;

    let was_begun =
        journal.lines().iter().any(|line| line.task == task.id) || written_result(folder, &task.id).is_some();
    if was_begun {
        return Ok(Begun { id: task.id.clone(), attached: true, runner: None });
    }
    if let Some(open) = open_in(folder, &journal).filter(|open| open.running) {
        return Err(Refusal::Busy { task: open.id, step: open.step });
    }
    if task.id.n != journal.number() {
        return Err(Refusal::JournalMoved { now: journal.number() });
    }

    let path = folder.task(&task.id);
    let written = write(folder, task).or_else(|error| {
        // Room may be made by what nobody needs any more.
        files::full(&error, &path, 0).ok_or(error)?;
        steps::collect_garbage(folder);
        write(folder, task)
    });
    let runner_lock = written.map_err(|error| files::refusal(&error, &path, RESERVE))?;
    // What the shell helper wrote is written again, so that its operator finds itself refused.
    if recorded_fence.as_ref() != Some(&task.fence) || shell::is_record(&folder.fence()) {
        fence::write(folder, &task.fence).map_err(|error| files::refusal(&error, &folder.fence(), 0))?;
    }
    if recorded_owner.as_ref() != Some(&task.owner) || shell::is_record(&folder.owner()) {
        owner::write(folder, &task.owner).map_err(|error| files::refusal(&error, &folder.owner(), 0))?;
    }
    let what = steps::describe(&task.steps);
    let act = Act { by: &task.author, task: &task.id, what: &what, prepares: steps::prepare(&task.steps) };
    journal
        .append(folder, lock, LineKind::Begin, act, None)
        .map_err(|error| files::refusal(&error, &journal_path, 0))?;
    let runner = match spawn(folder, &task.id, runner_lock) {
        Ok(runner) => runner,
        Err(error) => {
            let why = format!("the task can't be run: {error}");
            let outcome = failed(task, &why);
            let _ = journal.append(folder, lock, LineKind::End, act, Some(outcome));
            return Err(Refusal::Failed { why });
        }
    };
    Ok(Begun { id: task.id.clone(), attached: false, runner: Some(runner) })
}

/// A record that can't be read stands in the way until somebody adopts the folder.
fn readable<T>(read: io::Result<Option<T>>, path: &Path, adopts: bool) -> Result<Option<T>, Refusal> {
    match read {
        Ok(found) => Ok(found),
        Err(error) if adopts && error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(files::refusal(&error, path, 0)),
    }
}

fn failed(task: &Task, why: &str) -> Outcome {
    let step = task.steps.first().map_or(StepName::Undo, Step::name);
    crate::failure::StepFailure::new(landfall_host_protocol::Reason::Internal, why).into_outcome(step)
}

/// Writes the task; answers the lock of its runner, taken.
fn write(folder: &Folder, task: &Task) -> io::Result<File> {
    files::collect_left_over(&folder.dot());
    let id = &task.id;
    gate::pass("task.write", || {
        files::create_folder(&folder.task(id), 0o700)?;
        // What an attempt left that died before its line in the journal.
        for left in [store::cancel(folder, id), store::events(folder, id)] {
            files::remove_file(&left)?;
        }
        let reserve = files::create(&store::reserve(folder, id), 0o600)?;
        match rustix::fs::fallocate(&reserve, FallocateFlags::empty(), 0, RESERVE) {
            // Not every file system can.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        let lock = files::open_append(&store::lock(folder, id), 0o600)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        files::write_record(&store::task(folder, id), task)?;
        files::sync_dir(&folder.tasks())?;
        Ok(lock)
    })
}

/// The runner in a session of its own. It holds its lock as its stdout, so that there is no moment in which the task seems dead.
fn spawn(folder: &Folder, id: &TaskId, lock: File) -> io::Result<Child> {
    let complaint = files::create(&store::complaint(folder, id), 0o600)?;
    let mut command = Command::new(program::path());
    command
        .arg0("landfall-host")
        .arg("run-task")
        .arg(folder.root())
        .arg(folder.name().as_str())
        .arg(folder.task(id).file_name().unwrap_or_default())
        .current_dir("/")
        // Begun by hand from within an application it is none of its processes.
        .env_remove(process::MARK)
        .stdin(Stdio::piped())
        .stdout(lock)
        .stderr(complaint);
    gate::pass("runner.spawn", || command.spawn())
}

fn hand_over(runner: &mut Child, secrets: &Secrets) -> io::Result<()> {
    let Some(mut input) = runner.stdin.take() else { return Ok(()) };
    let text = serde_json::to_vec(secrets)?;
    gate::pass("secrets.handOver", || input.write_all(&text))
}

/// `landfall-host begin-task ROOT`: begins the task on stdin, beside its secret values, without a session. For tests, which kill it.
#[cfg(debug_assertions)]
pub fn begin_command(root: &std::ffi::OsStr) -> u8 {
    let input: Result<(Task, Secrets), _> = serde_json::from_reader(io::stdin().lock());
    let Ok((task, secrets)) = input else { return 2 };
    let folder = Folder::new(Path::new(root), task.folder.clone());
    let (answer, status) = match begin(&folder, &task, &secrets) {
        Ok(begun) => (serde_json::to_string(&begun.attached), 0),
        Err(refusal) => (serde_json::to_string(&refusal), 1),
    };
    println!("{}", answer.unwrap_or_default());
    status
}
