//! The starts of an application: the first, and each one after an end.

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use landfall_host_protocol::{Ended, Reason, Secrets, Start, WaitingReason};
use rustix::io::Errno;

use super::{Keeper, Turn, own_record};
use crate::{
    clock,
    failure::{StepFailure, StepResult},
    files,
    keeper::{
        asked::Asked, ending::unended, environment::environment, launch::Launch, log, missing_secret, restart::Next,
        state::Phase,
    },
    process::{Found, find, start_time_now},
    steps::staged,
};

impl Keeper {
    /// Puts itself beside what runs.
    pub(super) fn take_over(&mut self) -> StepResult<()> {
        self.state.keeper = Some(own_record(false)?);
        self.hold_application();
        // A probe's initial delay counts from the application's start.
        let ticks = self.state.application.as_ref().map_or(0, |process| start_time_now().saturating_sub(process.start));
        let now = clock::monotonic();
        self.watch_from(now.checked_sub(Duration::from_millis(ticks.saturating_mul(10))).unwrap_or(now));
        if let Some(asked) = &mut self.readiness {
            asked.tries.answer = Some(self.state.is_ready());
        }
        self.state
            .write(&self.folder)
            .map_err(|error| files::failure(Reason::StartFailed, &error, &self.folder.state()))
    }

    /// Starts the application: its identity is on record before it is what it is.
    pub(super) fn start(&mut self) -> StepResult<()> {
        if !self.try_unended() {
            return Err(unended(&self.state.unended));
        }
        let nothing = Secrets::default();
        let secrets = self.order.secrets.as_ref().unwrap_or(&nothing);
        let env = environment(self.configuration(), secrets, &self.state.instance)
            .map_err(|why| StepFailure::new(Reason::StartFailed, why))?;
        let failed = |error: &io::Error, path: &Path| files::failure(Reason::StartFailed, error, path);
        let log_path = self.folder.log(0);
        let mut output = log::open(&self.folder).map_err(|error| failed(&error, &log_path))?;
        let Start { release, revision, redeploys, .. } = &self.order.start;
        let line = format!("=== landfall starts {release}, rollout {revision}.{redeploys}");
        log::begin(&mut output, &line).map_err(|error| failed(&error, &log_path))?;
        let identity = self
            .hands
            .prepare(&output)
            .map_err(|error| StepFailure::new(Reason::StartFailed, format!("no process could be started: {error}")))?;
        self.state.application = Some(identity);
        self.state.phase = Phase::Running;
        self.state.unready_since = None;
        self.state.probe_failure = None;
        self.state.strangers.clear();
        self.state.awaiting_secrets = false;
        if let Some(record) = &mut self.state.keeper {
            record.parent = true;
        }
        let has_probe = self.configuration().readiness.is_some();
        self.state.ready_since = (!has_probe).then(clock::uptime_millis);
        let was_ready = self.state.was_ready;
        self.state.was_ready |= !has_probe;
        self.state.write(&self.folder).map_err(|error| failed(&error, &self.folder.state()))?;
        let launch = Launch { command: self.runtime.command.clone(), env, folder: self.folder.release(release) };
        if let Err(error) = self.hands.go(&launch) {
            let format = error.errno == Some(Errno::NOEXEC.raw_os_error());
            self.state.was_ready = was_ready;
            self.state.ready_since = None;
            self.state.phase = Phase::Ended;
            self.write();
            let reason = if format { Reason::ExecFormat } else { Reason::StartFailed };
            return Err(StepFailure::new(reason, error.why));
        }
        self.hold_application();
        self.watch_from(clock::monotonic());
        Ok(())
    }

    pub(super) fn start_again(&mut self) -> Turn {
        if !self.is_rid_of_leftovers() {
            return Turn::On;
        }
        if missing_secret(self.configuration(), self.order.secrets.as_ref()).is_some() {
            self.state.phase = Phase::Ended;
            self.state.awaiting_secrets = true;
            return self.write_last();
        }
        let tampered = staged::tampered(&self.folder, &self.order.start.release);
        if !tampered.is_empty() {
            // It may be put back.
            let release = &self.order.start.release;
            let why = format!("ReleaseTampered: files of {release} were changed on the host: {}", tampered.join(", "));
            self.state.last_end = Some(Ended {
                status: None,
                signal: None,
                at: clock::uptime_millis(),
                out_of_memory: false,
                lines: vec![why],
            });
            return self.follow(Next::Restart, Duration::ZERO);
        }
        self.state.restarts = self.state.restarts.saturating_add(1);
        match self.start() {
            Ok(()) => Turn::On,
            Err(failure) => {
                // A full disk or a release that is gone may come back.
                self.state.waiting = match failure.reason {
                    Reason::ReleaseTampered => WaitingReason::Tampered,
                    Reason::StopFailed => WaitingReason::Survivors,
                    _ => WaitingReason::StartFailed,
                };
                self.state.last_end = Some(Ended {
                    status: None,
                    signal: None,
                    at: clock::uptime_millis(),
                    out_of_memory: false,
                    lines: vec![failure.why],
                });
                self.follow(Next::Restart, Duration::ZERO)
            }
        }
    }

    pub(super) fn hold_application(&mut self) {
        self.application = self.state.application.as_ref().and_then(|identity| match find(identity) {
            Found::Alive(handle) => Some(handle),
            Found::Dead | Found::Hidden => None,
        });
    }

    /// The probes start from the beginning.
    pub(super) fn watch_from(&mut self, started: Instant) {
        self.started = started;
        self.readiness = self.configuration().readiness.as_ref().map(|probe| Asked::new(probe, started));
        self.liveness = self.configuration().liveness.as_ref().map(|probe| Asked::new(probe, started));
    }
}
