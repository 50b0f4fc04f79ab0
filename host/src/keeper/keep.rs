//! The keeper's own loop. It waits on signals, on the application's pidfd and for the next time at which something is due.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use landfall_host_protocol::{
    Configuration, Ended, Failure, FolderName, Probe, ProbeAction, ProcessRuntime, Reason, Runtime, Secrets, Start,
    StepName, Stop, WaitingReason,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{FlockOperation, MemfdFlags, SealFlags},
    io::Errno,
    process::Signal,
};
use serde::{Deserialize, Serialize};

use super::{
    asked::{Asked, By, Connecting, Try},
    ending::{self, Unended, unended},
    environment::environment,
    hands::{Begun, Belonging, Executed, Exit, Hands, hands_of},
    launch::Launch,
    log,
    order::{Act, LaterOrder, Order, Work},
    restart::{Backoff, Next, after_end},
    rotation::Rotation,
    signals::Signals,
    state::{KeeperRecord, Phase, State},
};
use crate::{
    as_user::AsUser,
    clock, core_dumps,
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    gate,
    probe::{self, Tried},
    process::{Found, Handle, Identity, find, instance_value, listening, signal_name, start_time_now, timespec, whose},
    program,
    records::Lock,
    steps::staged,
    task,
};

/// Another keeper of the folder is given this long to end.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// A program that is asked whether it can go on is given this long.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at a process that has no pidfd, or whose record could not be written.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks whether a runner died that left something to undo.
const UNDO_INTERVAL: Duration = Duration::from_secs(1);
/// Before a probe is asked again for which there was no room.
const LATER: Duration = Duration::from_millis(50);
/// Between two tries to end what could not be ended.
const UNENDED_INTERVAL: Duration = Duration::from_secs(1);
/// A failed probe's words are not written more often.
const WORDS_INTERVAL: Duration = Duration::from_secs(1);

/// `landfall-host keep ROOT FOLDER`: the order comes on stdin; how the start went is answered on stdout.
pub fn run(root: &Path, name: FolderName) -> u8 {
    core_dumps::refuse();
    let mut text = Vec::new();
    if std::io::stdin().read_to_end(&mut text).is_err() {
        return 1;
    }
    let Ok(order) = serde_json::from_slice::<Order>(&text) else { return 1 };
    drop(text);
    let folder = Folder::new(root, name);
    // Fails only for who is the first of a group already, as by hand in a terminal.
    let _ = rustix::process::setsid();
    let started = prepare_own().and_then(|()| Keeper::new(folder, order));
    let (mut keeper, undisturbed) = match started {
        Ok(Some(started)) => started,
        Ok(None) => return answer(None),
        Err(failure) => return answer(Some(*failure)),
    };
    let begun = match keeper.order.work {
        Work::Start => keeper.first_start(),
        Work::Beside | Work::Mend => keeper.take_over(),
    };
    drop(undisturbed);
    match begun {
        Ok(()) => answer(None),
        Err(failure) => return answer(Some(*failure)),
    };
    keeper.keep()
}

/// Goes on after an exec of this program by an earlier one: same pid, same children; what it knew is on stdin, its lock on stdout.
pub fn run_upgraded(root: &Path, name: FolderName) -> u8 {
    core_dumps::refuse();
    let mut text = Vec::new();
    if std::io::stdin().read_to_end(&mut text).is_err() {
        return 1;
    }
    let Ok(memory) = serde_json::from_slice::<Memory>(&text) else { return 1 };
    let Ok(lock) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3) else { return 1 };
    let run_as = memory.order.start.config.run_as.clone();
    let connection = run_as.as_ref().and_then(|_| rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3).ok());
    if prepare_own().is_err() || close_pipes().is_err() {
        return 1;
    }
    let folder = Folder::new(root, name);
    let log = folder.log(0);
    match Keeper::recalled(folder, memory, lock) {
        Ok(mut keeper) => {
            if let Some((run_as, connection)) = run_as.zip(connection) {
                keeper.hands = Box::new(AsUser::resumed(&run_as, &log, connection));
            }
            keeper.keep()
        }
        Err(_) => 1,
    }
}

