//! A unit of systemd: landfall's own, which comes up after a reboot without us, or one that an administrator installed and that landfall only
//! starts, stops and asks about.
//!
//! systemd alone starts the application again. No unit is touched that does not name our folder, and nothing is signalled from here.

mod asking;
mod begin;
mod end;
mod ended;
mod environment;
mod fit;
mod now;
mod reach;
mod ready;
mod record;
mod systemctl;
mod tell;
mod unit;
mod watcher;

use std::time::Duration;

use landfall_host_protocol::{FolderFacts, ProcessState, Reason, Secrets, Start};

use super::{IsCancelled, Patience, Runtime, Waited, configuration, process, shared};
use crate::{
    clock,
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    keeper::{self, Phase, State},
    probe,
    process::{Found, boot_id, find, instance_value, suspected, suspected_beside},
};
use asking::Asking;
use begin::{begin, install, is_its_own, start_failed, write_environment};
use end::take_down;
use fit::{check_administrators, check_manager, check_own, check_secrets, plain_environment, runtime_of};
use now::{Now, has_ended};
use reach::Unit;
use record::{Record, last_lines, record_ready, record_start, seen};
use tell::{died, stopped_by_hand, tell};

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

pub(super) use end::check_down;
pub(super) use watcher::{run as watch, start as attend};

pub(super) struct Systemd;

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
        let known = || {
            let mut known = ready::members(&shown.control_group);
            known.extend(shown.main());
            match State::read(folder).ok().flatten() {
                Some(state) if state.unit.is_some() => known.extend(ready::probes(&state)),
                // Another runtime's, which is stopped before this one starts.
                Some(state) => known.extend(process::everything(&state)),
                None => {}
            }
            known
        };
        let strangers = suspected_beside(&folder.releases(), known);
        if strangers.is_empty() { Ok(()) } else { Err(process::suspicion(strangers)) }
    }

    fn stop(&self, folder: &Folder) -> StepResult<Option<String>> {
        let Some(mut record) = Record::alone(folder, Reason::StopFailed)? else { return Ok(None) };
        take_down(folder, &record)?;
        if record.state.phase != Phase::Stopped {
            record.state.phase = Phase::Stopped;
            record.state.ready_since = None;
            record.write(folder, Reason::StopFailed)?;
        }
        Ok(None)
    }

    fn start(&self, folder: &Folder, start: &Start, secrets: &Secrets, _: &Patience) -> StepResult<()> {
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
            let left = state.living_unended();
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
        shared::prepare(folder, &start.config, secrets)?;
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
