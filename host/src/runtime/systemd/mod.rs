//! A unit of systemd: landfall's own, which comes up after a reboot without us, or one that an administrator installed and that landfall only
//! starts, stops and asks about.
//!
//! systemd alone starts the application again. No unit is touched that does not name our folder, and nothing is signalled from here.

mod ended;
mod environment;
mod ready;
mod systemctl;
mod unit;
mod watcher;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use landfall_host_protocol::{
    ByHand, ConfigHash, Configuration, Ended, FolderFacts, KeeperFacts, Probe, ProcessFacts, ProcessState, Reason,
    Runtime as Kind, Secrets, Start, SystemdRuntime, WaitingReason,
};

use super::{IsCancelled, Runtime, Waited, configuration, process};
use crate::{
    as_user, clock,
    facts::own_name,
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    gate,
    keeper::{self, Phase, State, Tries},
    probe::{self, Tried},
    process::{Found, Identity, boot_id, describe_all, find, instance_value, signal_name, suspected},
};
use systemctl::{Active, CallError, Exit, Manager, Shown};
use unit::{OnDisk, Place};

/// Beyond the grace period a stop may need this much for KILL and a slow machine.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// What systemd gives a unit that says nothing.
const DEFAULT_GRACE: Duration = Duration::from_secs(90);
/// `systemctl start` is back once the program was executed.
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// A systemd that hangs holds up a look at all folders no longer than this.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at what is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// The first systemd that appends output to a file and waits until the program was executed.
const VERSION_MIN: u32 = 240;

pub(super) use watcher::{run as watch, start as attend};

pub(super) struct Systemd;

/// A unit, and how it is reached.
struct Unit {
    name: String,
    manager: Manager,
    /// Written by us.
    is_own: bool,
}

impl Unit {
    fn named(folder: &Folder, name: String) -> Self {
        let is_own = name == unit::name(folder.name());
        Self { name, manager: unit::manager_of(is_own), is_own }
    }

    fn of(folder: &Folder, runtime: &SystemdRuntime) -> Self {
        Self::named(folder, runtime.unit.clone().unwrap_or_else(|| unit::name(folder.name())))
    }

    fn show(&self) -> Result<Shown, CallError> {
        self.show_within(systemctl::QUESTION_TIMEOUT)
    }

    fn show_within(&self, timeout: Duration) -> Result<Shown, CallError> {
        if !systemctl::is_booted() {
            return Err(CallError::Failed("systemd does not run this machine".to_owned()));
        }
        self.manager.show(&self.name, timeout)
    }

    fn place(&self) -> StepResult<Place> {
        let unknown = "the SSH user's home is not known (HOME): his units can't be written";
        Place::of(self.manager).ok_or_else(|| StepFailure::new(Reason::HostUnsupported, unknown))
    }

    /// What is wrong with a file of our unit's name, where something is.
    fn check_file(&self, place: &Place, folder: &Folder) -> StepResult<()> {
        let path = place.path(&self.name);
        let path = path.display();
        let why = match place.look(&self.name, folder) {
            OnDisk::None | OnDisk::Ours => return Ok(()),
            OnDisk::Edited => format!(
                "{path} was edited by hand; move the change into a drop-in (systemctl edit {}) and remove the file",
                self.name
            ),
            OnDisk::Foreign => format!("{path} is not a unit of this project's folder; remove or rename it by hand"),
            OnDisk::Masked => self.masked(),
        };
        Err(StepFailure::new(Reason::HostUnsupported, why))
    }

    /// An administrator's says itself whose it is: what is something else's has nobody to stop or start it from here.
    fn check_names(&self, folder: &Folder, reason: Reason) -> StepResult<()> {
        if self.is_own {
            return Ok(());
        }
        let path = folder.path();
        let mut places = vec![path.clone()];
        places.extend(std::fs::canonicalize(&path));
        match self.manager.names(&self.name, &places, systemctl::QUESTION_TIMEOUT) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let why = format!(
                    "unit {} does not name the folder of this project and is not touched; the administrator adds to its [Service] \
                     EnvironmentFile=-{} (or WorkingDirectory={}/current)",
                    self.name,
                    unit::environment_path(folder).display(),
                    path.display()
                );
                Err(StepFailure::new(reason, why))
            }
            Err(error) => Err(StepFailure::new(reason, error.to_string())),
        }
    }

    fn masked(&self) -> String {
        format!("unit {} is masked; it can be started after systemctl unmask {}", self.name, self.name)
    }
}

/// What is on record of a folder, and the unit that it names.
struct Record {
    state: State,
    kept: Option<configuration::Kept>,
    unit: Unit,
}

impl Record {
    /// `None`: no unit is on record.
    fn read(folder: &Folder, reason: Reason) -> StepResult<Option<Self>> {
        let failed = |error: std::io::Error| files::failure(reason, &error, &folder.dot());
        let Some(state) = State::read(folder).map_err(failed)? else { return Ok(None) };
        let Some(name) = state.unit.clone() else { return Ok(None) };
        let kept = state.config.as_ref().and_then(|hash| configuration::load(folder, hash).ok().flatten());
        Ok(Some(Self { unit: Unit::named(folder, name), state, kept }))
    }

