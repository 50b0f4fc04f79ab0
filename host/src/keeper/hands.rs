//! What a keeper does to processes, as the user whose they are: start, signal, find, look whose socket it is, run a command.

use std::{
    fs::File,
    io::{self, Read},
    os::{fd::BorrowedFd, unix::process::CommandExt},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use landfall_host_protocol::RunAs;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, waitid, waitpid},
};
use serde::{Deserialize, Serialize};

use super::launch::{Launch, LaunchError, Prepared, prepare};
use crate::{
    as_user::AsUser,
    clock, core_dumps,
    process::{
        Found, Identity, Listening, boot_id, descendants, end_all, find, marked, owns, session_members, timespec,
        unseen_children,
    },
};

/// Bytes of a probe command's output that are kept.
const OUTPUT_MAX: u64 = 4096;
const OF_THE_LOGIN: [&str; 3] = ["HOME", "USER", "LOGNAME"];
/// Between two looks at what may have forked while it was listed.
const AGAIN: Duration = Duration::from_millis(2);
/// Ends of children that are remembered.
const REAPED_MAX: usize = 64;

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
}

impl Belonging {
    /// Living processes that belong to it, as far as who asks may see them.
    pub fn living(&self) -> Vec<Identity> {
        let mut found: Vec<Identity> = self.below.iter().flat_map(below).collect();
        found.extend(self.session.iter().flat_map(|leader| self.members(leader)));
        found.extend(marked(&self.instance));
        found.extend(self.known.iter().filter(|process| !matches!(find(process), Found::Dead)).cloned());
        let own = rustix::process::getpid().as_raw_nonzero().get();
        found.retain(|process| process.pid != own && !self.except.contains(&process.pid));
        found.sort_by_key(|process| process.pid);
        found.dedup();
        found
    }

    fn members(&self, leader: &Identity) -> Vec<Identity> {
        let mut found = session_members(leader.pid);
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

    /// Runs a command, all of which ends with it.
    fn execute(&mut self, launch: &Launch, timeout: Duration, interrupts: &[BorrowedFd<'_>]) -> Executed;

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
}

impl Own {
    /// Waits for all children that are dead, and remembers how they ended.
    pub fn reap_all(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            // (Of a daemon's many children the last ones suffice.)
            if self.reaped.len() >= REAPED_MAX {
                self.reaped.remove(0);
            }
            self.reaped.push((pid.as_raw_nonzero().get(), status.into()));
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
        matches!(waitid(WaitId::All, options), Err(Errno::CHILD))
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

    fn execute(&mut self, launch: &Launch, timeout: Duration, interrupts: &[BorrowedFd<'_>]) -> Executed {
        execute(&with_login(launch), timeout, interrupts).unwrap_or_else(|error| Executed::Failed(error.to_string()))
    }
}

fn is_parent(of: &Belonging) -> bool {
    Identity::own().is_some_and(|own| of.below.contains(&own))
}

fn execute(launch: &Launch, timeout: Duration, interrupts: &[BorrowedFd<'_>]) -> io::Result<Executed> {
    let Some((program, arguments)) = launch.command.split_first() else {
        return Ok(Executed::Failed("the command is empty".to_owned()));
    };
    let (mut output, theirs) = io::pipe()?;
    // The first of a group, so that what it leaves is ended with it.
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(launch.env.iter().map(|(name, value)| (name, value)))
        .current_dir(existing(&launch.folder))
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(theirs.try_clone()?)
        .stderr(theirs);
    let child = core_dumps::as_before(|| command.spawn());
    // Its end of the pipe is the command's alone.
    drop(command);
    let child = match child {
        Ok(child) => child,
        Err(error) => return Ok(Executed::Failed(format!("{program}: {error}"))),
    };
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let Some(id) = Pid::from_raw(pid) else { return Ok(Executed::Failed("no pid".to_owned())) };
    rustix::io::ioctl_fionbio(&output, true)?;
    let end = clock::monotonic() + timeout;
    let mut said = Vec::new();
    let executed = loop {
        // A drained pipe blocks no command.
        let _ = (&mut output).take(64 << 10).read_to_end(&mut said);
        said.truncate(OUTPUT_MAX as usize);
        if is_dead(id) {
            break None;
        }
        let left = end.saturating_duration_since(clock::monotonic());
        if left.is_zero() {
            break Some(Executed::TimedOut);
        }
        let pidfd = Identity::of(pid).and_then(|identity| match find(&identity) {
            Found::Alive(handle) => Some(handle),
            Found::Dead | Found::Hidden => None,
        });
        let mut fds: Vec<PollFd<'_>> =
            interrupts.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        if let Some(pidfd) = pidfd.as_ref().and_then(|handle| handle.pidfd()) {
            fds.push(PollFd::from_borrowed_fd(pidfd, PollFlags::IN));
        }
        // It is looked at now and then in any case, for a full pipe and where there is no pidfd.
        let _ = poll(&mut fds, Some(&timespec(left.min(Duration::from_millis(20)))));
        let interrupted =
            fds.iter().take(interrupts.len()).any(|fd| fd.revents().intersects(PollFlags::IN | PollFlags::HUP));
        if interrupted {
            break Some(Executed::Interrupted);
        }
    };
    // Its leader is not waited for yet, so the group's number is no other's.
    let _ = rustix::process::kill_process_group(id, Signal::KILL);
    let exit = waitpid(Some(id), WaitOptions::empty()).ok().flatten().map(|(_, status)| Exit::from(status));
    let _ = (&mut output).take(OUTPUT_MAX).read_to_end(&mut said);
    said.truncate(OUTPUT_MAX as usize);
    Ok(executed.unwrap_or_else(|| Executed::Ended {
        exit: exit.unwrap_or(Exit { status: None, signal: None }),
        output: String::from_utf8_lossy(&said).into_owned(),
    }))
}

/// Is this child dead? It is not waited for.
fn is_dead(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
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

/// A folder that is gone is no reason to ask nothing.
fn existing(folder: &Path) -> &Path {
    if folder.is_dir() { folder } else { Path::new("/") }
}
