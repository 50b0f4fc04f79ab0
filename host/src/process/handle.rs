//! A process that is held: by a pidfd where the kernel has one, else by pid and start time. Signals and waits go through it, so that
//! they never reach another process that got the pid later.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal, test_kill_process},
};

use super::{
    WITHOUT_PIDFD,
    identity::{Identity, boot_id},
    stat::Stat,
};
use crate::clock;

/// Between two looks where there is no pidfd to wait on.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Between two signals to processes that may fork as fast as they are killed.
const KILL_INTERVAL: Duration = Duration::from_millis(50);
/// How long what may not be signalled is waited for.
const REFUSED_TIMEOUT: Duration = Duration::from_millis(200);

/// What became of a process.
#[derive(Debug)]
pub enum Found {
    Alive(Handle),
    Dead,
    /// Something has its pid, and it may not be seen whether it is that process (`hidepid`). It is not signalled.
    Hidden,
}

/// A process that was proved to be the one of its identity.
#[derive(Debug)]
pub struct Handle {
    identity: Identity,
    pidfd: Option<OwnedFd>,
}

/// Looks for the process of this identity. The pidfd is opened first and the start time compared then: the other way round the pid could
/// pass to another in between.
pub fn find(identity: &Identity) -> Found {
    if identity.boot_id != boot_id() {
        return Found::Dead;
    }
    let Some(pid) = pid_of(identity.pid) else { return Found::Dead };
    let pidfd = match open_pidfd(pid) {
        Ok(pidfd) => Some(pidfd),
        Err(Errno::SRCH) => return Found::Dead,
        // Old kernels answer NOSYS, filters of system calls PERM, and a table of descriptors may be full.
        Err(_) => None,
    };
    match Stat::read(identity.pid) {
        Some(stat) if stat.is_dead() => Found::Dead,
        // It could not be seen when it went on record, and can be now: nothing but its pid is known.
        Some(_) if identity.start == 0 => Found::Hidden,
        Some(stat) if stat.start != identity.start => Found::Dead,
        Some(_) => Found::Alive(Handle { identity: identity.clone(), pidfd }),
        None => match pidfd {
            Some(pidfd) if is_readable(pidfd.as_fd()) => Found::Dead,
            _ if exists(pid) => Found::Hidden,
            _ => Found::Dead,
        },
    }
}

/// Nothing lives that has this pid, as far as that can be told: what may not be seen lives unless a pidfd says that it is dead.
pub fn is_dead(pid: i32) -> bool {
    match Stat::read(pid) {
        Some(stat) => stat.is_dead(),
        None => matches!(find(&Identity { pid, start: 0, boot_id: boot_id().to_owned() }), Found::Dead),
    }
}

impl Handle {
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Readable when the process is dead, a zombie included.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    pub fn is_alive(&self) -> bool {
        match &self.pidfd {
            Some(pidfd) => !is_readable(pidfd.as_fd()),
            None => {
                Stat::read(self.identity.pid).is_some_and(|stat| stat.start == self.identity.start && !stat.is_dead())
            }
        }
    }

    /// Sends a signal to this one process; false: it is dead.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        let sent = match &self.pidfd {
            Some(pidfd) => match pidfd_send_signal(pidfd, signal) {
                Err(Errno::NOSYS | Errno::PERM) => self.signal_by_pid(signal),
                sent => sent,
            },
            None => self.signal_by_pid(signal),
        };
        match sent {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn signal_by_pid(&self, signal: Signal) -> rustix::io::Result<()> {
        if !self.is_alive() {
            return Err(Errno::SRCH);
        }
        kill_process(pid_of(self.identity.pid).ok_or(Errno::SRCH)?, signal)
    }

    /// Waits until it is dead; false: it is not, after this time.
    pub fn wait(&self, timeout: Duration) -> bool {
        first_dead(&[self], timeout).is_some()
    }
}

/// Waits until one of them is dead, and answers which.
pub fn first_dead(handles: &[&Handle], timeout: Duration) -> Option<usize> {
    let end = clock::monotonic() + timeout;
    loop {
        if let Some(dead) = handles.iter().position(|handle| !handle.is_alive()) {
            return Some(dead);
        }
        let left = end.saturating_duration_since(clock::monotonic());
        if left.is_zero() {
            return None;
        }
        let unheld = handles.iter().any(|handle| handle.pidfd.is_none());
        let pause = if unheld { left.min(LOOK_INTERVAL) } else { left };
        let mut fds: Vec<PollFd<'_>> = handles
            .iter()
            .filter_map(|handle| Some(PollFd::from_borrowed_fd(handle.pidfd()?, PollFlags::IN)))
            .collect();
        // An interrupted wait is just a shorter one.
        let _ = poll(&mut fds, Some(&timespec(pause)));
    }
}

/// Kills what `living` lists, again and again until it lists nothing: what forks as fast as it is killed is found by the next list. False:
/// something outlives KILL. It is not waited for long where nothing that is left may be signalled.
pub fn end_all(mut living: impl FnMut() -> Vec<Identity>, timeout: Duration) -> bool {
    let end = clock::monotonic() + timeout;
    let mut refused_ends = clock::monotonic() + REFUSED_TIMEOUT;
    loop {
        let now = clock::monotonic();
        let late = now >= end.min(refused_ends);
        let mut found = Vec::new();
        for identity in living() {
            let Found::Alive(handle) = find(&identity) else { continue };
            // One that may not be signalled is found again, and told in the end.
            if !late && handle.signal(Signal::KILL).is_ok() {
                refused_ends = now + REFUSED_TIMEOUT;
            }
            found.push(handle);
        }
        if found.is_empty() || late {
            return found.is_empty();
        }
        let round_ends = clock::monotonic() + KILL_INTERVAL;
        for handle in &found {
            handle.wait(round_ends.saturating_duration_since(clock::monotonic()));
        }
    }
}

fn pid_of(pid: i32) -> Option<Pid> {
    (pid > 0).then(|| Pid::from_raw(pid)).flatten()
}

fn open_pidfd(pid: Pid) -> rustix::io::Result<OwnedFd> {
    if cfg!(debug_assertions) && std::env::var_os(WITHOUT_PIDFD).is_some() {
        return Err(Errno::NOSYS);
    }
    pidfd_open(pid, PidfdFlags::empty())
}

fn exists(pid: Pid) -> bool {
    matches!(test_kill_process(pid), Ok(()) | Err(Errno::PERM))
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&timespec(Duration::ZERO))) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

pub(crate) fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(time.subsec_nanos()) }
}