    /// The same for who is about to write it: no watcher does so any more.
    fn alone(folder: &Folder, reason: Reason) -> StepResult<Option<Self>> {
        if let Some(record) = Self::read(folder, reason)? {
            watcher::end(folder, &record.state);
        }
        Self::read(folder, reason)
    }

    fn runtime(&self) -> Option<&SystemdRuntime> {
        match &self.kept.as_ref()?.configuration.runtime {
            Kind::Systemd(runtime) => Some(runtime),
            _ => None,
        }
    }

    fn readiness(&self) -> Option<&Probe> {
        self.kept.as_ref()?.configuration.readiness.as_ref()
    }

    /// Since when it is ready, in milliseconds since boot. With a probe the very process must have answered; without one it is ready while
    /// it runs.
    fn ready_since(&self, now: &Now, shown: &Shown) -> Option<u64> {
        let since = shown.active_since.min(clock::uptime_millis());
        match now {
            Now::Running(_) if self.readiness().is_none() => Some(since),
            Now::Running(main) => self.state.ready_since.filter(|_| *main == self.state.application),
            Now::Completed => Some(since),
            _ => None,
        }
    }

    /// How the application ended last, as far as somebody saw it.
    fn last_end(&self, folder: &Folder, shown: &Shown) -> Option<Ended> {
        let recorded = ended::read(folder).map(|last| last.ended).filter(|_| self.unit.is_own);
        recorded.or_else(|| of_exit(shown)).or_else(|| self.state.last_end.clone())
    }

    /// What the application said last.
    fn last_lines(&self, folder: &Folder) -> Vec<String> {
        match &self.state.config {
            Some(config) => last_lines(folder, config),
            None => keeper::tail(folder),
        }
    }

    fn write(&mut self, folder: &Folder, reason: Reason) -> StepResult<()> {
        self.state.write(folder).map_err(|error| files::failure(reason, &error, &folder.state()))
    }
}

fn of_exit(shown: &Shown) -> Option<Ended> {
    let (status, signal) = match shown.exit? {
        Exit::Status(status) => (Some(status), None),
        Exit::Signal(signal) => (None, Some(signal_name(signal))),
    };
    let out_of_memory = shown.result == "oom-kill";
    Some(Ended { status, signal, at: shown.exited_at, out_of_memory, lines: Vec::new() })
}

/// What a unit does now.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Now {
    /// An administrator's may have no main process.
    Running(Option<Identity>),
    Completed,
    /// systemd is about to start it again.
    Waiting,
    /// It starts or stops just now.
    Changing,
    Failed,
    Inactive,
}

impl Now {
    fn of(shown: &Shown, is_own: bool) -> Self {
        let main = shown.main();
        match shown.active {
            Active::Up if is_own && shown.sub == "exited" => Self::Completed,
            Active::Up if main.is_none() && is_own => Self::Changing,
            Active::Up => Self::Running(main),
            Active::Activating | Active::Deactivating if main.is_some() => Self::Running(main),
            Active::Activating if shown.sub.starts_with("auto-restart") => Self::Waiting,
            Active::Activating | Active::Deactivating => Self::Changing,
            Active::Failed => Self::Failed,
            Active::Inactive => Self::Inactive,
        }
    }

    fn is_up(&self) -> bool {
        !matches!(self, Self::Failed | Self::Inactive)
    }
}

impl Runtime for Systemd {
    fn observe(&self, folder: &Folder, facts: &mut FolderFacts) {
        let Ok(Some(record)) = Record::read(folder, Reason::Internal) else {
            facts.suspected = suspected(&folder.releases(), &[]);
            return;
        };
        match record.unit.show_within(LOOK_TIMEOUT) {
            Ok(shown) => tell(folder, &record, &shown, facts),
            Err(error) => {
                // Only its process can be seen.
                let application = record.state.application.as_ref();
                let lives = application.is_some_and(|application| !matches!(find(application), Found::Dead));
                let state = if lives { ProcessState::Running } else { ProcessState::Ended };
                let mut process = process::facts_of(&record.state, state, lives && record.state.is_ready());
                process.probe_failure = Some(error.to_string());
                facts.process = Some(process);
            }
        }
    }

    fn check(&self, folder: &Folder, start: &Start) -> StepResult<()> {
        let unsupported = |why: String| StepFailure::new(Reason::HostUnsupported, why);
        let runtime = runtime_of(start)?;
        if let Some(name) = runtime.unit.as_ref().filter(|name| !unit::is_administrators(name)) {
            let why = format!("{name:?} can't be an administrator's unit: a name of his own, ending in .service");
            return Err(unsupported(why));
        }
        check_secrets(start)?;
        let unit = Unit::of(folder, runtime);
        check_manager(&unit, start)?;
        if start.config.liveness.is_some() {
            return Err(unsupported("runtime systemd has no livenessProbe; use WatchdogSec= in a drop-in".to_owned()));
        }
        if let Some(why) = start.config.readiness.as_ref().and_then(probe::unsupported) {
            return Err(unsupported(why));
        }
        // Of what it has now the values don't matter.
        environment::text(&plain_environment(start)?).map_err(unsupported)?;
        let shown = unit.show().map_err(|error| unsupported(error.to_string()))?;
        if shown.load == "masked" {
            return Err(unsupported(unit.masked()));
        }
        if unit.is_own {
            check_own(folder, start, runtime, &unit, &shown)?
        } else {
            check_administrators(folder, &unit, &shown)?
        }
        let mut known = ready::members(&shown.control_group);
        known.extend(shown.main());
        match State::read(folder).ok().flatten() {
            Some(state) if state.unit.is_some() => known.extend(ready::probes(&state)),
            // Another runtime's, which is stopped before this one starts.
            Some(state) => known.extend(process::everything(&state)),
            None => {}
        }
        let strangers = suspected(&folder.releases(), &known);
        if strangers.is_empty() { Ok(()) } else { Err(process::suspicion(strangers)) }
    }

