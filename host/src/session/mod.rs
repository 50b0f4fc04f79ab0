//! One session: requests come on standard input, answers and pushes go to standard output, until the input ends. A loop over what is
//! readable and writable; it waits for nothing else, so what may block is done in a thread. It decides nothing, acts on nothing that it was
//! not asked for (but see `mending`), and its end ends nothing but itself: runners and keepers live on.

mod jobs;
mod mending;
mod outgoing;
mod processes;
mod requests;
mod short;
mod streams;
mod view;
mod watch;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::mpsc::{SyncSender, TrySendError},
    time::{Duration, Instant},
};

use landfall_host_protocol::{
    Answer, Decoder, FolderName, Frame, Kind, MAGIC, MachineFacts, Refusal, RunAsMethod, TaskId, VERSIONS, Welcome,
    supports,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
    process::{WaitOptions, wait},
    stdio::{stdin, stdout},
};

use self::{
    jobs::Jobs,
    mending::Mending,
    outgoing::Outgoing,
    streams::{Log, Streams, TaskEnd},
    view::{Survey, View},
    watch::Watch,
};
use crate::{
    clock,
    facts::{self, PrivilegeCheck},
    folder::Folder,
    incoming::Piece,
    program,
};

/// What this program does.
const SUPPORTS: [&str; 10] = [
    supports::RUNTIME_PROCESS,
    supports::RUNTIME_SYSTEMD,
    supports::RUNTIME_SCRIPT,
    supports::RUNTIME_STATIC,
    supports::RUNTIME_WATCHED,
    supports::RUN_AS,
    supports::SECRETS_BINARY,
    supports::HTTPS,
    supports::SUCCESS_THRESHOLD,
    supports::LOG_WHOLE,
];
/// Size that standard input's pipe is asked to have; sshd's has 64 KiB.
const PIPE_SIZE: usize = 1 << 20;
/// Bytes that are read at a time.
const BLOCK: usize = 64 << 10;
/// The poll below inotify.
const TICK: Duration = Duration::from_secs(1);
/// Between two looks at what of the host itself an administrator may have mended.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);
/// Another interval in a debug build.
const REFRESH_MILLIS: &str = "LANDFALL_HOST_REFRESH_MILLIS";
/// How long what is under way may take once the input has ended.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves one session on standard input and output; answers the exit status.
pub fn run(root: &Path) -> u8 {
    // Both refusals are fine: a socket has no such size.
    let _ = rustix::pipe::fcntl_setpipe_size(stdin(), PIPE_SIZE);
    for fd in [stdin(), stdout()] {
        let _ = fcntl_getfl(fd).and_then(|flags| fcntl_setfl(fd, flags | OFlags::NONBLOCK));
    }
    match Session::new(root).and_then(|mut session| session.serve()) {
        Ok(status) => status,
        Err(error) => {
            let _ = writeln!(io::stderr(), "landfall-host: {error}");
            1
        }
    }
}

/// What a thread has done.
enum Done {
    /// The machine, and why its root can't be used.
    Machine(Box<MachineFacts>, Option<String>),
    Users(PrivilegeCheck),
    Surveyed(Survey),
    Mended,
    Put(u32, Result<(), Refusal>),
    Answered(u32, Answer),
    /// The end of a task in this folder is to be told.
    Ended(u32, FolderName, Answer),
    LogOpened(u32, Log),
    /// A task that was begun or attached to, and the number of the next event.
    Following(u32, Folder, TaskId, u64),
}

/// A hello that waits for the first facts.
struct Greeting {
    id: u32,
    version: u16,
}

/// A look that waits for a survey.
struct Look {
    id: u32,
    seen: u64,
    survey: u64,
}

struct Session {
    root: PathBuf,
    decoder: Decoder,
    out: Outgoing,
    jobs: Jobs<Done>,
    watch: Watch,
    /// `None` before the hello.
    view: Option<View>,
    greeting: Option<Greeting>,
    looks: Vec<Look>,
    streams: Streams,
    mending: Mending,
    asking: Asking,
    /// Puts whose bytes are still coming.
    puts: BTreeMap<u32, SyncSender<Piece>>,
    /// Puts whose thread is at work.
    puts_running: usize,
    /// A piece that its put could not take yet; nothing is read meanwhile.
    stalled: Option<(u32, Piece)>,
    ticked_at: Instant,
    end: Option<End>,
}

/// Nothing is read any more; what is under way is ended, until then.
struct End {
    status: u8,
    until: Instant,
}

/// What of the host itself is asked again and again: an administrator who mends it is seen without a new session.
struct Asking {
    method: Option<RunAsMethod>,
    become_users: Vec<String>,
    /// Asked now.
    machine: bool,
    users: bool,
    asked_at: Instant,
    interval: Duration,
}

