//! What a keeper does to processes, as the user whose they are: start, signal, find, look whose socket it is, run a command.

use std::{
    fs::File,
    io,
    os::fd::BorrowedFd,
    path::Path,
    time::{Duration, Instant},
};

use landfall_host_protocol::RunAs;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::{Signal, WaitId, WaitIdOptions, WaitOptions, waitid},
};
use serde::{Deserialize, Serialize};

use super::{
    command::Asking,
    launch::{Launch, LaunchError, Prepared, prepare},
    log,
};
use crate::{
    as_user::AsUser,
    clock,
    probe::Tried,
    process::{
        Found, Identity, Listening, Stat, boot_id, children, descendants, end_all, find, marked_of, members_of, owns,
        signal_name, table, timespec, unseen_children,
    },
};

const OF_THE_LOGIN: [&str; 3] = ["HOME", "USER", "LOGNAME"];
/// Between two looks at what may have forked while it was listed.
const AGAIN: Duration = Duration::from_millis(2);
/// Ends of children that are remembered.
const REAPED_MAX: usize = 64;
/// Between two looks at a command, where nothing else wakes us.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// By what an application's processes are found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Belonging {
    /// Value of the mark.
    pub instance: String,
    /// Process whose session it is. Once it is dead its number may be another one's.
    pub session: Option<Identity>,
    /// Until when that process was seen alive, as start times count: who is in the session and began before that is of it.
    #[serde(default)]
    pub session_seen: u64,
    /// Processes whose descendants they are, as long as they live.
    #[serde(default)]
    pub below: Vec<Identity>,
    /// Processes of ours, that are none of the application.
    pub except: Vec<i32>,
    /// Processes that were proved to be of it before, and could not be ended.
    #[serde(default)]
    pub known: Vec<Identity>,
    /// Processes of ours that are none of the application, with all that is below them.
    #[serde(default)]
    pub apart: Vec<Identity>,
}

impl Belonging {
    /// Living processes that belong to it, as far as who asks may see them.
    pub fn living(&self) -> Vec<Identity> {
        let mut found: Vec<Identity> = self.below.iter().flat_map(below).collect();
        // A host may have many processes: they are listed once.
        let all = table();
        found.extend(self.session.iter().flat_map(|leader| self.members(leader, &all)));
        found.extend(marked_of(&all, &self.instance));
        found.extend(self.known.iter().filter(|process| !matches!(find(process), Found::Dead)).cloned());
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let apart: Vec<Identity> = self.apart.iter().flat_map(below).chain(self.apart.iter().cloned()).collect();
        found.retain(|process| process.pid != own && !self.except.contains(&process.pid) && !apart.contains(process));
        found.sort_by_key(|process| process.pid);
        found.dedup();
        found
    }

    fn members(&self, leader: &Identity, all: &[(i32, Stat)]) -> Vec<Identity> {
        let mut found = members_of(all, leader.pid);
        if !has_its_pid(leader) {
            let same_boot = leader.boot_id == boot_id();
            found.retain(|process| same_boot && process.start < self.session_seen);
        }
        found
    }
}

/// Descendants of this very process: it is looked at after they were listed, for a dead one's number may be another one's.
fn below(process: &Identity) -> Vec<Identity> {
    let found = descendants(process.pid);
    if has_its_pid(process) { found } else { Vec::new() }
}

/// Alive or not waited for yet: its pid is no other's.
fn has_its_pid(process: &Identity) -> bool {
    Identity::of(process.pid).as_ref() == Some(process)
}

/// How a process of ours ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub status: Option<i32>,
    /// Number of the signal.
    pub signal: Option<i32>,
}

impl From<rustix::process::WaitStatus> for Exit {
    fn from(status: rustix::process::WaitStatus) -> Self {
        Self { status: status.exit_status(), signal: status.terminating_signal() }
    }
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Executed {
    Ended {
        exit: Exit,
        output: String,
    },
    TimedOut,
    /// Something that matters more happened.
    Interrupted,
    Failed(String),
}

impl Executed {
    /// Without what it printed.
    pub fn silent(self) -> Self {
        match self {
            Self::Ended { exit, .. } => Self::Ended { exit, output: String::new() },
            other => other,
        }
    }