    fn stop(&self, folder: &Folder) -> StepResult<()> {
        let Some(mut record) = Record::alone(folder, Reason::StopFailed)? else { return Ok(()) };
        take_down(folder, &record)?;
        if record.state.phase != Phase::Stopped {
            record.state.phase = Phase::Stopped;
            record.state.ready_since = None;
            record.write(folder, Reason::StopFailed)?;
        }
        Ok(())
    }

    fn start(&self, folder: &Folder, start: &Start, secrets: &Secrets) -> StepResult<()> {
        let failed = |why: String| StepFailure::new(Reason::StartFailed, why);
        let runtime = runtime_of(start)?;
        let unit = Unit::of(folder, runtime);
        let before =
            State::read(folder).map_err(|error| files::failure(Reason::StartFailed, &error, &folder.state()))?;
        if let Some(state) = before.as_ref().filter(|state| state.unit.is_some()) {
            watcher::end(folder, state);
        }
        let before =
            State::read(folder).map_err(|error| files::failure(Reason::StartFailed, &error, &folder.state()))?;
        if let Some(state) = before.as_ref().filter(|state| state.unit.is_none())
            && process::lives(state)
        {
            return Err(failed("this project still runs by another runtime".to_owned()));
        }
        unit.check_names(folder, Reason::HostUnsupported)?;
        let shown = unit.show().map_err(|error| failed(error.to_string()))?;
        if Now::of(&shown, unit.is_own).is_up() {
            let same = before.as_ref().is_some_and(|state| {
                state.unit.as_ref() == Some(&unit.name)
                    && process::is_same(state, start)
                    && state.phase != Phase::Stopped
            });
            if same {
                return record_start(folder, &unit);
            }
            return Err(failed(format!("unit {} is {} already", unit.name, shown.sub)));
        }
        if let Some(state) = before.as_ref().filter(|state| state.unit.as_ref() != Some(&unit.name)) {
            check_down(folder, state)?;
        }
        if let Some(state) = &before {
            let left = process::living_unended(state);
            if !left.is_empty() {
                return Err(keeper::unended(&left));
            }
        }
        let strangers = suspected(&folder.releases(), &[]);
        if !strangers.is_empty() {
            return Err(process::suspicion(strangers));
        }
        check_secrets(start)?;
        if let Some(key) = keeper::missing_secret(&start.config, Some(secrets)) {
            let why = format!("the secret value {key} is not on the host; the operator brings it");
            return Err(StepFailure::new(Reason::AwaitingSecrets, why));
        }
        process::check_port(&start.config)?;
        configuration::store(folder, &start.config, secrets)?;
        process::make_folders(folder, start.config.run_as.as_ref())?;
        configuration::write_files(folder, &start.config, secrets)?;
        let instance = instance_value().map_err(|error| failed(format!("/dev/urandom: {error}")))?;
        write_environment(folder, start, secrets, &instance)?;
        let counter = before.map_or(0, |state| state.counter);
        let mut state = State::new(start, process::owner_uid(folder), instance, counter);
        state.unit = Some(unit.name.clone());
        state.booted = Some(boot_id().to_owned());
        // On record before it runs: who dies in between finds a unit that runs, and what for.
        state.write(folder).map_err(|error| files::failure(Reason::StartFailed, &error, &folder.state()))?;
        if unit.is_own {
            install(folder, start, runtime, &unit)?;
        }
        if let Err(error) = begin(&unit) {
            let shown = unit.show().ok();
            // One that was executed and ended at once is told by who waits for it.
            if !shown.as_ref().and_then(|shown| shown.exit).is_some_and(is_its_own) {
                let mut failure = failed(start_failed(&unit, &error, shown.as_ref()));
                failure.lines = last_lines(folder, &start.config.hash);
                // It would be tried again and again, and at every boot.
                if let Some(record) = Record::read(folder, Reason::StartFailed)? {
                    take_down(folder, &record)?;
                }
                return Err(failure);
            }
        }
        record_start(folder, &unit)
    }

