//! What came for one request and was not taken yet: bounded in bytes. It must not know what it holds.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use landfall_host_protocol::Answer;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Bytes that wait for one request, as they came over the line.
const INBOX_MAX: usize = 2 << 20;
/// How long the line is not read while one request takes nothing. Beyond it that request is ended, and the others go on.
const STALL_MAX: Duration = Duration::from_secs(2);

/// One frame for a request.
#[derive(Debug)]
pub(super) enum Incoming {
    Answer(Answer),
    Bytes { bytes: Bytes, last: bool },
}

/// Why nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// The session ended; it knows why.
    Session,
    /// It was not read in time.
    Lagged,
}

#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    arrived: Notify,
    taken: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(Incoming, usize)>,
    bytes: usize,
    closed: Option<Closed>,
}

impl Inbox {
    /// Puts a frame of so many bytes in, and waits a moment where it is full. False: it was closed for that.
    pub async fn put(&self, incoming: Incoming, size: usize) -> bool {
        let full = || {
            let state = self.state.lock();
            state.closed.is_none() && !state.queue.is_empty() && state.bytes + size > INBOX_MAX
        };
        if full() {
            let room = async {
                loop {
                    let taken = self.taken.notified();
                    if !full() {
                        return;
                    }
                    taken.await;
                }
            };
            if tokio::time::timeout(STALL_MAX, room).await.is_err() {
                self.close(Closed::Lagged);
                return false;
            }
        }
        let mut state = self.state.lock();
        if state.closed.is_none() {
            state.bytes += size;
            state.queue.push_back((incoming, size));
            self.arrived.notify_one();
        }
        true
    }

    /// The next frame. After it was closed, what came before is still to be had.
    pub async fn take(&self) -> Result<Incoming, Closed> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut state = self.state.lock();
                if let Some((incoming, size)) = state.queue.pop_front() {
                    state.bytes -= size;
                    self.taken.notify_one();
                    return Ok(incoming);
                }
                if let Some(closed) = state.closed {
                    return Err(closed);
                }
            }
            arrived.await;
        }
    }

    /// Back when something is there, or never will be.
    pub async fn arrived(&self) {
        loop {
            let arrived = self.arrived.notified();
            {
                let state = self.state.lock();
                if !state.queue.is_empty() || state.closed.is_some() {
                    break;
                }
            }
            arrived.await;
        }
        // For whoever takes it.
        self.arrived.notify_one();
    }

    pub fn close(&self, why: Closed) {
        self.state.lock().closed.get_or_insert(why);
        self.arrived.notify_one();
        self.taken.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(n: usize) -> Incoming {
        Incoming::Bytes { bytes: vec![0; n].into(), last: false }
    }

    #[tokio::test]
    async fn a_request_that_takes_nothing_is_ended_and_holds_no_more_than_its_share() {
        let inbox = Inbox::default();
        let mut put = 0;
        while inbox.put(piece(1 << 19), 1 << 19).await {
            put += 1 << 19;
            assert!(put <= INBOX_MAX);
        }
        assert_eq!(put, INBOX_MAX);
        for _ in 0..put >> 19 {
            assert!(inbox.take().await.is_ok());
        }
        assert_eq!(inbox.take().await.unwrap_err(), Closed::Lagged);
    }

    #[tokio::test]
    async fn a_slow_reader_slows_the_line_down_and_loses_nothing() {
        let inbox = std::sync::Arc::new(Inbox::default());
        let reading = tokio::spawn({
            let inbox = inbox.clone();
            async move {
                let mut read = 0;
                while let Ok(Incoming::Bytes { bytes, .. }) = inbox.take().await {
                    read += bytes.len();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                read
            }
        });
        for _ in 0..20 {
            assert!(inbox.put(piece(1 << 20), 1 << 20).await);
        }
        inbox.close(Closed::Session);
        assert_eq!(reading.await.unwrap(), 20 << 20);
    }
}
