//! Signals as readable descriptors.

use std::{
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM, SIGUSR1};

/// The signal by which a keeper is told to look for an order.
pub(super) const ORDER: rustix::process::Signal = rustix::process::Signal::USR1;

pub(crate) struct Signals {
    /// Readable when a person, an act or the machine wants something.
    orders: UnixStream,
    /// Readable when a child ended.
    children: UnixStream,
    shutdown: Arc<AtomicBool>,
}

impl Signals {
    pub(crate) fn register() -> io::Result<Self> {
        let shutdown = Arc::new(AtomicBool::new(false));
        let (orders, order_writer) = UnixStream::pair()?;
        let (children, child_writer) = UnixStream::pair()?;
        for stream in [&orders, &children] {
            stream.set_nonblocking(true)?;
        }
        for signal in [SIGTERM, SIGINT] {
            // The flag is set before the descriptor becomes readable: hooks run in their order.
            signal_hook::flag::register(signal, Arc::clone(&shutdown))?;
            signal_hook::low_level::pipe::register(signal, order_writer.try_clone()?)?;
        }
        signal_hook::low_level::pipe::register(SIGUSR1, order_writer)?;
        signal_hook::low_level::pipe::register(SIGCHLD, child_writer)?;
        Ok(Self { orders, children, shutdown })
    }

    pub(crate) fn orders(&self) -> BorrowedFd<'_> {
        self.orders.as_fd()
    }

    pub(crate) fn children(&self) -> BorrowedFd<'_> {
        self.children.as_fd()
    }

    /// The machine shuts down, or somebody wants us to end.
    pub(crate) fn shutdown(&self) -> bool {
        self.shutdown.load(Ordering::SeqCst)
    }

    /// Takes what is readable; true: an order may have come.
    pub(crate) fn take(&mut self) -> bool {
        drain(&mut self.children);
        drain(&mut self.orders)
    }
}

fn drain(stream: &mut UnixStream) -> bool {
    let mut buffer = [0u8; 64];
    let mut any = false;
    while matches!(stream.read(&mut buffer), Ok(read) if read > 0) {
        any = true;
    }
    any
}