    fn wait_ready(&self, folder: &Folder, timeout: Duration, cancelled: IsCancelled<'_>) -> StepResult<Waited> {
        let end = clock::monotonic() + timeout;
        let mut asking = Asking::default();
        loop {
            let (mut record, shown) = seen(folder)?;
            let now = Now::of(&shown, record.unit.is_own);
            let was_ready = record.state.was_ready;
            match &now {
                Now::Completed => {
                    record_ready(folder, &mut record, &now)?;
                    return Ok(Waited::Reached);
                }
                Now::Inactive if record.state.phase == Phase::Running && !has_ended(&shown) => {
                    return Err(stopped_by_hand(&record.unit));
                }
                Now::Failed | Now::Inactive => return Err(died(folder, &mut record, &shown)),
                Now::Waiting if !was_ready => return Err(died(folder, &mut record, &shown)),
                Now::Running(_) if !was_ready && record.unit.is_own && shown.restarts > 0 => {
                    return Err(died(folder, &mut record, &shown));
                }
                Now::Running(main) => {
                    asking.begin(&record, &shown, main.as_ref());
                    if asking.until(true, folder, &record, &shown, end, cancelled)? {
                        record_ready(folder, &mut record, &now)?;
                        return Ok(Waited::Reached);
                    }
                }
                Now::Waiting | Now::Changing => {}
            }
            if cancelled() {
                return Ok(Waited::Cancelled);
            }
            if clock::monotonic() >= end {
                let said = asking.said.unwrap_or_else(|| format!("unit {} is {}", record.unit.name, shown.sub));
                let why = format!("the application was not ready within {} s: {said}", timeout.as_secs());
                let mut failure = StepFailure::new(Reason::NotReady, why);
                failure.lines = record.last_lines(folder);
                return Err(failure);
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    fn min_ready(&self, folder: &Folder, time: Duration, cancelled: IsCancelled<'_>) -> StepResult<Waited> {
        let needed = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut asking = Asking::default();
        // Where it is on no record since when it is ready, the time begins with this wait, and for whoever waits after it.
        let begun = clock::uptime_millis();
        loop {
            let (mut record, shown) = seen(folder)?;
            let now = Now::of(&shown, record.unit.is_own);
            let main = match &now {
                Now::Completed => return Ok(Waited::Reached),
                Now::Running(main) => main.clone(),
                Now::Inactive if !has_ended(&shown) => return Err(stopped_by_hand(&record.unit)),
                _ => return Err(died(folder, &mut record, &shown)),
            };
            if main != record.state.application {
                return Err(died(folder, &mut record, &shown));
            }
            asking.go_on(&record, main.as_ref());
            let since = match record.state.ready_since {
                Some(since) => since,
                None => {
                    record.state.ready_since = Some(begun);
                    record.write(folder, Reason::NotReady)?;
                    begun
                }
            };
            let left = needed.saturating_sub(clock::uptime_millis().saturating_sub(since));
            let end = clock::monotonic() + Duration::from_millis(left);
            if asking.until(false, folder, &record, &shown, end, cancelled)? {
                let why = asking.said.unwrap_or_default();
                record.state.ready_since = None;
                record.state.probe_failure = Some(why.clone());
                record.write(folder, Reason::NotReady)?;
                let why = format!("the application was ready and is not any more: {why}");
                return Err(StepFailure::new(Reason::NotReady, why));
            }
            if cancelled() {
                return Ok(Waited::Cancelled);
            }
            // A look at the unit says whether it was dead before.
            if left == 0 {
                return Ok(Waited::Reached);
            }
        }
    }
}

/// The questions to one run of the application, by who waits.
#[derive(Default)]
struct Asking {
    of: Option<Identity>,
    /// `None`: it has no probe.
    tries: Option<Tries>,
    /// Why it is not ready.
    said: Option<String>,
}

impl Asking {
    /// Of one that is not ready yet; the questions to another run begin again.
    fn begin(&mut self, record: &Record, shown: &Shown, main: Option<&Identity>) {
        if self.of.as_ref() == main && self.tries.is_some() {
            return;
        }
        let ran = Duration::from_millis(clock::uptime_millis().saturating_sub(shown.active_since));
        let now = clock::monotonic();
        let started = now.checked_sub(ran).unwrap_or(now);
        self.of = main.cloned();
        self.tries = record.readiness().map(|probe| Tries::new(probe, started));
        if self.tries.is_some() {
            self.said = Some("its readiness probe was not asked yet".to_owned());
        }
    }

    /// Of one that was ready when it was asked last.
    fn go_on(&mut self, record: &Record, main: Option<&Identity>) {
        if self.of.as_ref() == main && self.tries.is_some() {
            return;
        }
        self.of = main.cloned();
        self.tries = record.readiness().map(|probe| {
            let now = clock::monotonic();
            let mut tries = Tries::new(probe, now);
            (tries.answer, tries.due) = (Some(true), now);
            tries
        });
    }

    /// Asks until it is ready, or is not any more, as is waited for; false: the time is up, it is dead, or the wait is to end.
    fn until(
        &mut self,
        ready: bool,
        folder: &Folder,
        record: &Record,
        shown: &Shown,
        end: Instant,
        cancelled: IsCancelled<'_>,
    ) -> StepResult<bool> {
        loop {
            self.answer(folder, record, shown)?;
            if self.is_settled(ready) {
                return Ok(true);
            }
            if cancelled() || clock::monotonic() >= end || self.wait(end) {
                return Ok(false);
            }
        }
    }

    /// Without a probe it is ready while it runs.
    fn is_settled(&self, answer: bool) -> bool {
        self.tries.as_ref().map_or(answer, |tries| tries.answer == Some(answer))
    }

    /// One try, where it is due.
    fn answer(&mut self, folder: &Folder, record: &Record, shown: &Shown) -> StepResult<()> {
        let Some(tries) = &mut self.tries else { return Ok(()) };
        let began = clock::monotonic();
        if tries.due <= began {
            let tried = ask(folder, record, shown, self.of.as_ref())?;
            tries.take(&tried, began, clock::monotonic(), true);
            match tried {
                Tried::No(why) | Tried::Unasked(why) => self.said = Some(why),
                Tried::Yes => self.said = tries.progress(),
                Tried::Interrupted => {}
            }
        }
        Ok(())
    }

    /// Until the next question; true: the application is dead, or is to be looked for.
    fn wait(&self, end: Instant) -> bool {
        let due = self.tries.as_ref().map_or(end, |tries| tries.due.min(end));
        let left = due.saturating_duration_since(clock::monotonic()).min(LOOK_INTERVAL);
        wait_for_end(self.of.as_ref(), left) || self.of.is_none()
    }
}

/// Another runtime starts nothing beside a unit that is on record and up.
pub(super) fn check_down(folder: &Folder, state: &State) -> StepResult<()> {
    let Some(name) = state.unit.clone().filter(|_| state.phase != Phase::Stopped) else { return Ok(()) };
    let unit = Unit::named(folder, name);
    let shown = unit.show().map_err(|error| StepFailure::new(Reason::StartFailed, error.to_string()))?;
    if Now::of(&shown, unit.is_own).is_up() {
        let why = format!("unit {} of this project still runs", unit.name);
        return Err(StepFailure::new(Reason::StartFailed, why));
    }
    Ok(())
}

fn runtime_of(start: &Start) -> StepResult<&SystemdRuntime> {
    match &start.config.runtime {
        Kind::Systemd(runtime) => Ok(runtime),
        _ => Err(StepFailure::new(Reason::Internal, "this is the runtime of systemd")),
    }
}

/// What a unit that can be asked about says of the application.
fn tell(folder: &Folder, record: &Record, shown: &Shown, facts: &mut FolderFacts) {
    let now = Now::of(shown, record.unit.is_own);
    let ready_since = record.ready_since(&now, shown);
    let in_this_boot = record.state.booted.as_deref() == Some(boot_id()) || shown.active_since > 0;
    let is_acted_on = facts.task.as_ref().is_some_and(|task| task.running);
    let state = match &now {
        Now::Running(_) => ProcessState::Running,
        Now::Completed => ProcessState::Completed,
        Now::Waiting | Now::Changing => ProcessState::Waiting { until_millis: 0, reason: WaitingReason::Crash },
        // Nobody here stopped it, and by itself it does not end so.
        Now::Inactive if record.state.phase == Phase::Running && in_this_boot && !has_ended(shown) => {
            if facts.by_hand.is_none() && !is_acted_on {
                facts.by_hand = Some(stop_by_hand(folder, record, shown));
            }
            ProcessState::Stopped
        }
        Now::Inactive if record.state.phase == Phase::Stopped => ProcessState::Stopped,
        Now::Inactive | Now::Failed => ProcessState::Ended,
    };
    if !now.is_up() {
        let mut left = ready::members(&shown.control_group);
        facts.survivors = describe_all(&left);
        left.extend(ready::probes(&record.state));
        facts.suspected = suspected(&folder.releases(), &left);
    }
    let watcher = keeper::is_living(&record.state);
    facts.keeper = watcher.as_ref().zip(record.state.keeper.as_ref()).map(|(handle, record)| KeeperFacts {
        pid: handle.identity().pid,
        start: handle.identity().start,
        program: record.program.clone(),
        parent: record.parent,
    });
    let mut last_end = record.last_end(folder, shown);
    if let Some(ended) =
        last_end.as_mut().filter(|_| matches!(state, ProcessState::Ended | ProcessState::Waiting { .. }))
    {
        ended.lines = record.last_lines(folder);
    }
    let nobody = Identity { pid: 0, start: 0, boot_id: boot_id().to_owned() };
    let main = match now {
        Now::Running(main) => main.unwrap_or(nobody),
        _ => record.state.application.clone().unwrap_or(nobody),
    };
    let ready = ready_since.is_some();
    facts.process = Some(ProcessFacts {
        pid: main.pid,
        start: main.start,
        boot_id: main.boot_id,
        ready,
        ready_since,
        was_ready: record.state.was_ready || ready,
        restarts: shown.restarts,
        last_end,
        ..process::facts_of(&record.state, state, ready)
    });
}

/// It ended by itself, so that being inactive is no stop. systemd keeps no unit of ours inactive that ended by itself: it starts it again,
/// or calls it failed, or active after the end of its work.
fn has_ended(shown: &Shown) -> bool {
    !matches!(shown.result.as_str(), "" | "success")
}

fn stop_by_hand(folder: &Folder, record: &Record, shown: &Shown) -> ByHand {
    let recorded = ended::read(folder).filter(|_| record.unit.is_own).map(|last| last.at_millis);
    let at_millis = recorded.unwrap_or_else(|| {
        let booted = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let booted = booted.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<i64>().ok());
        booted.map_or(0, |seconds| {
            seconds.saturating_mul(1000).saturating_add(i64::try_from(shown.inactive_since).unwrap_or(0))
        })
    });
    let how = if record.unit.is_own { "was stopped" } else { "was stopped or ended its work" };
    let reason = format!("unit {} {how}, and not by landfall", record.unit.name);
    ByHand { act: "stop".to_owned(), reason, user: None, at_millis, journal: 0 }
}

fn stopped_by_hand(unit: &Unit) -> Box<StepFailure> {
    let why = format!("unit {} was stopped by somebody else (systemctl stop)", unit.name);
    StepFailure::new(Reason::NotReady, why)
}

/// systemd is there, the user may have units that stay, and the unit is one that he may start and stop.
fn check_manager(unit: &Unit, start: &Start) -> StepResult<()> {
    let unsupported = |why: String| Err(StepFailure::new(Reason::HostUnsupported, why));
    if !systemctl::is_booted() {
        return unsupported(
            "systemd does not run this machine (no /run/systemd/system); use runtime process".to_owned(),
        );
    }
    match (unit.manager, &start.config.run_as) {
        (Manager::System, Some(run_as)) if unit.is_own => {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
            if !run_as.user.bytes().all(plain) || run_as.user.is_empty() {
                return unsupported(format!("{:?} can't be a user of a unit", run_as.user));
            }
            as_user::try_become(run_as).or_else(unsupported)
        }
        (Manager::User, Some(run_as)) => unsupported(format!(
            "only root can write a unit that runs as {}: let the administrator install one (run.systemd.unit)",
            run_as.user
        )),
        (Manager::User, None) => check_lingering(),
        (Manager::System | Manager::Sudo, _) => Ok(()),
    }
}

/// The SSH user's manager runs, and goes on when he is signed out.
fn check_lingering() -> StepResult<()> {
    let name = own_name().unwrap_or_default();
    let lingers = !name.is_empty() && !name.contains('/') && Path::new("/var/lib/systemd/linger").join(&name).exists();
    if !lingers {
        let why = format!(
            "the manager of user {name} ends when he signs out: loginctl enable-linger {name} keeps it, or let the \
             administrator install a unit (run.systemd.unit)"
        );
        return Err(StepFailure::new(Reason::HostUnsupported, why));
    }
    let socket = Path::new(&systemctl::runtime_folder()).join("systemd/private");
    if !socket.exists() {
        let why = format!("the manager of user {name} does not run ({} is missing)", socket.display());
        return Err(StepFailure::new(Reason::HostUnsupported, why));
    }
    Ok(())
}

/// systemd reads secret values from a file, or the application would not come back without us.
fn check_secrets(start: &Start) -> StepResult<()> {
    match keeper::missing_secret(&start.config, None) {
        Some(key) if !start.config.keep_secrets_on_host => {
            let why = format!(
                "runtime systemd reads the secret value {key} from a file: set keepSecretsOnHost, or use runtime process"
            );
            Err(StepFailure::new(Reason::HostUnsupported, why))
        }
        _ => Ok(()),
    }
}

/// The environment with something in the place of each secret value.
fn plain_environment(start: &Start) -> StepResult<Vec<(String, String)>> {
    let mut config: Configuration = start.config.clone();
    for variable in &mut config.env {
        if let landfall_host_protocol::EnvValue::Secret(_) = variable.value {
            variable.value = landfall_host_protocol::EnvValue::Plain(String::new());
        }
    }
    keeper::environment(&config, &Secrets::default(), "").map_err(|why| StepFailure::new(Reason::StartFailed, why))
}

/// Our own unit can be written and started.
fn check_own(folder: &Folder, start: &Start, runtime: &SystemdRuntime, unit: &Unit, shown: &Shown) -> StepResult<()> {
    process::check_mount(folder)?;
    process::check_program(folder, start, &runtime.command)?;
    let version = version(unit)?;
    if runtime.memory_max_bytes.is_some() && !systemctl::limits_memory(unit.manager) {
        let whose = if unit.manager == Manager::User { "the SSH user's manager" } else { "systemd" };
        let why =
            format!("no limit of memory would hold: {whose} has no memory controller (cgroup version 2 delegates it)");
        return Err(StepFailure::new(Reason::HostUnsupported, why));
    }
    let place = unit.place()?;
    unit.check_file(&place, folder)?;
    if !shown.fragment.is_empty() && Path::new(&shown.fragment) != place.path(&unit.name) {
        let why = format!("unit {} is somebody else's: {}", unit.name, shown.fragment);
        return Err(StepFailure::new(Reason::HostUnsupported, why));
    }
    unit::text(folder, start, runtime, unit.manager, version).map(|_| ())
}

fn version(unit: &Unit) -> StepResult<u32> {
    let unsupported = |why: String| StepFailure::new(Reason::HostUnsupported, why);
    let version = unit.manager.version().map_err(|error| unsupported(error.to_string()))?;
    if version < VERSION_MIN {
        return Err(unsupported(format!(
            "systemd {version} is too old for a unit of landfall's ({VERSION_MIN} is needed); let the administrator install one \
             (run.systemd.unit), or use runtime process"
        )));
    }
    Ok(version)
}

/// The administrator's unit is there, and sudo lets us start and stop it.
fn check_administrators(folder: &Folder, unit: &Unit, shown: &Shown) -> StepResult<()> {
    let unsupported = |why: String| StepFailure::new(Reason::HostUnsupported, why);
    if shown.load != "loaded" {
        return Err(unsupported(format!("unit {} is {}: the administrator installs it", unit.name, shown.load)));
    }
    for verb in ["start", "stop"] {
        unit.manager.is_allowed(verb, &unit.name).map_err(|error| {
            let user = own_name().unwrap_or_else(|| "USER".to_owned());
            unsupported(format!(
                "sudo does not allow systemctl {verb} {name}: {error}; in sudoers: {user} ALL=(root) NOPASSWD: \
                 /usr/bin/systemctl start {name}, /usr/bin/systemctl stop {name}, /usr/bin/systemctl show {name}",
                name = unit.name
            ))
        })?;
    }
    unit.check_names(folder, Reason::HostUnsupported)
}

/// The application's environment, where systemd reads it; readable for its manager alone.
fn write_environment(folder: &Folder, start: &Start, secrets: &Secrets, instance: &str) -> StepResult<()> {
    let failed = |why: String| StepFailure::new(Reason::StartFailed, why);
    let mut variables = keeper::environment(&start.config, secrets, instance).map_err(failed)?;
    if start.config.run_as.is_none() {
        // Of another user's systemd tells them; what the configuration gives goes before.
        variables.splice(0..0, keeper::login());
    }
    let text = environment::text(&variables).map_err(failed)?;
    let path = unit::environment_path(folder);
    gate::pass("unit.environment", || files::write_whole(&path, text.as_bytes(), 0o600))
        .map_err(|error| files::failure(Reason::StartFailed, &error, &path))
}

/// Writes our unit, to be started now and at boot.
fn install(folder: &Folder, start: &Start, runtime: &SystemdRuntime, unit: &Unit) -> StepResult<()> {
    let failed = |why: String| StepFailure::new(Reason::StartFailed, why);
    let text = unit::text(folder, start, runtime, unit.manager, version(unit)?)?;
    let place = unit.place()?;
    unit.check_file(&place, folder)?;
    gate::pass("unit.forget", || ended::make(folder))
        .map_err(|error| files::failure(Reason::StartFailed, &error, &ended::path(folder)))?;
    let log = folder.log(0);
    let begin = |mut file: std::fs::File| {
        use std::io::Write as _;
        let Start { release, revision, redeploys, .. } = start;
        writeln!(file, "=== landfall starts {release}, rollout {revision}.{redeploys}")
    };
    gate::pass("log.begin", || keeper::open_log(folder).and_then(begin))
        .map_err(|error| files::failure(Reason::StartFailed, &error, &log))?;
    place.write(&unit.name, &text)?;
    unit.manager.reload().map_err(|error| failed(format!("systemctl daemon-reload: {error}")))
}

fn begin(unit: &Unit) -> Result<(), CallError> {
    let mut called = Ok(());
    let passed = gate::pass("unit.start", || {
        called = unit.manager.start(&unit.name, START_TIMEOUT);
        Ok(())
    });
    passed.map_err(|error| CallError::Failed(error.to_string()))?;
    called
}

/// The program ended so, and not systemd on the way to it.
fn is_its_own(exit: Exit) -> bool {
    !matches!(exit, Exit::Status(200..=245))
}

/// Why it did not start, with what the number says that systemd gives for an end before the program ran.
fn start_failed(unit: &Unit, error: &CallError, shown: Option<&Shown>) -> String {
    let how = match shown.and_then(|shown| shown.exit) {
        Some(Exit::Status(200)) => ": its folder can't be entered (200/CHDIR)".to_owned(),
        Some(Exit::Status(203)) => ": its program can't be executed (203/EXEC)".to_owned(),
        Some(Exit::Status(209)) => ": its log can't be opened (209/STDOUT)".to_owned(),
        Some(Exit::Status(216 | 217)) => ": its user or group is not known (217/USER)".to_owned(),
        Some(Exit::Status(status)) => format!(": exit status {status}"),
        Some(Exit::Signal(signal)) => format!(": killed by SIG{}", signal_name(signal)),
        None => String::new(),
    };
    format!("systemctl start {}{how}: {error}", unit.name)
}

/// The unit runs what is on record.
fn record_start(folder: &Folder, unit: &Unit) -> StepResult<()> {
    let Some(mut record) = Record::alone(folder, Reason::StartFailed)? else { return Ok(()) };
    if record.state.phase == Phase::Running && record.state.booted.as_deref() == Some(boot_id()) {
        return Ok(());
    }
    let shown = unit.show().map_err(|error| StepFailure::new(Reason::StartFailed, error.to_string()))?;
    record.state.application = shown.main();
    record.state.booted = Some(boot_id().to_owned());
    record.state.phase = Phase::Running;
    record.write(folder, Reason::StartFailed)
}

/// It became ready, unless it is on record as such.
fn record_ready(folder: &Folder, record: &mut Record, now: &Now) -> StepResult<()> {
    let main = if let Now::Running(main) = now { main.clone() } else { record.state.application.clone() };
    if record.state.is_ready() && record.state.application == main {
        return Ok(());
    }
    record.state.application = main;
    record.state.ready_since = Some(clock::uptime_millis());
    record.state.unready_since = None;
    record.state.was_ready = true;
    record.state.probe_failure = None;
    record.write(folder, Reason::NotReady)
}

/// The record and what the unit does now.
fn seen(folder: &Folder) -> StepResult<(Record, Shown)> {
    let record = Record::alone(folder, Reason::NotReady)?.filter(|record| record.state.phase != Phase::Stopped);
    let record = record.ok_or_else(|| StepFailure::new(Reason::NotReady, "nothing is started in this folder"))?;
    let shown = record.unit.show().map_err(|error| StepFailure::new(Reason::NotReady, error.to_string()))?;
    Ok((record, shown))
}

fn ask(folder: &Folder, record: &Record, shown: &Shown, main: Option<&Identity>) -> StepResult<Tried> {
    let Some(kept) = &record.kept else {
        return Ok(Tried::Unasked("its configuration is not on this host any more".to_owned()));
    };
    let secrets = kept.secrets.clone().unwrap_or_default();
    ready::ask(folder, &record.state, &kept.configuration, &secrets, &shown.control_group, main)
}

/// The last lines of the log, without the secret values that are kept for this configuration; none, where it has values that nobody has
/// here.
fn last_lines(folder: &Folder, config: &ConfigHash) -> Vec<String> {
    let Some(kept) = configuration::load(folder, config).ok().flatten() else { return Vec::new() };
    keeper::told_lines(folder, &kept.configuration, kept.secrets.as_ref())
}

/// True: the process is dead.
fn wait_for_end(process: Option<&Identity>, timeout: Duration) -> bool {
    match process.map(find) {
        Some(Found::Alive(handle)) => handle.wait(timeout),
        Some(Found::Dead) => true,
        Some(Found::Hidden) | None => {
            std::thread::sleep(timeout);
            false
        }
    }
}

/// It ended before it was ready, or while it had to stay so. One that never was ready is not started again by systemd.
fn died(folder: &Folder, record: &mut Record, shown: &Shown) -> Box<StepFailure> {
    let ended = record.last_end(folder, shown);
    let why = ended.as_ref().map_or_else(
        || "the application ended, and nobody saw how".to_owned(),
        |ended| format!("the application {}", ended.in_words()),
    );
    let mut failure = StepFailure::new(Reason::ProcessDied, why);
    failure.lines = record.last_lines(folder);
    failure.ended.clone_from(&ended);
    if !record.state.was_ready {
        record.state.last_end = ended.map(|ended| Ended { lines: failure.lines.clone(), ..ended });
        record.state.phase = Phase::Ended;
        // What can't be taken down or written now shows at the next look.
        let _ = take_down(folder, record).and_then(|()| record.write(folder, Reason::ProcessDied));
    }
    failure
}

/// The unit is stopped, and where it is ours it is taken away, so that no boot starts it.
fn take_down(folder: &Folder, record: &Record) -> StepResult<()> {
    let failed = |why: String| StepFailure::new(Reason::StopFailed, why);
    let unit = &record.unit;
    let shown = unit.show().map_err(|error| failed(error.to_string()))?;
    let place = if unit.is_own { Some(unit.place()?) } else { None };
    if let Some(place) = &place {
        check_ours(folder, record, place, &shown)?;
    }
    if Now::of(&shown, unit.is_own).is_up() {
        if let Err(failure) = unit.check_names(folder, Reason::StopFailed) {
            // What was stopped for this project may have been given to something else since.
            return if record.state.phase == Phase::Stopped { Ok(()) } else { Err(failure) };
        }
        let grace = record.runtime().map_or(DEFAULT_GRACE, |runtime| keeper::grace(&runtime.stop));
        let limit = grace + STOP_TIMEOUT;
        let mut called = Ok(());
        gate::pass("unit.stop", || {
            called = unit.manager.stop(&unit.name, limit);
            Ok(())
        })
        .map_err(|error| failed(error.to_string()))?;
        called.map_err(|error| failed(format!("systemctl stop {}: {error}", unit.name)))?;
        let shown = unit.show().map_err(|error| failed(error.to_string()))?;
        let left = ready::members(&shown.control_group);
        if Now::of(&shown, unit.is_own).is_up() || !left.is_empty() {
            let mut failure = failed(format!("unit {} is {} after systemctl stop", unit.name, shown.sub));
            failure.strangers = describe_all(&left);
            return Err(failure);
        }
    }
    let Some(place) = place else { return Ok(()) };
    let was_there = place
        .remove(&unit.name, folder)
        .map_err(|error| files::failure(Reason::StopFailed, &error, &place.path(&unit.name)))?;
    let path = unit::environment_path(folder);
    gate::pass("unit.environment", || files::remove_file(&path))
        .map_err(|error| files::failure(Reason::StopFailed, &error, &path))?;
    // systemd may remember one whose files a dead process removed.
    if was_there || shown.load == "loaded" {
        unit.manager.reload().map_err(|error| failed(format!("systemctl daemon-reload: {error}")))?;
    }
    // Else it would be listed as failed for ever. One that is not loaded has nothing to forget.
    let _ = unit.manager.reset_failed(&unit.name);
    Ok(())
}

/// Nothing is stopped or removed that only has our unit's name.
fn check_ours(folder: &Folder, record: &Record, place: &Place, shown: &Shown) -> StepResult<()> {
    let unit = &record.unit;
    let on_disk = place.look(&unit.name, folder);
    let path = place.path(&unit.name);
    let elsewhere = !shown.fragment.is_empty() && Path::new(&shown.fragment) != path;
    if elsewhere || matches!(on_disk, OnDisk::Foreign) {
        let what = if elsewhere { shown.fragment.clone() } else { path.display().to_string() };
        let why = format!("unit {} is not touched: {what} is not a unit of this project's folder", unit.name);
        return Err(StepFailure::new(Reason::StopFailed, why));
    }
    Ok(())
}
