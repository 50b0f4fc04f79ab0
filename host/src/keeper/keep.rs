//! The keeper's own loop. It waits on signals, on the application's pidfd, on its probes, and for the next time at which something is due;
//! nothing that it does there waits for long.

mod begin;
mod end;
mod probes;
mod start;
mod upgrade;

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use landfall_host_protocol::{Configuration, ProcessRuntime, Reason, Runtime, Start};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::FlockOperation,
    io::Errno,
};

pub use self::{
    begin::run,
    upgrade::{run_check, run_upgraded},
};
use super::{
    asked::Asked,
    hands::{Exit, Hands, hands_of},
    order::{Act, LaterOrder, Order, Work},
    restart::Backoff,
    rotation::Rotation,
    signals::Signals,
    state::{KeeperRecord, Phase, State},
};
use crate::{
    clock,
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    gate,
    process::{Found, Handle, Identity, find, instance_value, start_time_now, timespec},
    program,
    records::Lock,
    task,
};

/// Another keeper of the folder is given this long to end.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at a process that has no pidfd, or whose record could not be written.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks whether a runner died that left something to undo.
const UNDO_INTERVAL: Duration = Duration::from_secs(1);
/// The same after undos that came to nothing.
const UNDO_INTERVAL_MAX: Duration = Duration::from_secs(60);
/// A failed probe's words are not written more often.
const WORDS_INTERVAL: Duration = Duration::from_secs(1);

struct Keeper {
    folder: Folder,
    order: Order,
    runtime: ProcessRuntime,
    state: State,
    hands: Box<dyn Hands>,
    signals: Signals,
    /// Held as long as this is the folder's keeper.
    lock: OwnedFd,
    application: Option<Handle>,
    /// When it was, as start times count.
    seen_alive: u64,
    backoff: Backoff,
    started: Instant,
    readiness: Option<Asked>,
    liveness: Option<Asked>,
    rotation: Rotation,
    undo_due: Instant,
    undo_pause: Duration,
    /// When it is tried again to end what could not be ended.
    unended_due: Instant,
    /// The record could not be written; it is tried again.
    unwritten: bool,
    /// Words of a failed probe wait to be written.
    words_unwritten: bool,
    words_written: Instant,
}

/// What a turn of the loop comes to.
enum Turn {
    On,
    Done,
}

impl Keeper {
    /// `None`: the folder has a keeper already, or needs none, and that is all that was wanted. The folder's lock is held until the keeper is
    /// on record where nobody else sees to that no task begins meanwhile.
    fn new(folder: Folder, order: Order) -> StepResult<Option<(Self, Option<Lock>)>> {
        let file = open_lock(&folder)?;
        let undisturbed = match order.work {
            Work::Start | Work::Beside => None,
            Work::Mend => match undisturbed(&folder)? {
                Some(lock) => Some(lock),
                None => return Ok(None),
            },
        };
        let Some(lock) = take_lock(&folder, file, order.work)? else { return Ok(None) };
        let before =
            State::read(&folder).map_err(|error| files::failure(Reason::StartFailed, &error, &folder.state()))?;
        let state = match (order.work, before) {
            (Work::Beside, Some(state)) => state,
            (Work::Mend, Some(state)) if is_running(&state) => state,
            (Work::Beside | Work::Mend, _) => return Ok(None),
            (Work::Start, before) => {
                let left = before.as_ref().map(|state| (state.unended.clone(), state.unended_seen));
                let (unended, unended_seen) = left.unwrap_or_default();
                State { unended, unended_seen, ..new_state(&order, before)? }
            }
        };
        let keeper = Self::with(folder, order, state, Backoff::default(), lock)?;
        Ok(Some((keeper, undisturbed)))
    }

    fn with(folder: Folder, order: Order, state: State, backoff: Backoff, lock: OwnedFd) -> StepResult<Self> {
        let Runtime::Process(runtime) = order.start.config.runtime.clone() else {
            return Err(StepFailure::new(Reason::Internal, "a keeper keeps processes only"));
        };
        let hands = hands_of(order.start.config.run_as.as_ref(), &folder.log(0));
        let signals = Signals::register()
            .map_err(|error| StepFailure::new(Reason::StartFailed, format!("keeper: signals: {error}")))?;
        let now = clock::monotonic();
        let rotation = Rotation::new(&folder, &order.start.config.log);
        Ok(Self {
            folder,
            order,
            runtime,
            state,
            hands,
            signals,
            lock,
            application: None,
            seen_alive: 0,
            backoff,
            started: now,
            readiness: None,
            liveness: None,
            rotation,
            undo_due: now,
            undo_pause: UNDO_INTERVAL,
            unended_due: now,
            unwritten: false,
            words_unwritten: false,
            words_written: now,
        })
    }