impl Asking {
    fn new() -> Self {
        let set = std::env::var(REFRESH_MILLIS).ok().filter(|_| cfg!(debug_assertions));
        let interval = set.and_then(|millis| millis.parse().ok()).map_or(REFRESH_INTERVAL, Duration::from_millis);
        let (machine, users) = (false, false);
        Self { method: None, become_users: Vec::new(), machine, users, asked_at: clock::monotonic(), interval }
    }
}

/// What `poll` found.
#[derive(Default)]
struct Ready {
    input: bool,
    output: bool,
    /// The reader of our output is gone.
    output_gone: bool,
    files: bool,
    ended: Vec<usize>,
}

impl Session {
    fn new(root: &Path) -> io::Result<Self> {
        let mut out = Outgoing::default();
        out.raw(MAGIC.to_vec());
        Ok(Self {
            root: root.to_owned(),
            decoder: Decoder::at_once(),
            out,
            jobs: Jobs::new()?,
            watch: Watch::new(),
            view: None,
            greeting: None,
            looks: Vec::new(),
            streams: Streams::default(),
            mending: Mending::default(),
            asking: Asking::new(),
            puts: BTreeMap::new(),
            puts_running: 0,
            stalled: None,
            ticked_at: clock::monotonic(),
            end: None,
        })
    }

    /// The loop. Answers the exit status.
    fn serve(&mut self) -> io::Result<u8> {
        loop {
            self.take_results();
            self.resume_stalled();
            self.take_frames();
            self.look_again();
            self.tell();
            self.advance_streams();
            if let Some(end) = &self.end {
                let is_over = self.out.is_empty() && self.jobs.is_idle();
                if is_over || clock::monotonic() >= end.until {
                    return Ok(end.status);
                }
            }
            let ready = self.wait()?;
            let is_gone = ready.output_gone || (ready.output && self.out.flush(stdout()).is_err());
            if is_gone && !self.out.is_gone() {
                self.out.discard();
                self.end(0);
            }
            if ready.input {
                self.read()?;
            }
            if ready.files {
                self.read_changes();
            }
            self.processes_ended(ready.ended);
            self.tick();
            self.reap();
        }
    }

    /// More than this is not taken now.
    fn is_blocked(&self) -> bool {
        self.end.is_some() || self.out.is_full() || self.jobs.is_full() || self.stalled.is_some()
    }