    /// The answer of a command that asks, with its words and the last of its output.
    pub fn tried(self, command: &[String], timeout: Duration) -> Tried {
        let command = command.join(" ");
        match self {
            Self::Ended { exit: Exit { status: Some(0), .. }, .. } => Tried::Yes,
            Self::Ended { exit, output } => {
                let how = match (exit.status, exit.signal) {
                    (Some(status), _) => format!("exit status {status}"),
                    (None, Some(signal)) => format!("killed by SIG{}", signal_name(signal)),
                    (None, None) => "ended".to_owned(),
                };
                let said = output.lines().last().map(log::clean).filter(|line| !line.is_empty());
                Tried::No(said.map_or_else(|| format!("{command}: {how}"), |said| format!("{command}: {how}: {said}")))
            }
            Self::TimedOut => Tried::No(format!("{command}: not done within {} s", timeout.as_secs())),
            Self::Interrupted => Tried::Interrupted,
            Self::Failed(why) => Tried::No(why),
        }
    }
}

/// How a command was begun.
pub enum Begun {
    UnderWay(UnderWay),
    Failed(String),
    /// Another one is under way, and only one at a time can be.
    Later,
}

/// A command under way.
pub enum UnderWay {
    Own(Box<Asking>),
    /// One that the other user's process was asked for, by its number.
    Other {
        number: u64,
        end: Instant,
    },
}

impl UnderWay {
    /// When it is looked at in any case.
    pub fn end(&self) -> Instant {
        match self {
            Self::Own(asking) => asking.end(),
            Self::Other { end, .. } => *end,
        }
    }
}

pub trait Hands {
    /// A process that waits to become the application. Its identity is to be recorded before [`Hands::go`].
    fn prepare(&mut self, output: &File) -> io::Result<Identity>;

    /// The prepared process becomes the application.
    fn go(&mut self, launch: &Launch) -> Result<(), LaunchError>;

    /// False: it is dead.
    fn signal(&mut self, process: &Identity, signal: Signal) -> io::Result<bool>;

    fn living(&mut self, of: &Belonging) -> Vec<Identity>;

    /// KILL to all, until none is left; false: something outlives it.
    fn end_all(&mut self, of: &Belonging, timeout: Duration) -> bool;

    /// Is nothing of it left, as who lists its processes and is their parent can tell? A list alone may miss what forks meanwhile.
    fn is_over(&mut self, _of: &Belonging) -> bool {
        true
    }

    /// Children of who is their parent, that live and may not be seen: what is known of them is the pid.
    fn unseen(&mut self, _of: &Belonging) -> Vec<Identity> {
        Vec::new()
    }

    /// Waits for the children that are dead; answers how this one ended, where it is one of them.
    fn reap(&mut self, wanted: i32) -> Option<Exit>;

    /// Does one of its processes hold one of these sockets? `None`: that can't be seen.
    fn owns(&mut self, of: &Belonging, sockets: &[Listening]) -> Option<bool>;

    /// Begins a command, all of which ends with it. It is looked at until it has come to something, or given up.
    fn begin(&mut self, launch: &Launch, timeout: Duration) -> Begun;

    /// What it came to; `None`: it is under way.
    fn look(&mut self, command: &mut UnderWay) -> Option<Executed>;

    /// Ends it.
    fn give_up(&mut self, command: UnderWay);

    /// Readable when it is to be looked at.
    fn watched<'a>(&'a self, command: &'a UnderWay) -> Vec<BorrowedFd<'a>>;

