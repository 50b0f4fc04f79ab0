//! What starts, watches and stops an application: one trait, one folder of implementations, one contract test for all of them.
//!
//! A runtime does not decide whether something is to be started or stopped, and writes no journal.

mod beside;
mod commands;
pub mod configuration;
mod patience;
mod process;
mod shared;
mod systemd;

use std::{path::Path, time::Duration};

use landfall_host_protocol::{Configuration, FolderFacts, FolderName, Reason, RunAs, Runtime as Kind, Secrets, Start};

use crate::{
    failure::{StepFailure, StepResult},
    folder::Folder,
    keeper::{State, Work},
    records::Lock,
    task,
};

pub use patience::Patience;

/// How long an application without a readiness probe has to live until it counts as ready: what dies right after its start was never of use.
const UNPROBED_READY: Duration = Duration::from_secs(1);

/// Asked between polls; true: the wait is to end early.
pub type IsCancelled<'a> = &'a dyn Fn() -> bool;

/// What a wait came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    Reached,
    Cancelled,
}

/// How one kind of application is handled. Every call may be made again after a death anywhere, with the same end.
pub trait Runtime {
    /// Fills `process`, `keeper`, `survivors`, `suspected` and `awaiting_secrets` of the folder's facts. It signals nothing.
    fn observe(&self, folder: &Folder, facts: &mut FolderFacts);

    /// Waits while an application has ended and it is not on record yet how, which whoever keeps it is about to write: what follows from
    /// it is not known before. Reached as well where the patience ends.
    fn settle(&self, _folder: &Folder, _patience: &Patience, _cancelled: IsCancelled<'_>) -> Waited {
        Waited::Reached
    }

    /// Why this host or folder can't run it, checked before anything stops: `noexec`, another machine's program, session scope, a
    /// user that can't be become, a suspected leftover.
    fn check(&self, folder: &Folder, start: &Start) -> StepResult<()>;

    /// Ends the application that runs or is to be restarted, and all that it left, as the configuration it runs under says: signal,
    /// grace period, KILL to what is left. Nothing is signalled that is not proved to be ours. What did not go as it should is answered, where
    /// it is down all the same.
    fn stop(&self, folder: &Folder) -> StepResult<Option<String>>;

    /// Starts the application of the release that `current` points at; back when its identity is on record. One that runs with
    /// this digest, configuration, revision and serial already is left alone, and so is one that has done its work.
    fn start(&self, folder: &Folder, start: &Start, secrets: &Secrets, patience: &Patience) -> StepResult<()>;

    /// Waits until it is ready; fails at once where it ended before it was ready for the first time.
    fn wait_ready(&self, folder: &Folder, timeout: Duration, cancelled: IsCancelled<'_>) -> StepResult<Waited>;

    /// Waits until it has been ready for so long, judged from `ready_since`.
    fn min_ready(&self, folder: &Folder, time: Duration, cancelled: IsCancelled<'_>) -> StepResult<Waited>;
}

/// The runtime of a configuration.
pub fn of(configuration: &Configuration) -> Box<dyn Runtime> {
    match &configuration.runtime {
        Kind::Process(_) => Box::new(process::Process),
        Kind::Systemd(_) => Box::new(systemd::Systemd),
        Kind::Script(script) => Box::new(commands::Commands::script(script)),
        Kind::Static(files) => Box::new(commands::Commands::files(files)),
    }
}

/// The runtime of what is on record in the folder; one that observes nothing where nothing was ever started.
pub fn recorded(folder: &Folder) -> Box<dyn Runtime> {
    let state = State::read(folder).ok().flatten();
    let kept = state.as_ref().and_then(|state| configuration::load(folder, state.config.as_ref()?).ok().flatten());
    match kept {
        // Whatever is on record of its configuration: a unit that is signalled is started again by systemd.
        _ if state.is_some_and(|state| state.unit.is_some()) => Box::new(systemd::Systemd),
        Some(kept) => of(&kept.configuration),
        // It knows what is left of a record alone, and suspects the rest.
        None => Box::new(process::Process),
    }
}

/// Waits until the application on record is ready for the task that started it.
pub fn wait_ready(folder: &Folder, timeout: Duration, cancelled: IsCancelled<'_>) -> StepResult<Waited> {
    let runtime = recorded(folder);
    let waited = runtime.wait_ready(folder, timeout, cancelled)?;
    if waited == Waited::Reached && is_unprobed(folder) {
        return runtime.min_ready(folder, UNPROBED_READY, cancelled);
    }
    Ok(waited)
}

/// An application that nothing is known of but that it lives. Files are as ready at once as they ever are.
fn is_unprobed(folder: &Folder) -> bool {
    let configuration = recorded_configuration(folder).map(|kept| kept.configuration);
    configuration.is_some_and(|one| one.readiness.is_none() && !matches!(one.runtime, Kind::Static(_)))
}

fn recorded_configuration(folder: &Folder) -> Option<configuration::Kept> {
    let state = State::read(folder).ok().flatten()?;
    configuration::load(folder, state.config.as_ref()?).ok().flatten()
}

/// User that the application on record runs as; `None`: the one that runs this program. A record that can't be read is no such one.
pub fn recorded_user(folder: &Folder) -> Result<Option<RunAs>, String> {
    let told = |why: String| format!("the application's user can't be known: {why}");
    match State::read(folder).map_err(|error| told(error.to_string()))? {
        Some(state) => process::known_run_as_of(folder, &state).map_err(told),
        None => Ok(None),
    }
}

/// Removes from the project's data what only the user can that its application ran as.
pub fn clear_data(folder: &Folder) -> StepResult<()> {
    process::clear_data(folder)
}

/// Runs as the watcher of a folder's unit, or of what its commands started; answers the exit status.
pub fn watch_unit(root: &Path, name: FolderName) -> u8 {
    let Some(own) = beside::wait_for_word() else { return 1 };
    let state = State::read(&Folder::new(root, name.clone())).ok().flatten();
    match state.is_some_and(|state| state.unit.is_some()) {
        true => systemd::watch(root, name, own),
        false => commands::watch(root, name, own),
    }
}

/// Puts a keeper beside an application that lost its own, for who acts on nothing; where a task is at work that one sees to it. It takes
/// the folder's lock for the moment of it by itself. `secrets`: of the operator, where it brings them.
pub fn attend(folder: &Folder, secrets: Option<&Secrets>) -> StepResult<()> {
    // Neither a process nor a unit has this mark alone.
    let state = State::read(folder).ok().flatten();
    let is_unit = state.as_ref().is_some_and(|state| state.unit.is_some());
    if !is_unit && state.is_none_or(|state| state.booted.is_none()) {
        return process::attend(folder, secrets, Work::Mend);
    }
    let lock = Lock::take(folder, "puts a watcher beside the application")
        .map_err(|refusal| StepFailure::new(Reason::StartFailed, format!("{refusal:?}")))?;
    if task::open(folder).is_none_or(|task| !task.running) {
        if is_unit { systemd::attend(folder)? } else { commands::attend(folder)? }
    }
    drop(lock);
    Ok(())
}