    fn configuration(&self) -> &Configuration {
        &self.order.start.config
    }

    fn keep(&mut self) -> u8 {
        loop {
            self.wait();
            if let Turn::Done = self.turn() {
                return 0;
            }
        }
    }

    fn wait(&self) {
        let now = clock::monotonic();
        let runs = matches!(self.state.phase, Phase::Running);
        let mut due = self.rotation.due().min(self.undo_due);
        let mut earlier = |time: Instant| due = due.min(time);
        let liveness = || self.liveness.iter().filter(|_| self.was_ready_in_this_run());
        let probes = || self.readiness.iter().chain(liveness()).filter(|_| runs);
        probes().filter_map(Asked::due).for_each(&mut earlier);
        if self.words_unwritten {
            earlier(self.words_written + WORDS_INTERVAL);
        }
        if let Phase::Waiting { at } = self.state.phase {
            let start = now + Duration::from_millis(at.saturating_sub(clock::uptime_millis()));
            earlier(start.max(self.unended_due));
        }
        let unheld = runs && self.application.as_ref().is_none_or(|handle| handle.pidfd().is_none());
        if self.unwritten || unheld {
            earlier(now + LOOK_INTERVAL);
        }
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.signals.orders(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.signals.children(), PollFlags::IN),
        ];
        if runs && let Some(pidfd) = self.application.as_ref().and_then(Handle::pidfd) {
            fds.push(PollFd::from_borrowed_fd(pidfd, PollFlags::IN));
        }
        let watched = probes().flat_map(|asked| asked.watched(self.hands.as_ref()));
        fds.extend(watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let _ = poll(&mut fds, Some(&timespec(due.saturating_duration_since(now))));
    }

    fn turn(&mut self) -> Turn {
        let ordered = self.signals.take();
        if self.signals.shutdown() {
            return self.shut_down();
        }
        if ordered && let Turn::Done = self.obey() {
            return Turn::Done;
        }
        let exit = self.reap();
        let now = start_time_now();
        if matches!(self.state.phase, Phase::Running) && !self.is_alive() {
            return self.on_end(exit);
        }
        self.seen_alive = now;
        if let Phase::Waiting { at } = self.state.phase
            && clock::uptime_millis() >= at
            && clock::monotonic() >= self.unended_due
        {
            return self.start_again();
        }
        let words_due = self.words_unwritten && clock::monotonic() >= self.words_written + WORDS_INTERVAL;
        if self.unwritten || words_due {
            self.words_written = clock::monotonic();
            self.write();
        }
        if matches!(self.state.phase, Phase::Running) {
            self.ask_readiness();
            if let Turn::Done = self.ask_liveness() {
                return Turn::Done;
            }
        }
        self.rotation.turn();
        self.see_to_undo();
        Turn::On
    }

    fn is_alive(&self) -> bool {
        match &self.application {
            Some(handle) => handle.is_alive(),
            None => self.state.application.as_ref().is_some_and(|identity| !matches!(find(identity), Found::Dead)),
        }
    }

    fn reap(&mut self) -> Option<Exit> {
        let wanted = self.state.application.as_ref().map_or(0, |identity| identity.pid);
        self.hands.reap(wanted)
    }

    /// Writes the record. One that can't be written now is written later: the application matters more.
    fn write(&mut self) {
        self.unwritten = self.state.write(&self.folder).is_err();
        self.words_unwritten &= self.unwritten;
    }