/// `landfall-host can-keep-on`: whether this program understands what an earlier one knew, which is on stdin.
pub fn run_check() -> u8 {
    core_dumps::refuse();
    let mut text = Vec::new();
    let read = std::io::stdin().read_to_end(&mut text);
    u8::from(read.is_err() || serde_json::from_slice::<Memory>(&text).is_err())
}

/// Asks the other program.
fn can_go_on(program: &Path, memory: &File, mut meanwhile: impl FnMut()) -> io::Result<bool> {
    let mut child = Command::new(program)
        .arg0("landfall-keeper")
        .arg("can-keep-on")
        .stdin(memory.try_clone()?)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let end = clock::monotonic() + CHECK_TIMEOUT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if clock::monotonic() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        meanwhile();
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn prepare_own() -> StepResult<()> {
    let failed = |error: Errno| StepFailure::new(Reason::StartFailed, format!("keeper: {}", io::Error::from(error)));
    // Whatever the application leaves behind becomes our child.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(failed)?;
    rustix::process::chdir("/").map_err(failed)?;
    // Only a name for people.
    let _ = std::fs::write("/proc/self/comm", "landfall-keeper");
    Ok(())
}

/// Answers who started us, and lets go of its pipes: none of them may stay open because of us.
fn answer(failure: Option<StepFailure>) -> u8 {
    let failed = failure.is_some();
    let failure = failure.map(failure_of);
    let mut text = serde_json::to_vec(&failure).unwrap_or_default();
    text.push(b'\n');
    let mut out = std::io::stdout();
    let _ = out.write_all(&text).and_then(|()| out.flush());
    let _ = close_pipes();
    u8::from(failed)
}

fn failure_of(failure: StepFailure) -> Failure {
    let StepFailure { reason, why, lines, ended, full, strangers } = failure;
    Failure { step: StepName::Start, reason, why, lines, ended, full, strangers }
}

fn close_pipes() -> io::Result<()> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    rustix::stdio::dup2_stderr(&nothing)?;
    Ok(())
}

