//! What is on record of a folder whose application is a unit. Nothing is asked of the application, and nothing done to the unit.

use landfall_host_protocol::{ConfigHash, Ended, Probe, Reason, Runtime as Kind, SystemdRuntime};

use super::{
    configuration, ended,
    now::Now,
    reach::Unit,
    systemctl::{Exit, Shown},
    watcher,
};
use crate::{
    clock,
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    keeper::{self, Phase, State},
    process::{boot_id, signal_name},
};

/// What is on record of a folder, and the unit that it names.
pub(super) struct Record {
    pub(super) state: State,
    pub(super) kept: Option<configuration::Kept>,
    pub(super) unit: Unit,
}

impl Record {
    /// `None`: no unit is on record.
    pub(super) fn read(folder: &Folder, reason: Reason) -> StepResult<Option<Self>> {
        let failed = |error: std::io::Error| files::failure(reason, &error, &folder.dot());
        let Some(state) = State::read(folder).map_err(failed)? else { return Ok(None) };
        let Some(name) = state.unit.clone() else { return Ok(None) };
        let kept = state.config.as_ref().and_then(|hash| configuration::load(folder, hash).ok().flatten());
        Ok(Some(Self { unit: Unit::named(folder, name), state, kept }))
    }

    /// The same for who is about to write it: no watcher does so any more.
    pub(super) fn alone(folder: &Folder, reason: Reason) -> StepResult<Option<Self>> {
        if let Some(record) = Self::read(folder, reason)? {
            watcher::end(folder, &record.state);
        }
        Self::read(folder, reason)
    }

    pub(super) fn runtime(&self) -> Option<&SystemdRuntime> {
        match &self.kept.as_ref()?.configuration.runtime {
            Kind::Systemd(runtime) => Some(runtime),
            _ => None,
        }
    }

    pub(super) fn readiness(&self) -> Option<&Probe> {
        self.kept.as_ref()?.configuration.readiness.as_ref()
    }

    /// Since when it is ready, in milliseconds since boot. With a probe the very process must have answered; without one it is ready while
    /// it runs.
    pub(super) fn ready_since(&self, now: &Now, shown: &Shown) -> Option<u64> {
        let since = shown.active_since.min(clock::uptime_millis());
        match now {
            Now::Running(_) if self.readiness().is_none() => Some(since),
            Now::Running(main) => self.state.ready_since.filter(|_| *main == self.state.application),
            Now::Completed => Some(since),
            _ => None,
        }
    }

    /// How the application ended last, as far as somebody saw it.
    pub(super) fn last_end(&self, folder: &Folder, shown: &Shown) -> Option<Ended> {
        let recorded = ended::read(folder).map(|last| last.ended).filter(|_| self.unit.is_own);
        recorded.or_else(|| of_exit(shown)).or_else(|| self.state.last_end.clone())
    }

    /// What the application said last.
    pub(super) fn last_lines(&self, folder: &Folder) -> Vec<String> {
        match &self.state.config {
            Some(config) => last_lines(folder, config),
            None => keeper::tail(folder),
        }
    }

    pub(super) fn write(&mut self, folder: &Folder, reason: Reason) -> StepResult<()> {
        self.state.write(folder).map_err(|error| files::failure(reason, &error, &folder.state()))
    }
}

pub(super) fn of_exit(shown: &Shown) -> Option<Ended> {
    let (status, signal) = match shown.exit? {
        Exit::Status(status) => (Some(status), None),
        Exit::Signal(signal) => (None, Some(signal_name(signal))),
    };
    let out_of_memory = shown.result == "oom-kill";
    Some(Ended { status, signal, at: shown.exited_at, out_of_memory, lines: Vec::new() })
}

/// The last lines of the log, without the secret values that are kept for this configuration; none, where it has values that nobody has
/// here.
pub(super) fn last_lines(folder: &Folder, config: &ConfigHash) -> Vec<String> {
    let Some(kept) = configuration::load(folder, config).ok().flatten() else { return Vec::new() };
    keeper::told_lines(folder, &kept.configuration, kept.secrets.as_ref())
}

/// The unit runs what is on record.
pub(super) fn record_start(folder: &Folder, unit: &Unit) -> StepResult<()> {
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
pub(super) fn record_ready(folder: &Folder, record: &mut Record, now: &Now) -> StepResult<()> {
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
pub(super) fn seen(folder: &Folder) -> StepResult<(Record, Shown)> {
    let record = Record::alone(folder, Reason::NotReady)?.filter(|record| record.state.phase != Phase::Stopped);
    let record = record.ok_or_else(|| StepFailure::new(Reason::NotReady, "nothing is started in this folder"))?;
    let shown = record.unit.show().map_err(|error| StepFailure::new(Reason::NotReady, error.to_string()))?;
    Ok((record, shown))
}