    /// The last record of this keeper. A full disk is given some time.
    fn write_last(&mut self) -> Turn {
        self.rotation.hurry();
        self.rotation.turn();
        for _ in 0..50 {
            self.write();
            if !self.unwritten || !self.folder.dot().exists() {
                break;
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        Turn::Done
    }

    /// TERM passes through, and restarts nothing.
    fn shut_down(&mut self) -> Turn {
        if matches!(self.state.phase, Phase::Running) {
            let stop = self.runtime.stop.clone();
            self.state.last_end = Some(self.end_application(&stop));
        }
        self.state.phase = Phase::Ended;
        self.state.ready_since = None;
        self.write_last()
    }

    fn obey(&mut self) -> Turn {
        let Some(order) = LaterOrder::read(&self.folder).filter(|order| order.instance == self.state.instance) else {
            return Turn::On;
        };
        match order.act {
            Act::StandDown => {
                if matches!(self.state.phase, Phase::Running) {
                    let stop = self.runtime.stop.clone();
                    self.state.last_end = Some(self.end_application(&stop));
                }
                self.state.phase = Phase::Stopped;
                self.state.ready_since = None;
                self.state.probe_failure = None;
                self.write_last()
            }
            Act::Upgrade { program } => {
                let _ = LaterOrder::remove(&self.folder);
                // Where that fails this program goes on.
                let _ = self.become_program(&program);
                Turn::On
            }
        }
    }

    /// Since its last start.
    fn was_ready_in_this_run(&self) -> bool {
        self.state.is_ready() || self.state.unready_since.is_some()
    }

    /// A runner that died can't undo what its task drained: a child does, that is none of the application's.
    fn see_to_undo(&mut self) {
        let now = clock::monotonic();
        if now < self.undo_due {
            return;
        }
        self.undo_due = now + UNDO_INTERVAL;
        // It is reaped as the others are. One that takes its time is not hurried by another.
        self.state.apart.retain(|process| !matches!(find(process), Found::Dead));
        if !self.state.apart.is_empty() {
            return;
        }
        let Some(child) = task::spawn_undo(&self.folder) else {
            self.undo_pause = UNDO_INTERVAL;
            return;
        };
        // One that can't be done, or not be recorded, is tried ever more rarely.
        self.undo_due = now + self.undo_pause;
        self.undo_pause = (self.undo_pause * 2).min(UNDO_INTERVAL_MAX);
        self.state.apart.extend(i32::try_from(child.id()).ok().and_then(Identity::of));
        self.write();
    }
}

/// A new record of a start; the counter goes on.
fn new_state(order: &Order, before: Option<State>) -> StepResult<State> {
    let instance =
        instance_value().map_err(|error| StepFailure::new(Reason::StartFailed, format!("/dev/urandom: {error}")))?;
    let Start { digest, revision, redeploys, .. } = &order.start;
    // What had been ready and is started again, after a reboot or without its keeper, is not new: an outside cause may keep it from being
    // ready at once. Where its configuration changed within a revision, as by another address of the host, that is no new one either.
    let same = |state: &&State| {
        state.uid == order.uid
            && state.digest == *digest
            && (state.revision, state.redeploys) == (*revision, *redeploys)
    };
    let was_ready = before.as_ref().filter(same).is_some_and(|state| state.was_ready);
    let counter = before.map_or(0, |state| state.counter);
    let keeper = Some(own_record(true)?);
    Ok(State { keeper, was_ready, ..State::new(&order.start, order.uid.clone(), instance, counter) })
}

/// What is on record runs.
fn is_running(state: &State) -> bool {
    let lives = |application: &Identity| matches!(find(application), Found::Alive(_));
    state.phase == Phase::Running && state.application.as_ref().is_some_and(lives)
}

/// The folder's lock, where no task is at work; `None`: one is, and sees to the application itself.
fn undisturbed(folder: &Folder) -> StepResult<Option<Lock>> {
    let lock = Lock::take(folder, "puts a keeper beside the application")
        .map_err(|refusal| StepFailure::new(Reason::StartFailed, format!("{refusal:?}")))?;
    Ok(task::open(folder).is_none_or(|task| !task.running).then_some(lock))
}

fn own_record(parent: bool) -> StepResult<KeeperRecord> {
    let identity = Identity::own().ok_or_else(|| {
        StepFailure::new(Reason::HostUnsupported, "/proc does not show this very process; is it mounted?")
    })?;
    Ok(KeeperRecord { identity, program: program::digest(), parent })
}

fn open_lock(folder: &Folder) -> StepResult<File> {
    let path = folder.dot().join("keeper");
    gate::pass("keeper.lock", || files::open_append(&path, 0o600))
        .map_err(|error| files::failure(Reason::StartFailed, &error, &path))
}

/// One keeper a folder. A start waits for the one before to end; `None`: there is one, and it stays.
fn take_lock(folder: &Folder, file: File, work: Work) -> StepResult<Option<OwnedFd>> {
    let failed = |error: &io::Error| files::failure(Reason::StartFailed, error, &folder.dot().join("keeper"));
    let end = clock::monotonic() + LOCK_TIMEOUT;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(OwnedFd::from(file))),
            Err(Errno::WOULDBLOCK) if work != Work::Start => return Ok(None),
            Err(Errno::WOULDBLOCK) if clock::monotonic() < end => std::thread::sleep(Duration::from_millis(5)),
            Err(Errno::WOULDBLOCK) => {
                return Err(StepFailure::new(Reason::StartFailed, "another keeper of this folder does not end"));
            }
            Err(error) => return Err(failed(&error.into())),
        }
    }
}