/// What outlives an exec.
#[derive(Serialize, Deserialize)]
struct Memory {
    order: Order,
    state: State,
    backoff: Backoff,
    /// Milliseconds since boot at which this run began.
    run_began: u64,
}

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
                let unended = before.as_ref().map(|state| state.unended.clone()).unwrap_or_default();
                State { unended, ..new_state(&order, before)? }
            }
        };
        let keeper = Self::with(folder, order, state, Backoff::default(), lock)?;
        Ok(Some((keeper, undisturbed)))
    }

    fn recalled(folder: Folder, memory: Memory, lock: OwnedFd) -> StepResult<Self> {
        let Memory { order, state, backoff, run_began } = memory;
        let mut keeper = Self::with(folder, order, state, backoff, lock)?;
        let ago = Duration::from_millis(clock::uptime_millis().saturating_sub(run_began));
        keeper.started = clock::monotonic().checked_sub(ago).unwrap_or_else(clock::monotonic);
        if let Some(record) = &mut keeper.state.keeper {
            record.program = program::digest();
        }
        keeper.hold_application();
        keeper.watch_from(keeper.started);
        if let (Some(asked), true) = (&mut keeper.readiness, keeper.state.is_ready()) {
            asked.tries.answer = Some(true);
        }
        keeper.write();
        Ok(keeper)
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
            unended_due: now,
            unwritten: false,
            words_unwritten: false,
            words_written: now,
        })
    }

    fn configuration(&self) -> &Configuration {
        &self.order.start.config
    }

    fn first_start(&mut self) -> StepResult<()> {
        self.start()
    }

    /// Puts itself beside what runs.
    fn take_over(&mut self) -> StepResult<()> {
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
    fn start(&mut self) -> StepResult<()> {
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

    fn hold_application(&mut self) {
        self.application = self.state.application.as_ref().and_then(|identity| match find(identity) {
            Found::Alive(handle) => Some(handle),
            Found::Dead | Found::Hidden => None,
        });
    }

    /// The probes start from the beginning.
    fn watch_from(&mut self, started: Instant) {
        self.started = started;
        self.readiness = self.configuration().readiness.as_ref().map(|probe| Asked::new(probe, started));
        self.liveness = self.configuration().liveness.as_ref().map(|probe| Asked::new(probe, started));
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

    /// By what the application's processes are found: our descendants, where we started it; else its session, which we see alive, and its mark.
    fn belonging(&self) -> Belonging {
        let is_parent = self.state.keeper.as_ref().is_some_and(|record| record.parent);
        let application = self.state.application.clone().filter(|_| !is_parent);
        Belonging {
            instance: if is_parent { String::new() } else { self.state.instance.clone() },
            session_seen: self.seen_alive,
            below: Identity::own().into_iter().chain(application.clone()).collect(),
            session: application,
            except: Vec::new(),
            known: self.state.unended.clone(),
            apart: self.state.apart.clone(),
        }
    }

    /// Writes the record. One that can't be written now is written later: the application matters more.
    fn write(&mut self) {
        self.unwritten = self.state.write(&self.folder).is_err();
        self.words_unwritten &= self.unwritten;
    }

    /// The application is dead: what it left is ended, and then it is started again or not.
    fn on_end(&mut self, exit: Option<Exit>) -> Turn {
        // It may have died between the two looks.
        let exit = exit.or_else(|| self.reap());
        let ended = self.ended(exit);
        let ran = clock::monotonic().saturating_duration_since(self.started);
        self.end_leftovers();
        self.application = None;
        self.state.ready_since = None;
        self.state.probe_failure = None;
        self.state.waiting = WaitingReason::Crash;
        let next = after_end(self.runtime.restart_policy, self.state.was_ready, &ended);
        self.state.last_end = Some(ended);
        self.follow(next, ran)
    }

    /// Tries again to end what could not be ended. True: nothing of it lives.
    fn try_unended(&mut self) -> bool {
        if self.state.unended.is_empty() {
            return true;
        }
        self.unended_due = clock::monotonic() + UNENDED_INTERVAL;
        for process in &self.state.unended {
            let _ = self.hands.signal(process, Signal::KILL);
        }
        self.state.unended.retain(|process| !matches!(find(process), Found::Dead));
        self.state.unended.is_empty()
    }

    fn follow(&mut self, next: Next, ran: Duration) -> Turn {
        match next {
            Next::Completed => {
                self.state.phase = Phase::Completed;
                self.state.was_ready = true;
                self.state.ready_since = Some(clock::uptime_millis());
                self.write_last()
            }
            Next::Ended => {
                self.state.phase = Phase::Ended;
                self.write_last()
            }
            Next::Restart => {
                let delay = u64::try_from(self.backoff.next(ran).as_millis()).unwrap_or(u64::MAX);
                self.state.phase = Phase::Waiting { at: clock::uptime_millis().saturating_add(delay) };
                if !self.state.unended.is_empty() {
                    self.state.waiting = WaitingReason::Survivors;
                }
                self.write();
                Turn::On
            }
        }
    }

    fn ended(&self, exit: Option<Exit>) -> Ended {
        Ended {
            status: exit.and_then(|exit| exit.status),
            signal: exit.and_then(|exit| exit.signal).map(signal_name),
            at: clock::uptime_millis(),
            out_of_memory: false,
            lines: log::tail(&self.folder),
        }
    }

    /// Ends what the dead application left, orderly; counts it.
    fn end_leftovers(&mut self) {
        let stop = self.runtime.stop.clone();
        self.state.left = self.end(None, &stop);
    }

    /// How many were left; what could not be ended is kept in mind.
    fn end(&mut self, application: Option<&Identity>, stop: &Stop) -> u32 {
        self.give_up_tries();
        let of = self.belonging();
        let Self { hands, rotation, .. } = self;
        let mut meanwhile = || Some(rotation.turn());
        let (left, unended) = match ending::end(hands.as_mut(), application, &of, stop, &mut meanwhile) {
            Ok(left) => (left, Vec::new()),
            Err(Unended(unended)) => (u32::try_from(unended.len()).unwrap_or(u32::MAX), unended),
        };
        self.state.set_unended(unended);
        left
    }

    /// Ends all of it; how the first process ended.
    fn end_application(&mut self, stop: &Stop) -> Ended {
        let application = self.state.application.clone();
        self.end(application.as_ref(), stop);
        let exit = self.reap();
        self.ended(exit)
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

    fn become_program(&mut self, program: &Path) -> io::Result<()> {
        // Nobody would hear what they come to.
        self.give_up_tries();
        let ago = clock::monotonic().saturating_duration_since(self.started);
        let memory = Memory {
            order: self.order.clone(),
            state: self.state.clone(),
            backoff: self.backoff,
            run_began: clock::uptime_millis().saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
        };
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut sealed = File::from(rustix::fs::memfd_create("landfall-keeper", flags)?);
        sealed.write_all(&serde_json::to_vec(&memory)?)?;
        io::Seek::rewind(&mut sealed)?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&sealed, seals)?;
        // After an exec there is no way back.
        if !can_go_on(program, &sealed, || {
            self.rotation.turn();
        })? {
            return Err(io::Error::other(format!("{} can't go on with what this keeper knows", program.display())));
        }
        io::Seek::rewind(&mut sealed)?;
        rustix::stdio::dup2_stdin(&sealed)?;
        rustix::stdio::dup2_stdout(self.lock.as_fd())?;
        if let Some(connection) = self.hands.connection() {
            rustix::stdio::dup2_stderr(connection)?;
        }
        let mut command = Command::new(program);
        command.arg0(format!("landfall-keeper {}", self.folder.name())).arg("keep-on");
        command.arg(self.folder.root()).arg(self.folder.name().as_str());
        let error = core_dumps::as_before(|| command.exec());
        close_pipes()?;
        Err(error)
    }

    /// What the run before left was not ended: it may be by now, by an administrator or by itself.
    fn is_rid_of_leftovers(&mut self) -> bool {
        let before = self.state.unended.len();
        if before == 0 {
            return true;
        }
        if self.try_unended() {
            // What it started meanwhile.
            self.end_leftovers();
        }
        if self.state.unended.len() != before {
            self.write();
        }
        self.state.unended.is_empty()
    }

    fn start_again(&mut self) -> Turn {
        if !self.is_rid_of_leftovers() {
            return Turn::On;
        }
        if super::missing_secret(self.configuration(), self.order.secrets.as_ref()).is_some() {
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

    fn ask_readiness(&mut self) {
        let Some(mut asked) = self.readiness.take() else { return };
        let came = self.try_probe(&mut asked);
        let Some((mut tried, began)) = came else {
            self.readiness = Some(asked);
            return;
        };
        let is_ready = self.state.is_ready();
        if tried == Tried::Yes
            && !is_ready
            && let Some(why) = self.foreign_listener(&asked.tries.probe)
        {
            tried = Tried::No(why);
        }
        let after = clock::monotonic();
        asked.tries.take(&tried, began, after, true);
        let settled = asked.tries.answer;
        let progress = asked.tries.progress();
        self.readiness = Some(asked);
        match (&tried, settled) {
            (Tried::Yes, Some(true)) if !is_ready => {
                self.state.ready_since = Some(clock::uptime_millis());
                self.state.unready_since = None;
                self.state.was_ready = true;
                self.state.probe_failure = None;
                self.state.strangers.clear();
                self.write();
            }
            (Tried::No(why), Some(false)) if is_ready => {
                self.state.ready_since = None;
                self.state.unready_since = Some(clock::uptime_millis());
                self.state.probe_failure = Some(why.clone());
                self.write();
            }
            (Tried::No(why), _) if !is_ready => self.tell_not_ready(why.clone(), after),
            (Tried::Yes, _) if !is_ready => self.tell_not_ready(progress.unwrap_or_default(), after),
            (Tried::Unasked(why), _) => self.tell_unasked(why),
            _ => {}
        }
    }

    fn tell_not_ready(&mut self, why: String, now: Instant) {
        self.words_unwritten |= self.state.probe_failure.as_ref() != Some(&why);
        self.state.probe_failure = Some(why);
        let urgent = !self.state.strangers.is_empty();
        let rested = now.saturating_duration_since(self.words_written) >= WORDS_INTERVAL;
        if self.words_unwritten && (urgent || rested) {
            self.words_written = now;
            self.write();
        }
    }

    fn tell_unasked(&mut self, why: &str) {
        if self.state.probe_failure.as_deref() != Some(why) {
            self.state.probe_failure = Some(why.to_owned());
            self.write();
        }
    }

    /// Since its last start.
    fn was_ready_in_this_run(&self) -> bool {
        self.state.is_ready() || self.state.unready_since.is_some()
    }

    /// Only of what was ready: who starts slowly is not ended for it.
    fn ask_liveness(&mut self) -> Turn {
        if !self.was_ready_in_this_run() {
            return Turn::On;
        }
        let Some(mut asked) = self.liveness.take() else { return Turn::On };
        let came = self.try_probe(&mut asked);
        let Asked { tries, .. } = self.liveness.insert(asked);
        let Some((tried, began)) = came else { return Turn::On };
        tries.take(&tried, began, clock::monotonic(), false);
        let settled = tries.answer;
        if let Tried::Unasked(why) = &tried {
            self.tell_unasked(why);
        }
        let (Tried::No(why), Some(false)) = (tried, settled) else { return Turn::On };
        let stop = self.runtime.stop.clone();
        let mut ended = self.end_application(&stop);
        ended.lines.push(format!("landfall: ended, for its liveness probe failed: {why}"));
        let ran = clock::monotonic().saturating_duration_since(self.started);
        self.application = None;
        self.state.ready_since = None;
        self.state.last_end = Some(ended);
        self.state.waiting = WaitingReason::Liveness;
        let next = if self.state.was_ready { Next::Restart } else { Next::Ended };
        self.follow(next, ran)
    }

    /// What a probe's try came to, where one has, and when it began. One that is due is begun.
    fn try_probe(&mut self, asked: &mut Asked) -> Option<(Tried, Instant)> {
        if asked.under_way.is_none() {
            let now = clock::monotonic();
            if now < asked.tries.due {
                return None;
            }
            match self.begin_try(&asked.tries.probe) {
                Ok(Some(by)) => asked.under_way = Some(Try { began: now, by }),
                Ok(None) => asked.tries.due = now + LATER,
                Err(tried) => return Some((tried, now)),
            }
        }
        let Try { began, by } = asked.under_way.as_mut()?;
        let tried = match by {
            By::Connection(connecting) => connecting.look(),
            By::Command(command) => {
                let executed = self.hands.look(command);
                executed.map(|executed| in_words(executed, &asked.tries.probe))
            }
        };
        let came = tried.map(|tried| (tried, *began))?;
        asked.under_way = None;
        Some(came)
    }

    /// `None`: not now. The error is what the try came to already.
    fn begin_try(&mut self, probe: &Probe) -> Result<Option<By>, Tried> {
        let timeout = probe::timeout(probe);
        let unasked = |why: String| Tried::Unasked(format!("its probe can't be asked: {why}"));
        let ProbeAction::Exec { command } = &probe.action else {
            let connecting = Connecting::begin(&probe.action, timeout).map_err(|error| unasked(error.to_string()))?;
            return Ok(Some(By::Connection(connecting)));
        };
        let nothing = Secrets::default();
        let secrets = self.order.secrets.as_ref().unwrap_or(&nothing);
        let env = environment(&self.order.start.config, secrets, &self.state.instance).map_err(unasked)?;
        let folder = self.folder.release(&self.order.start.release);
        match self.hands.begin(&Launch { command: command.clone(), env, folder }, timeout) {
            Begun::UnderWay(command) => Ok(Some(By::Command(command))),
            Begun::Later => Ok(None),
            Begun::Failed(why) => Err(Tried::No(why)),
        }
    }

    /// What is asked now counts for nothing: something that matters more happens.
    fn give_up_tries(&mut self) {
        for asked in self.readiness.iter_mut().chain(&mut self.liveness) {
            asked.give_up(self.hands.as_mut());
        }
    }

    /// Who answered is somebody else, where that can be seen. Beside an application its processes may be more than we see.
    fn foreign_listener(&mut self, probe: &Probe) -> Option<String> {
        let (address, port) = probe::target(probe)?;
        if !address.is_loopback() || !self.state.keeper.as_ref()?.parent {
            return None;
        }
        let sockets = listening(address, port).filter(|sockets| !sockets.is_empty())?;
        let of = self.belonging();
        if self.hands.owns(&of, &sockets) != Some(false) {
            return None;
        }
        self.state.strangers = whose(&sockets);
        let named = self.state.strangers.first().map_or_else(
            || "a process that is not this application".to_owned(),
            |stranger| format!("pid {} ({}), which is not this application", stranger.pid, stranger.what),
        );
        Some(format!("port {port} is answered by {named}"))
    }

    /// A runner that died can't undo what its task drained: a child does, that is none of the application's.
    fn see_to_undo(&mut self) {
        let now = clock::monotonic();
        if now < self.undo_due {
            return;
        }
        self.undo_due = now + UNDO_INTERVAL;
        let Some(child) = task::spawn_undo(&self.folder) else { return };
        // It is reaped as the others are.
        self.state.apart.retain(|process| !matches!(find(process), Found::Dead));
        self.state.apart.extend(i32::try_from(child.id()).ok().and_then(Identity::of));
        self.write();
    }
}

/// What a probe's command came to.
fn in_words(executed: Executed, probe: &Probe) -> Tried {
    let ProbeAction::Exec { command } = &probe.action else { return Tried::Interrupted };
    let command = command.join(" ");
    match executed {
        Executed::Ended { exit: Exit { status: Some(0), .. }, .. } => Tried::Yes,
        Executed::Ended { exit, output } => {
            let how = match (exit.status, exit.signal) {
                (Some(status), _) => format!("exit status {status}"),
                (None, Some(signal)) => format!("killed by SIG{}", signal_name(signal)),
                (None, None) => "ended".to_owned(),
            };
            let said = output.lines().last().map(log::clean).filter(|line| !line.is_empty());
            Tried::No(said.map_or_else(|| format!("{command}: {how}"), |said| format!("{command}: {how}: {said}")))
        }
        Executed::TimedOut => Tried::No(format!("{command}: not done within {} s", probe::timeout(probe).as_secs())),
        Executed::Interrupted => Tried::Interrupted,
        Executed::Failed(why) => Tried::No(why),
    }
}

/// A new record of a start; the counter goes on.
fn new_state(order: &Order, before: Option<State>) -> StepResult<State> {
    let instance =
        instance_value().map_err(|error| StepFailure::new(Reason::StartFailed, format!("/dev/urandom: {error}")))?;
    let Start { digest, config, revision, redeploys, .. } = &order.start;
    // What had been ready and is started again, after a reboot or without its keeper, is not new: an outside cause may keep it from being
    // ready at once.
    let same = |state: &&State| {
        state.uid == order.uid
            && state.digest == *digest
            && state.config.as_ref() == Some(&config.hash)
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
