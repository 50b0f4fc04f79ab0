//! A watcher: a small process beside an application that its commands started, or beside files that have a readiness probe. It asks all the
//! time, tells in `state` what it heard, and rotates the log. It starts, stops and signals nothing of the application, and ends where that is
//! down: whoever starts it again has another watcher put there.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use landfall_host_protocol::{Ended, FolderName, Reason};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::Signal,
};

use super::{
    super::beside,
    Commands, Record,
    asking::{Asking, Look},
    run::{Surroundings, asking_mark},
};
use crate::{
    clock,
    failure::StepResult,
    files,
    folder::Folder,
    keeper::{self, Belonging, Hands as _, Own},
    process::{Found, Handle, Identity, descendants, find, marked, timespec},
};

/// Between two looks at whether it is still the one on record.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks at the log's length.
const ROTATE_INTERVAL: Duration = Duration::from_secs(10);
/// Between two changes of the words of what is not ready.
const WORDS_INTERVAL: Duration = Duration::from_secs(1);
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Processes of the application whose end is seen at once.
const HELD: usize = 8;
/// Between two lists of them.
const LIST_INTERVAL: Duration = Duration::from_secs(5);

/// Puts a watcher beside what is asked about and has none; to be called under the folder's lock or by who is alone with it.
pub(in crate::runtime) fn start(folder: &Folder) -> StepResult<()> {
    let Some(mut record) = Record::read(folder, Reason::StartFailed)? else { return Ok(()) };
    let Some(commands) = record.commands() else { return Ok(()) };
    let asks = matches!(commands, Commands::Script { .. }) || record.config().readiness.is_some();
    if !asks || !commands.is_started(&record.state) || keeper::is_living(&record.state).is_some() {
        return Ok(());
    }
    beside::put(folder, |keeper| {
        record.state.keeper = Some(keeper);
        record.write(folder, Reason::StartFailed)
    })
}

/// Ends the watcher of this record, and what it asks; what it writes is whole at any time.
pub(super) fn end(folder: &Folder, record: &Record) {
    let Some(watcher) = keeper::is_living(&record.state) else { return };
    let known = descendants(watcher.identity().pid);
    let _ = watcher.signal(Signal::KILL);
    watcher.wait(END_TIMEOUT);
    let instance = asking_mark(record);
    match &record.config().run_as {
        // Another user's: his process ends what it was asked for once nobody listens to it. What left that is found by its mark.
        Some(run_as) => {
            let of = Belonging { instance, ..Belonging::default() };
            keeper::hands_of(Some(run_as), &folder.log(0)).end_all(&of, END_TIMEOUT);
        }
        None => {
            let of = Belonging { instance, known, ..Belonging::default() };
            Own::default().end_all(&of, END_TIMEOUT);
        }
    }
}

/// Runs as a watcher; answers the exit status.
pub(in crate::runtime) fn run(root: &Path, name: FolderName, own: Identity) -> u8 {
    let folder = Folder::new(root, name);
    let now = clock::monotonic();
    let mut watcher = Watcher { folder, own, held: Vec::new(), listed: None, rotated: now, spoke: None };
    // A record that can't be read or written is somebody else's work; the next look tries again.
    u8::from(watcher.watch().is_err())
}

struct Watcher {
    folder: Folder,
    own: Identity,
    /// Processes of the application, as far as they are seen.
    held: Vec<Handle>,
    listed: Option<Instant>,
    rotated: Instant,
    /// When words were written last.
    spoke: Option<Instant>,
}

impl Watcher {
    fn watch(&mut self) -> StepResult<()> {
        let Some((record, commands)) = self.record()? else { return Ok(()) };
        let secrets = record.secrets();
        let hands = Surroundings { folder: &self.folder, record: &record, secrets: &secrets }.hands();
        let readiness = record.config().readiness.as_ref();
        let asking = match record.state.is_ready() {
            true => Asking::of_ready(hands, readiness),
            false => Asking::new(hands, readiness),
        };
        let mut asking = asking.at_leisure();
        loop {
            let Some((mut record, _)) = self.record()? else { return Ok(()) };
            let secrets = record.secrets();
            let around = Surroundings { folder: &self.folder, record: &record, secrets: &secrets };
            let look = asking.look(&around, &commands);
            // It may have been told to go while it asked.
            if self.record()?.is_none() {
                return Ok(());
            }
            if self.tell(&mut record, look)? {
                return Ok(());
            }
            self.rotate(&record);
            self.list(&record, &commands);
            if self.wait(asking.due(&commands)) {
                self.held.clear();
                asking.ask_now();
            }
        }
    }

    /// `None`: this watcher is not the one on record any more, or what it is beside is stopped.
    fn record(&self) -> StepResult<Option<(Record, Commands)>> {
        let Some(record) = Record::read(&self.folder, Reason::Internal)? else { return Ok(None) };
        let is_own = record.state.keeper.as_ref().is_some_and(|keeper| keeper.identity == self.own);
        let commands = record.commands().filter(|commands| is_own && commands.is_started(&record.state));
        Ok(commands.map(|commands| (record, commands)))
    }

    /// True: it is down, and nothing is left to be asked.
    fn tell(&mut self, record: &mut Record, look: Look) -> StepResult<bool> {
        let was_ready = record.state.is_ready();
        match look {
            Look::Ready => record.is_ready_now(&self.folder)?,
            Look::NotReady(why) if was_ready => record.is_unready_now(&self.folder, why)?,
            Look::NotReady(why) | Look::NotYet(why) => {
                let is_new = !was_ready && record.state.probe_failure.as_ref() != Some(&why);
                if is_new && self.spoke.is_none_or(|spoke| spoke.elapsed() >= WORDS_INTERVAL) {
                    self.spoke = Some(clock::monotonic());
                    record.state.probe_failure = Some(why);
                    record.write(&self.folder, Reason::Internal)?;
                }
            }
            Look::Down(why) => {
                record.is_down_now(&self.folder, &why)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn rotate(&mut self, record: &Record) {
        if self.rotated.elapsed() >= ROTATE_INTERVAL {
            self.rotated = clock::monotonic();
            files::collect_left_over(&self.folder.shared().join("log"));
            let _ = keeper::rotate_log(&self.folder, &record.config().log);
        }
    }

    /// Whose end is a reason to ask at once. Without a pidfd nobody's is.
    fn list(&mut self, record: &Record, commands: &Commands) {
        let is_due = self.listed.is_none_or(|listed| listed.elapsed() >= LIST_INTERVAL);
        if !self.held.is_empty() || !is_due || matches!(commands, Commands::Static { .. }) {
            return;
        }
        self.listed = Some(clock::monotonic());
        let alive = marked(&record.state.instance).into_iter().filter_map(|process| match find(&process) {
            Found::Alive(handle) => Some(handle),
            Found::Dead | Found::Hidden => None,
        });
        self.held = alive.filter(|handle| handle.pidfd().is_some()).take(HELD).collect();
    }

    /// Until then, or a look; true: a process of the application has ended.
    fn wait(&self, due: Instant) -> bool {
        let left = due.saturating_duration_since(clock::monotonic()).min(LOOK_INTERVAL);
        let mut fds: Vec<PollFd<'_>> =
            self.held.iter().filter_map(Handle::pidfd).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        matches!(poll(&mut fds, Some(&timespec(left))), Ok(ready) if ready > 0)
    }
}

/// What is told of the end of something that nobody saw end.
pub(super) fn ended(why: &str) -> Ended {
    let lines = vec![format!("landfall: found down by its status command: {why}")];
    Ended { status: None, signal: None, at: clock::uptime_millis(), out_of_memory: false, lines }
}
