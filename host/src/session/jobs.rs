//! Work that may block (disks, locks, sudo, name services) is done in threads, so that the session's loop never waits for one request. A
//! result comes back over a channel and wakes the loop.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use rustix::event::{EventfdFlags, eventfd};

/// Threads at once; while all of them work, requests are not read.
const MAX_JOBS: usize = 16;
/// Stack of a thread. A session is to stay small.
const STACK: usize = 512 << 10;

pub(super) struct Jobs<T> {
    running: usize,
    sender: Sender<T>,
    receiver: Receiver<T>,
    wake: Wake,
}

/// Makes the loop look, from any thread.
#[derive(Clone)]
pub(super) struct Wake(Arc<OwnedFd>);

impl Wake {
    pub(super) fn wake(&self) {
        // Only a counter at its end refuses, and then the loop wakes anyway.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

impl<T: Send + 'static> Jobs<T> {
    pub(super) fn new() -> io::Result<Self> {
        let (sender, receiver) = channel();
        let wake = Wake(Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?));
        Ok(Self { running: 0, sender, receiver, wake })
    }

    /// False: no thread could be started.
    pub(super) fn start(&mut self, work: impl FnOnce() -> T + Send + 'static) -> bool {
        let (sender, wake) = (self.sender.clone(), self.wake.clone());
        let started = thread::Builder::new().stack_size(STACK).spawn(move || {
            // The loop may be gone by now: the work is done all the same.
            let _ = sender.send(work());
            wake.wake();
        });
        let started = started.is_ok();
        self.running += usize::from(started);
        started
    }

    /// The next result.
    pub(super) fn next_result(&mut self) -> Option<T> {
        let result = self.receiver.try_recv().ok()?;
        self.running = self.running.saturating_sub(1);
        Some(result)
    }

    pub(super) fn is_full(&self) -> bool {
        self.running >= MAX_JOBS
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running == 0
    }

    pub(super) fn waker(&self) -> Wake {
        self.wake.clone()
    }

    /// Readable when there is something to look at.
    pub(super) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.0.as_fd()
    }

    pub(super) fn clear_wake(&self) {
        let _ = rustix::io::read(&*self.wake.0, &mut [0; 8]);
    }
}
