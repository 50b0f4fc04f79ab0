//! A watcher: a small process beside a unit, which asks the readiness probe all the time, tells in `state` what systemd does to the
//! application, and rotates its log. It is on record as the keeper. It starts, stops and signals nothing: a unit does without it, and the next
//! look puts another one there.

use std::{
    os::fd::AsFd,
    path::Path,
    time::{Duration, Instant},
};

use landfall_host_protocol::{FolderName, Reason};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::Signal,
};

use super::{
    super::beside,
    asking::{Asking, ask},
    configuration,
    now::Now,
    ready,
    record::Record,
    systemctl::Shown,
};
use crate::{
    clock,
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    keeper::{self, Phase, State},
    probe::Tried,
    process::{Found, Handle, Identity, descendants, find, timespec},
};

/// Between two looks at whether it is still the one on record.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks at a unit that is about to be started again.
const RESTART_INTERVAL: Duration = Duration::from_millis(250);
/// Between two looks at the log's length.
const ROTATE_INTERVAL: Duration = Duration::from_secs(10);
/// Between two changes of the words of a probe that fails.
const WORDS_INTERVAL: Duration = Duration::from_secs(1);
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Puts a watcher beside a unit that has none; to be called under the folder's lock or by who is alone with it.
pub(in crate::runtime) fn start(folder: &Folder) -> StepResult<()> {
    let Some(mut record) = Record::read(folder, Reason::StartFailed)? else { return Ok(()) };
    if record.state.phase != Phase::Running || keeper::is_living(&record.state).is_some() {
        return Ok(());
    }
    beside::put(folder, |keeper| {
        record.state.keeper = Some(keeper);
        record.write(folder, Reason::StartFailed)
    })
}

/// Ends the watcher of this record, and a probe that it or one before it left; what it writes is whole at any time.
pub(super) fn end(folder: &Folder, state: &State) {
    let mut below = Vec::new();
    if let Some(watcher) = keeper::is_living(state) {
        below = descendants(watcher.identity().pid);
        let _ = watcher.signal(Signal::KILL);
        watcher.wait(END_TIMEOUT);
    }
    let kept = state.config.as_ref().and_then(|hash| configuration::load(folder, hash).ok().flatten());
    if let Some(kept) = kept {
        ready::end_probes(folder, state, &kept.configuration, below);
    }
}

/// Runs as a watcher; answers the exit status.
pub(in crate::runtime) fn run(root: &Path, name: FolderName, own: Identity) -> u8 {
    let folder = Folder::new(root, name);
    let mut watcher = Watcher { folder, own, asking: Asking::default(), rotated: clock::monotonic(), spoke: None };
    // A record that can't be read or written is somebody else's work; the next look tries again.
    u8::from(watcher.watch().is_err())
}

struct Watcher {
    folder: Folder,
    own: Identity,
    asking: Asking,
    rotated: Instant,
    /// When the words of a failed probe were written last.
    spoke: Option<Instant>,
}

impl Watcher {
    fn watch(&mut self) -> StepResult<()> {
        loop {
            let Some(mut record) = self.record()? else { return Ok(()) };
            let shown = record.unit.show().map_err(|error| StepFailure::new(Reason::Internal, error.to_string()))?;
            match Now::of(&shown, record.unit.is_own) {
                Now::Running(Some(main)) => {
                    self.note_run(&mut record, &main)?;
                    if record.state.is_ready() {
                        self.asking.go_on(&record, Some(&main));
                    } else {
                        self.asking.begin(&record, &shown, Some(&main));
                    }
                    let Found::Alive(process) = find(&main) else {
                        // systemd has not seen its end yet.
                        std::thread::sleep(RESTART_INTERVAL);
                        continue;
                    };
                    if !self.follow(&shown, &process)? {
                        return Ok(());
                    }
                }
                // (An administrator's without a main process has none to follow.)
                Now::Running(None) | Now::Completed | Now::Failed | Now::Inactive => return Ok(()),
                Now::Waiting | Now::Changing => {
                    if record.state.is_ready() {
                        record.state.ready_since = None;
                        record.write(&self.folder, Reason::Internal)?;
                    }
                    std::thread::sleep(RESTART_INTERVAL);
                }
            }
        }
    }

