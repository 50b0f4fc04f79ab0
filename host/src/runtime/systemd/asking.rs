//! The questions of who waits for a unit's readiness. Nothing is written here.

use std::time::{Duration, Instant};

use super::{IsCancelled, LOOK_INTERVAL, ready, record::Record, systemctl::Shown};
use crate::{
    clock,
    failure::StepResult,
    folder::Folder,
    keeper::Tries,
    probe::Tried,
    process::{Found, Identity, find},
};

/// The questions to one run of the application, by who waits.
#[derive(Default)]
pub(super) struct Asking {
    pub(super) of: Option<Identity>,
    /// `None`: it has no probe.
    pub(super) tries: Option<Tries>,
    /// Why it is not ready.
    pub(super) said: Option<String>,
}

impl Asking {
    /// Of one that is not ready yet; the questions to another run begin again.
    pub(super) fn begin(&mut self, record: &Record, shown: &Shown, main: Option<&Identity>) {
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
    pub(super) fn go_on(&mut self, record: &Record, main: Option<&Identity>) {
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
    pub(super) fn until(
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
    pub(super) fn is_settled(&self, answer: bool) -> bool {
        self.tries.as_ref().map_or(answer, |tries| tries.answer == Some(answer))
    }

    /// One try, where it is due.
    pub(super) fn answer(&mut self, folder: &Folder, record: &Record, shown: &Shown) -> StepResult<()> {
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
    pub(super) fn wait(&self, end: Instant) -> bool {
        let due = self.tries.as_ref().map_or(end, |tries| tries.due.min(end));
        let left = due.saturating_duration_since(clock::monotonic()).min(LOOK_INTERVAL);
        wait_for_end(self.of.as_ref(), left) || self.of.is_none()
    }
}

pub(super) fn ask(folder: &Folder, record: &Record, shown: &Shown, main: Option<&Identity>) -> StepResult<Tried> {
    let Some(kept) = &record.kept else {
        return Ok(Tried::Unasked("its configuration is not on this host any more".to_owned()));
    };
    let secrets = kept.secrets.clone().unwrap_or_default();
    ready::ask(folder, &record.state, &kept.configuration, &secrets, &shown.control_group, main)
}

/// True: the process is dead.
pub(super) fn wait_for_end(process: Option<&Identity>, timeout: Duration) -> bool {
    match process.map(find) {
        Some(Found::Alive(handle)) => handle.wait(timeout),
        Some(Found::Dead) => true,
        Some(Found::Hidden) | None => {
            std::thread::sleep(timeout);
            false
        }
    }
}