    /// Runs a command to its end.
    fn execute(&mut self, launch: &Launch, timeout: Duration, interrupts: &[BorrowedFd<'_>]) -> Executed {
        let mut command = match self.begin(launch, timeout) {
            Begun::UnderWay(command) => command,
            Begun::Failed(why) => return Executed::Failed(why),
            Begun::Later => return Executed::Interrupted,
        };
        loop {
            if let Some(executed) = self.look(&mut command) {
                return executed;
            }
            let left = command.end().saturating_duration_since(clock::monotonic());
            let mut fds: Vec<PollFd<'_>> =
                interrupts.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
            fds.extend(self.watched(&command).into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            let _ = poll(&mut fds, Some(&timespec(left.min(LOOK_INTERVAL))));
            let interrupted =
                fds.iter().take(interrupts.len()).any(|fd| fd.revents().intersects(PollFlags::IN | PollFlags::HUP));
            drop(fds);
            if interrupted {
                self.give_up(command);
                return Executed::Interrupted;
            }
        }
    }

    /// What goes on to a newer program of this process.
    fn connection(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// The hands of a configuration's user.
pub fn hands_of(run_as: Option<&RunAs>, log: &Path) -> Box<dyn Hands> {
    match run_as {
        Some(run_as) => Box::new(AsUser::new(run_as, log)),
        None => Box::new(Own::default()),
    }
}

/// As the user that runs this program.
#[derive(Default)]
pub struct Own {
    prepared: Option<Prepared>,
    /// Children that were waited for by the way.
    reaped: Vec<(i32, Exit)>,
    /// Commands under way: how they ended, where they were waited for by the way.
    asking: Vec<(i32, Option<Exit>)>,
    /// Commands that can't be ended, and the first process of each.
    lingering: Vec<(Vec<String>, Identity)>,
}

impl Own {
    /// It is over; where it can't be ended it is not begun again beside itself.
    fn forget(&mut self, asking: &Asking) {
        self.asking.retain(|(pid, _)| *pid != asking.pid());
        self.lingering.extend(asking.living().map(|process| (asking.command().to_vec(), process)));
    }

    /// Waits for all children that are dead, and remembers how they ended.
    pub fn reap_all(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            if let Some((_, exit)) = self.asking.iter_mut().find(|(asking, _)| *asking == pid) {
                *exit = Some(status.into());
                continue;
            }
            // (Of a daemon's many children the last ones suffice.)
            if self.reaped.len() >= REAPED_MAX {
                self.reaped.remove(0);
            }
            self.reaped.push((pid, status.into()));
        }
    }
}

impl Hands for Own {
    fn prepare(&mut self, output: &File) -> io::Result<Identity> {
        let prepared = prepare(output)?;
        let identity = prepared.identity.clone();
        self.prepared = Some(prepared);
        Ok(identity)
    }

    fn go(&mut self, launch: &Launch) -> Result<(), LaunchError> {
        match self.prepared.take() {
            Some(prepared) => prepared.go(&with_login(launch)),
            None => Err(LaunchError { errno: None, why: "nothing is prepared".to_owned() }),
        }
    }

    fn signal(&mut self, process: &Identity, signal: Signal) -> io::Result<bool> {
        match find(process) {
            Found::Alive(handle) => handle.signal(signal),
            Found::Dead | Found::Hidden => Ok(false),
        }
    }

    fn living(&mut self, of: &Belonging) -> Vec<Identity> {
        of.living()
    }

    fn end_all(&mut self, of: &Belonging, timeout: Duration) -> bool {
        let end = clock::monotonic() + timeout;
        loop {
            let ended = end_all(|| of.living(), end.saturating_duration_since(clock::monotonic()));
            if !ended || self.is_over(of) || clock::monotonic() >= end {
                return ended;
            }
            if !self.unseen(of).is_empty() {
                return false;
            }
            std::thread::sleep(AGAIN);
        }
    }

    fn is_over(&mut self, of: &Belonging) -> bool {
        if !is_parent(of) {
            return true;
        }
        self.reap_all();
        // Whatever loses its parent becomes our child: none is left where we have none.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if matches!(waitid(WaitId::All, options), Err(Errno::CHILD)) {
            return true;
        }
        // Nobody else waits for them, and new ones come at the end: a list of them has no gap.
        let apart = |pid: &i32| of.apart.iter().any(|process| process.pid == *pid && has_its_pid(process));
        !of.apart.is_empty() && children().iter().all(apart)
    }

    fn unseen(&mut self, of: &Belonging) -> Vec<Identity> {
        if is_parent(of) { unseen_children() } else { Vec::new() }
    }

    fn reap(&mut self, wanted: i32) -> Option<Exit> {
        self.reap_all();
        let at = self.reaped.iter().position(|(pid, _)| *pid == wanted)?;
        Some(self.reaped.swap_remove(at).1)
    }

    fn owns(&mut self, of: &Belonging, sockets: &[Listening]) -> Option<bool> {
        owns(&of.living(), sockets)
    }

    fn begin(&mut self, launch: &Launch, timeout: Duration) -> Begun {
        self.lingering.retain(|(_, process)| matches!(find(process), Found::Alive(_)));
        if let Some((_, process)) = self.lingering.iter().find(|(command, _)| *command == launch.command) {
            let why = format!("{}: the last try (pid {}) can't be ended", launch.command.join(" "), process.pid);
            return Begun::Failed(why);
        }
        match Asking::begin(&with_login(launch), timeout) {
            Ok(asking) => {
                self.asking.push((asking.pid(), None));
                Begun::UnderWay(UnderWay::Own(Box::new(asking)))
            }
            Err(why) => Begun::Failed(why),
        }
    }

    fn look(&mut self, command: &mut UnderWay) -> Option<Executed> {
        let UnderWay::Own(asking) = command else { return Some(Executed::Interrupted) };
        let pid = asking.pid();
        let reaped = self.asking.iter().find(|(asking, _)| *asking == pid).and_then(|(_, exit)| *exit);
        let executed = asking.look(|| reaped)?;
        self.forget(asking);
        Some(executed)
    }

    fn give_up(&mut self, command: UnderWay) {
        if let UnderWay::Own(mut asking) = command {
            asking.give_up();
            self.forget(&asking);
        }
    }

    fn watched<'a>(&'a self, command: &'a UnderWay) -> Vec<BorrowedFd<'a>> {
        match command {
            UnderWay::Own(asking) => asking.watched(),
            UnderWay::Other { .. } => Vec::new(),
        }
    }
}

fn is_parent(of: &Belonging) -> bool {
    Identity::own().is_some_and(|own| of.below.contains(&own))
}

/// What programs ask for to find their user's files, as the login of who runs this has it.
pub fn login() -> impl Iterator<Item = (String, String)> {
    OF_THE_LOGIN.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
}

/// What is given goes before what the login has.
fn with_login(launch: &Launch) -> Launch {
    let env = login().chain(launch.env.iter().cloned()).collect();
    Launch { command: launch.command.clone(), env, folder: launch.folder.clone() }
}
