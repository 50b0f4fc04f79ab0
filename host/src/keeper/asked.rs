//! A probe and its try under way. A try is begun and looked at; nothing waits for one that hangs. What connects does so in a thread of its
//! own, what is a command is a process.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::mpsc::{self, Receiver, TryRecvError},
    time::{Duration, Instant},
};

use landfall_host_protocol::{Probe, ProbeAction};

use super::{
    hands::{Hands, UnderWay},
    readiness::Tries,
};
use crate::probe::{self, Tried};

/// What a request by TLS needs, and a little more.
const STACK: usize = 512 << 10;

/// A probe of a running application.
pub(super) struct Asked {
    pub(super) tries: Tries,
    pub(super) under_way: Option<Try>,
}

/// A try under way.
pub(super) struct Try {
    pub(super) began: Instant,
    pub(super) by: By,
}

pub(super) enum By {
    Connection(Connecting),
    Command(UnderWay),
}

impl Asked {
    pub(super) fn new(probe: &Probe, started: Instant) -> Self {
        Self { tries: Tries::new(probe, started), under_way: None }
    }

    /// When it is looked at in any case.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.under_way {
            None => Some(self.tries.due),
            Some(Try { by: By::Command(command), .. }) => Some(command.end()),
            Some(Try { by: By::Connection(_), .. }) => None,
        }
    }

    /// Readable when it is to be looked at.
    pub(super) fn watched<'a>(&'a self, hands: &'a dyn Hands) -> Vec<BorrowedFd<'a>> {
        match &self.under_way {
            None => Vec::new(),
            Some(Try { by: By::Command(command), .. }) => hands.watched(command),
            Some(Try { by: By::Connection(connecting), .. }) => vec![connecting.ends.as_fd()],
        }
    }

    /// The try under way counts for nothing.
    pub(super) fn give_up(&mut self, hands: &mut dyn Hands) {
        if let Some(Try { by: By::Command(command), .. }) = self.under_way.take() {
            hands.give_up(command);
        }
    }
}

/// A try that connects. It ends where this is dropped.
pub(super) struct Connecting {
    answer: Receiver<Tried>,
    /// Readable when there is an answer.
    ends: UnixStream,
}

impl Connecting {
    pub(super) fn begin(action: &ProbeAction, timeout: Duration) -> io::Result<Self> {
        let (ends, theirs) = UnixStream::pair()?;
        let (sender, answer) = mpsc::channel();
        let action = action.clone();
        std::thread::Builder::new().name("probe".to_owned()).stack_size(STACK).spawn(move || {
            let tried = probe::connect(&action, timeout, &[theirs.as_fd()]);
            // Nobody may wait for it any more.
            let _ = sender.send(tried);
            drop(theirs);
        })?;
        Ok(Self { answer, ends })
    }

    /// What it came to; `None`: it is under way.
    pub(super) fn look(&self) -> Option<Tried> {
        match self.answer.try_recv() {
            Ok(tried) => Some(tried),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Tried::Interrupted),
        }
    }
}
