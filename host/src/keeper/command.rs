//! A command that asks something: it is begun, looked at now and then until it has come to something, and all of it ends with it. Nothing
//! here waits for it.

use std::{
    io::{self, PipeReader, Read},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, waitid, waitpid},
};

use super::{
    hands::{Executed, Exit},
    launch::Launch,
};
use crate::{
    clock, core_dumps,
    process::{Found, Handle, Identity, Stat, descendants, find},
};

/// Bytes of its output that are kept.
const OUTPUT_MAX: u64 = 4096;
/// Bytes of its output that are read at once: a drained pipe blocks no command.
const PIECE: u64 = 64 << 10;
/// How long one that was killed is waited for: it is dead in a moment, or not for long.
const DEATH_TIMEOUT: Duration = Duration::from_millis(50);

/// One under way.
pub struct Asking {
    command: Vec<String>,
    id: Pid,
    /// Of its first process.
    handle: Option<Handle>,
    output: PipeReader,
    /// Its output may go on.
    open: bool,
    said: Vec<u8>,
    end: Instant,
}

impl Asking {
    /// Starts it; the error is for a person.
    pub(super) fn begin(launch: &Launch, timeout: Duration) -> Result<Self, String> {
        let Some((program, arguments)) = launch.command.split_first() else {
            return Err("the command is empty".to_owned());
        };
        let said = |error: io::Error| format!("{program}: {error}");
        let (output, theirs) = io::pipe().map_err(said)?;
        rustix::io::ioctl_fionbio(&output, true).map_err(|error| said(error.into()))?;
        // The first of a group, so that what it leaves is ended with it.
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(launch.env.iter().map(|(name, value)| (name, value)))
            .current_dir(existing(&launch.folder))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(theirs.try_clone().map_err(said)?)
            .stderr(theirs);
        let child = core_dumps::as_before(|| command.spawn());
        // Its end of the pipe is the command's alone.
        drop(command);
        let child = child.map_err(said)?;
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("no pid")?;
        let handle = Identity::of(id.as_raw_nonzero().get()).and_then(|identity| match find(&identity) {
            Found::Alive(handle) => Some(handle),
            Found::Dead | Found::Hidden => None,
        });
        let command = launch.command.clone();
        Ok(Self { command, id, handle, output, open: true, said: Vec::new(), end: clock::monotonic() + timeout })
    }

    pub(super) fn command(&self) -> &[String] {
        &self.command
    }

    pub(super) fn pid(&self) -> i32 {
        self.id.as_raw_nonzero().get()
    }

    /// Its first process, where it lives still.
    pub(super) fn living(&self) -> Option<Identity> {
        self.handle.as_ref().filter(|handle| handle.is_alive()).map(|handle| handle.identity().clone())
    }

    /// When its time is over.
    pub(super) fn end(&self) -> Instant {
        self.end
    }

    /// Readable when there is something to look at.
    pub(super) fn watched(&self) -> Vec<BorrowedFd<'_>> {
        let output = self.open.then(|| self.output.as_fd());
        output.into_iter().chain(self.handle.as_ref().and_then(Handle::pidfd)).collect()
    }

    /// What it came to; `None`: it is under way. `reaped`: how it ended, where somebody else waited for it.
    pub(super) fn look(&mut self, reaped: impl FnOnce() -> Option<Exit>) -> Option<Executed> {
        self.read();
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let exit = match waitid(WaitId::Pid(self.id), options) {
            Ok(None) | Err(Errno::INTR) => {
                if clock::monotonic() < self.end {
                    return None;
                }
                self.give_up();
                return Some(Executed::TimedOut);
            }
            Ok(Some(_)) => {
                self.end_group();
                waitpid(Some(self.id), WaitOptions::NOHANG).ok().flatten().map(|(_, status)| status.into())
            }
            Err(_) => {
                self.end_group_of_reaped();
                reaped()
            }
        };
        // What it said last.
        self.read();
        Some(Executed::Ended {
            exit: exit.unwrap_or(Exit { status: None, signal: None }),
            output: String::from_utf8_lossy(&self.said).into_owned(),
        })
    }

    /// Ends it, with what it started.
    pub(super) fn give_up(&mut self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if waitid(WaitId::Pid(self.id), options).is_err() {
            return self.end_group_of_reaped();
        }
        self.end_group();
        if self.handle.as_ref().is_none_or(|handle| handle.wait(DEATH_TIMEOUT)) {
            let _ = waitpid(Some(self.id), WaitOptions::NOHANG);
        }
    }

    /// Its leader is not waited for yet, so the group's number is no other's.
    fn end_group(&self) {
        let _ = kill_process_group(self.id, Signal::KILL);
    }

    /// The group's number may be another one's by now, but for those below us.
    fn end_group_of_reaped(&self) {
        for process in descendants(rustix::process::getpid().as_raw_nonzero().get()) {
            if Stat::read(process.pid).is_some_and(|stat| stat.group == self.pid())
                && let Found::Alive(handle) = find(&process)
            {
                let _ = handle.signal(Signal::KILL);
            }
        }
    }

    fn read(&mut self) {
        let read = (&mut self.output).take(PIECE).read_to_end(&mut self.said);
        self.open = !matches!(read, Ok(count) if (count as u64) < PIECE);
        self.said.truncate(OUTPUT_MAX as usize);
    }
}

/// A folder that is gone is no reason to ask nothing.
fn existing(folder: &Path) -> &Path {
    if folder.is_dir() { folder } else { Path::new("/") }
}