    /// Waits until something is to be done.
    fn wait(&mut self) -> io::Result<Ready> {
        let timeout = self.timeout();
        let timeout = timeout.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let (reads, writes) = (!self.is_blocked(), !self.out.is_empty());
        let none = PollFlags::empty();
        let mut fds = vec![PollFd::from_borrowed_fd(self.jobs.wake_fd(), PollFlags::IN)];
        let output = (!self.out.is_gone()).then(|| {
            fds.push(PollFd::from_borrowed_fd(stdout(), if writes { PollFlags::OUT } else { none }));
            fds.len() - 1
        });
        let input = reads.then(|| {
            fds.push(PollFd::from_borrowed_fd(stdin(), PollFlags::IN));
            fds.len() - 1
        });
        let files = self.watch.fd().map(|fd| {
            fds.push(PollFd::new(fd, PollFlags::IN));
            fds.len() - 1
        });
        let first_process = fds.len();
        let mut processes = Vec::new();
        if let Some(view) = &self.view {
            for (index, fd) in view.processes().fds() {
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                processes.push(index);
            }
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(error.into()),
        }
        let events = |index: usize| fds.get(index).map_or(none, PollFd::revents);
        let output = output.map_or(none, events);
        let ready = Ready {
            input: input.is_some_and(|index| !events(index).is_empty()),
            output: writes && output.contains(PollFlags::OUT),
            output_gone: output.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL),
            files: files.is_some_and(|index| !events(index).is_empty()),
            ended: (0..processes.len())
                .filter(|nth| !events(first_process + nth).is_empty())
                .filter_map(|nth| processes.get(nth).copied())
                .collect(),
        };
        if !events(0).is_empty() {
            self.jobs.clear_wake();
        }
        Ok(ready)
    }

    /// Until the next thing that comes by time alone; `None` before the hello.
    fn timeout(&self) -> Option<Duration> {
        let now = clock::monotonic();
        let view = self.view.as_ref();
        let tick = view.map(|_| TICK.saturating_sub(now.saturating_duration_since(self.ticked_at)));
        let push = view.and_then(View::until_push).filter(|_| !self.out.is_full());
        let survey = view.and_then(View::until_survey).filter(|_| !self.jobs.is_full());
        let end = self.end.as_ref().map(|end| end.until.saturating_duration_since(now));
        if self.streams.is_due() && self.out.is_idle() && !self.jobs.is_full() && self.end.is_none() {
            return Some(Duration::ZERO);
        }
        // Less than a step is a step, or the loop would turn until it is over.
        [tick, push, survey, end].into_iter().flatten().min().map(|time| time.max(Duration::from_millis(1)))
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; BLOCK];
        match rustix::io::read(stdin(), &mut buffer) {
            Ok(0) => self.end(0),
            Ok(count) => self.decoder.feed(buffer.get(..count).unwrap_or_default()),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A connection that broke is an end like any other.
            Err(Errno::CONNRESET | Errno::IO) => self.end(0),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Nothing is read from here on.
    fn end(&mut self, status: u8) {
        // Without their senders the puts end where they are, and keep what came.
        self.puts.clear();
        self.stalled = None;
        self.end.get_or_insert(End { status, until: clock::monotonic() + FAREWELL });
    }

    fn take_frames(&mut self) {
        while !self.is_blocked() {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => self.take_frame(frame),
                Ok(None) => return,
                Err(error) => {
                    // Where the next frame begins can't be known any more.
                    let id = self.decoder.next_id().unwrap_or(0);
                    self.out.refuse(id, "frame", error.to_string());
                    self.end(1);
                }
            }
        }
    }

    fn take_frame(&mut self, frame: Frame) {
        let Frame { kind, id, payload } = frame;
        match kind {
            Kind::Message => self.take_request(id, &payload),
            Kind::Bytes => self.take_piece(id, Piece::Some(payload)),
            Kind::LastBytes => self.take_piece(id, Piece::Last(payload)),
        }
    }

    /// Hands bytes to their put. Those of a put that was refused are dropped.
    fn take_piece(&mut self, id: u32, piece: Piece) {
        let Some(put) = self.puts.get(&id) else { return };
        let is_last = matches!(piece, Piece::Last(_));
        match put.try_send(piece) {
            Err(TrySendError::Full(piece)) => self.stalled = Some((id, piece)),
            Err(TrySendError::Disconnected(_)) => {
                self.puts.remove(&id);
            }
            Ok(()) if is_last => {
                self.puts.remove(&id);
            }
            Ok(()) => {}
        }
    }

    fn resume_stalled(&mut self) {
        if let Some((id, piece)) = self.stalled.take() {
            self.take_piece(id, piece);
        }
    }

    fn take_results(&mut self) {
        while let Some(done) = self.jobs.next_result() {
            match done {
                Done::Machine(machine, unfit) => {
                    self.asking.machine = false;
                    if let Some(view) = &mut self.view {
                        view.set_machine(*machine, unfit);
                    }
                }
                Done::Users(users) => {
                    self.asking.users = false;
                    if let Some(view) = &mut self.view {
                        view.set_users(users);
                    }
                }
                Done::Surveyed(survey) => {
                    if let Some(view) = &mut self.view {
                        view.end_survey(survey);
                    }
                    self.mend();
                }
                Done::Mended => {}
                Done::Put(id, result) => {
                    self.puts.remove(&id);
                    self.puts_running = self.puts_running.saturating_sub(1);
                    let answer = result.map_or_else(Answer::Refused, |()| Answer::Stored);
                    self.out.answer(id, &answer);
                }
                Done::Answered(id, answer) => {
                    self.streams.opened(id);
                    self.out.answer(id, &answer);
                }
                Done::Ended(id, name, answer) => {
                    self.streams.opened(id);
                    if let (Some(view), Answer::Ended { folder: Some(facts), .. }) = (&mut self.view, &answer) {
                        view.told_beside(name, facts);
                    }
                    self.out.answer(id, &answer);
                }
                Done::LogOpened(id, log) => {
                    if self.streams.opened(id) {
                        self.streams.log(id, log, &mut self.out, &mut self.watch);
                    } else {
                        self.out.bytes(id, Kind::LastBytes, &[]);
                    }
                }
                Done::Following(id, folder, task, offset) => {
                    if self.streams.opened(id) {
                        self.streams.task(id, folder, task, offset, &mut self.watch);
                    } else {
                        self.out.answer(id, &Answer::Done);
                    }
                }
            }
        }
    }

    /// Mends what the last survey found undone.
    fn mend(&mut self) {
        let Some(view) = &self.view else { return };
        let mut works = Vec::new();
        for (name, facts) in view.folders() {
            works.extend(self.mending.due(&Folder::new(&self.root, name.clone()), facts));
        }
        for work in works {
            self.jobs.start(|| {
                work();
                Done::Mended
            });
        }
    }

    fn read_changes(&mut self) {
        let changes = self.watch.read();
        if changes.logs {
            self.streams.logs_changed();
        }
        if changes.tasks {
            self.streams.tasks_changed();
        }
        if let Some(view) = &mut self.view {
            view.apply(changes);
        }
    }

    fn processes_ended(&mut self, mut ended: Vec<usize>) {
        // From the last on, for each that goes moves those behind it.
        ended.sort_unstable();
        for index in ended.into_iter().rev() {
            if let Some(view) = &mut self.view {
                view.process_ended(index);
            }
        }
    }

    /// Starts a survey where something may have changed.
    fn look_again(&mut self) {
        if self.jobs.is_full() {
            return;
        }
        let Some(view) = &mut self.view else { return };
        let is_waited_for = self.greeting.is_some() || !self.looks.is_empty();
        if let Some(survey) = view.begin_survey(is_waited_for, &mut self.watch)
            && !self.jobs.start(|| Done::Surveyed(survey()))
        {
            view.survey_failed();
        }
    }

    /// Answers the hello and the looks, and says unasked what changed.
    fn tell(&mut self) {
        let Some(view) = &mut self.view else { return };
        if !view.is_ready() {
            return;
        }
        if let Some(Greeting { id, version }) = self.greeting.take() {
            let (seen, facts) = view.facts();
            let program = env!("CARGO_PKG_VERSION").to_owned();
            let supports = SUPPORTS.map(str::to_owned).into();
            let welcome = Welcome { version, program, digest: program::digest(), supports, seen, facts };
            self.out.answer(id, &Answer::Welcome(Box::new(welcome)));
        }
        self.looks.retain(|look| {
            if !view.has_survey(look.survey) {
                return true;
            }
            let answer = if view.is_unchanged(look.seen) {
                Answer::Unchanged
            } else {
                let (seen, facts) = view.facts();
                Answer::Facts { seen, facts: Box::new(facts) }
            };
            self.out.answer(look.id, &answer);
            false
        });
        if self.end.is_none()
            && !self.out.is_full()
            && let Some(push) = view.take_push()
        {
            self.out.push(&push);
        }
    }

    /// Logs and tasks go on; what ended is told with its folder.
    fn advance_streams(&mut self) {
        if self.end.is_some() || self.jobs.is_full() {
            return;
        }
        for TaskEnd { id, folder, result } in self.streams.advance(&mut self.out, &mut self.watch) {
            self.start(id, move || {
                let name = folder.name().clone();
                let folder = facts::folder(&folder).map(Box::new);
                Done::Ended(id, name, Answer::Ended { result, folder, uptime_millis: clock::uptime_millis() })
            });
        }
    }

    fn tick(&mut self) {
        let now = clock::monotonic();
        if now.saturating_duration_since(self.ticked_at) < TICK {
            return;
        }
        self.ticked_at = now;
        self.streams.poll(&mut self.watch);
        if let Some(view) = &mut self.view {
            view.poll();
        }
        // What failed is tried again.
        self.mend();
        self.ask_again();
    }

    /// Asks again for what does not tell of itself. sudo and su are asked where they said no alone: each question is a line in the host's log.
    fn ask_again(&mut self) {
        let Some(view) = &self.view else { return };
        let now = clock::monotonic();
        if now.saturating_duration_since(self.asking.asked_at) < self.asking.interval || self.end.is_some() {
            return;
        }
        self.asking.asked_at = now;
        let are_users_due = view.are_users_due();
        self.ask_machine();
        if are_users_due {
            self.ask_users();
        }
    }

    fn ask_machine(&mut self) {
        if self.asking.machine || self.jobs.is_full() {
            return;
        }
        let root = self.root.clone();
        self.asking.machine =
            self.jobs.start(move || Done::Machine(Box::new(facts::machine()), facts::root(&root).unfit));
    }

    fn ask_users(&mut self) {
        if self.asking.users || self.jobs.is_full() {
            return;
        }
        let (method, users) = (self.asking.method, self.asking.become_users.clone());
        self.asking.users = self.jobs.start(move || Done::Users(facts::check_users(method, &users)));
    }

    /// Children that ended are taken from the kernel's list: runners that this session started. While a thread is at work that may wait for
    /// a child of its own, it is left to it.
    fn reap(&self) {
        if self.jobs.running() > self.puts_running {
            return;
        }
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    }
}

/// The version that is spoken with a peer of these versions.
fn agree(theirs: landfall_host_protocol::VersionRange) -> Result<u16, String> {
    VERSIONS.common(theirs).ok_or_else(|| {
        format!(
            "this program speaks versions {} to {} of the protocol, the operator {} to {}",
            VERSIONS.min, VERSIONS.max, theirs.min, theirs.max
        )
    })
}
