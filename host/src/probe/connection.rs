//! A connection with one deadline for all that is done on it, given up at once when something else happens.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType},
};

use crate::{clock, process::timespec};

/// Descriptors that end a try as soon as one of them is readable: the application's pidfd, what orders come by.
#[derive(Clone, Copy)]
pub struct Interrupts<'a>(pub &'a [BorrowedFd<'a>]);

/// Why a try ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    Failed(String),
    /// What did not happen in time.
    TimedOut(&'static str),
    Interrupted,
}

pub(super) struct Connection<'a> {
    socket: OwnedFd,
    /// Where it goes to, for a person.
    to: SocketAddr,
    end: Instant,
    interrupts: Interrupts<'a>,
}

impl<'a> Connection<'a> {
    pub(super) fn open(
        address: IpAddr,
        port: u16,
        timeout: Duration,
        interrupts: Interrupts<'a>,
    ) -> Result<Self, Stopped> {
        let to = SocketAddr::new(address, port);
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let failed = |error: Errno| Stopped::Failed(format!("{to}: {}", std::io::Error::from(error)));
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None).map_err(failed)?;
        let connection = Self { socket, to, end: clock::monotonic() + timeout, interrupts };
        match rustix::net::connect(&connection.socket, &to) {
            Ok(()) => {}
            Err(Errno::INPROGRESS) => {
                connection.wait(PollFlags::OUT, "no connection was accepted")?;
                let error = rustix::net::sockopt::socket_error(&connection.socket).map_err(failed)?;
                error.map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        // A port that nobody listens on may be connected with itself, where it is one of those that clients get.
        let own = rustix::net::getsockname(&connection.socket).ok().and_then(|own| SocketAddr::try_from(own).ok());
        if own == Some(to) {
            return Err(failed(Errno::CONNREFUSED));
        }
        Ok(connection)
    }

    /// The deadline moves to so much from now, if it was later.
    pub(super) fn hurry(&mut self, time: Duration) {
        self.end = self.end.min(clock::monotonic() + time);
    }

    pub(super) fn send(&mut self, mut bytes: &[u8]) -> Result<(), Stopped> {
        while !bytes.is_empty() {
            self.in_time("the request was not taken")?;
            match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT, "the request was not taken")?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(())
    }

    /// 0: the other end closed.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Stopped> {
        loop {
            self.in_time("nothing was answered")?;
            match rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((received, _)) => return Ok(received),
                Err(Errno::AGAIN) => self.wait(PollFlags::IN, "nothing was answered")?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    fn failed(&self, error: Errno) -> Stopped {
        Stopped::Failed(format!("{}: {}", self.to, std::io::Error::from(error)))
    }

    /// Also for an end that always has something to say, such as records of TLS without content: it never blocks.
    fn in_time(&self, what: &'static str) -> Result<(), Stopped> {
        match clock::monotonic() >= self.end {
            true => Err(Stopped::TimedOut(what)),
            false => Ok(()),
        }
    }

    fn wait(&self, flags: PollFlags, what: &'static str) -> Result<(), Stopped> {
        loop {
            let left = self.end.saturating_duration_since(clock::monotonic());
            if left.is_zero() {
                return Err(Stopped::TimedOut(what));
            }
            let mut fds = vec![PollFd::from_borrowed_fd(self.socket.as_fd(), flags)];
            fds.extend(self.interrupts.0.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
            let _ = poll(&mut fds, Some(&timespec(left)));
            let mut fds = fds.iter();
            let ours = fds.next().is_some_and(|fd| !fd.revents().is_empty());
            if fds.any(|fd| !fd.revents().is_empty()) {
                return Err(Stopped::Interrupted);
            }
            if ours {
                return Ok(());
            }
        }
    }
}