    /// `None`: this watcher is not the one on record any more.
    fn record(&self) -> StepResult<Option<Record>> {
        let record = Record::read(&self.folder, Reason::Internal)?;
        Ok(record.filter(|record| {
            let is_own = record.state.keeper.as_ref().is_some_and(|keeper| keeper.identity == self.own);
            is_own && record.state.phase == Phase::Running
        }))
    }

    /// Another run than the one on record is not ready before it says so.
    fn note_run(&mut self, record: &mut Record, main: &Identity) -> StepResult<()> {
        if record.state.application.as_ref() == Some(main) {
            return Ok(());
        }
        record.state.application = Some(main.clone());
        record.state.ready_since = record.readiness().is_none().then(clock::uptime_millis);
        record.state.unready_since = None;
        record.state.probe_failure = None;
        record.write(&self.folder, Reason::Internal)
    }

    /// Beside one run, to its end; false: somebody else has taken over.
    fn follow(&mut self, shown: &Shown, process: &Handle) -> StepResult<bool> {
        let mut looked = clock::monotonic();
        loop {
            let now = clock::monotonic();
            let is_due = self.asking.tries.as_ref().is_some_and(|tries| tries.due <= now);
            if is_due || now.saturating_duration_since(looked) >= LOOK_INTERVAL {
                looked = now;
                let Some(mut record) = self.record()? else { return Ok(false) };
                if is_due {
                    self.ask(&mut record, shown)?;
                }
                self.rotate(&record);
            }
            let due = self.asking.tries.as_ref().map_or(looked + LOOK_INTERVAL, |tries| tries.due);
            let left = due.min(looked + LOOK_INTERVAL).saturating_duration_since(clock::monotonic());
            match process.pidfd() {
                Some(pidfd) => {
                    let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
                    let _ = poll(&mut fds, Some(&timespec(left)));
                }
                None => std::thread::sleep(left.min(Duration::from_millis(100))),
            }
            if !process.is_alive() {
                return Ok(true);
            }
        }
    }

    fn ask(&mut self, record: &mut Record, shown: &Shown) -> StepResult<()> {
        let Some(tries) = &mut self.asking.tries else { return Ok(()) };
        let began = clock::monotonic();
        // Somebody else who answers is no answer of the application's.
        let tried =
            ask(&self.folder, record, shown, self.asking.of.as_ref()).unwrap_or_else(|failure| Tried::No(failure.why));
        tries.take(&tried, began, clock::monotonic(), true);
        let answer = tries.answer;
        let said = match tried {
            Tried::No(why) | Tried::Unasked(why) => Some(why),
            Tried::Yes => tries.progress(),
            Tried::Interrupted => return Ok(()),
        };
        let (was_ready, state) = (record.state.is_ready(), &mut record.state);
        match answer {
            Some(true) if !was_ready => {
                state.ready_since = Some(clock::uptime_millis());
                state.unready_since = None;
                state.was_ready = true;
                state.probe_failure = None;
            }
            Some(false) if was_ready => {
                state.ready_since = None;
                state.unready_since = Some(clock::uptime_millis());
                state.probe_failure = said;
            }
            _ if !was_ready && state.probe_failure != said => {
                let rested = self.spoke.is_none_or(|spoke| spoke.elapsed() >= WORDS_INTERVAL);
                if !rested {
                    return Ok(());
                }
                state.probe_failure = said;
                self.spoke = Some(clock::monotonic());
            }
            _ => return Ok(()),
        }
        record.write(&self.folder, Reason::Internal)
    }

    /// Only what we have systemd write to.
    fn rotate(&mut self, record: &Record) {
        if !record.unit.is_own || self.rotated.elapsed() < ROTATE_INTERVAL {
            return;
        }
        self.rotated = clock::monotonic();
        if let Some(kept) = &record.kept {
            files::collect_left_over(&self.folder.shared().join("log"));
            let _ = keeper::rotate_log(&self.folder, &kept.configuration.log);
        }
    }
}
