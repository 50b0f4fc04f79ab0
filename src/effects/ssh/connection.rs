//! One connection and the channels in it; `handshake.rs` opens it. Deadlines stand outside the library, and the
//! library runs in a task of its own, so a server that makes it hang or panic costs its own host and nothing else.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use russh::{
    Channel, ChannelOpenFailure,
    client::{Handle, Msg},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    SshError,
    client_handler::{ClientHandler, SharedServerObserved},
    throttle::CloseHandle,
};

/// Opening a channel is one round trip.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// Commands at once. OpenSSH's `MaxSessions` is 10 by default; a lower one is learned.
const SESSIONS_MAX: usize = 8;
/// So many times the patience of who asked for a channel an answer may still come, to be closed.
const LATE_TIMES: u32 = 4;

/// A stream to a port of the host, through the connection.
pub type Stream = russh::ChannelStream<Msg>;

/// Channels are multiplexed; ends when it is dropped.
pub struct Connection {
    handle: Arc<Handle<ClientHandler>>,
    pub(super) address: String,
    server: String,
    observed: SharedServerObserved,
    /// The connection that carries this one.
    pub(super) via: Option<Arc<Connection>>,
    pub(super) close_handle: CloseHandle,
    sessions: Arc<Semaphore>,
    /// Number of sessions of `SESSIONS_MAX` that the server refused.
    refused: AtomicUsize,
}

impl Connection {
    /// Of one that signed in just now.
    pub(super) fn new(
        handle: Handle<ClientHandler>,
        close_handle: CloseHandle,
        address: String,
        observed: SharedServerObserved,
        via: Option<Arc<Connection>>,
    ) -> Self {
        let (sessions, refused) = (Arc::new(Semaphore::new(SESSIONS_MAX)), AtomicUsize::new(0));
        let server = observed.lock().banner.clone();
        Self { handle: Arc::new(handle), address, server, observed, via, close_handle, sessions, refused }
    }

    /// The server's version banner, for people: printable ASCII, at most 255 characters.
    pub fn server(&self) -> &str {
        &self.server
    }

    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// A stream from the host to `address`:`port`; `None` where nothing accepts there.
    pub async fn forward(&self, address: &str, port: u16, limit: Duration) -> Result<Option<Stream>, SshError> {
        let address = address.to_owned();
        let opening = |handle: Arc<Handle<ClientHandler>>| async move {
            handle.channel_open_direct_tcpip(address, u32::from(port), "127.0.0.1", 0).await
        };
        match self.channel("opening a stream", limit, opening).await? {
            Ok(channel) => Ok(Some(channel.into_stream())),
            Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed)) => Ok(None),
            Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited)) => {
                Err(SshError::NoForwarding { address: self.address.clone() })
            }
            Err(error) => Err(self.lost("opening a stream", &error)),
        }
    }

    /// A channel for a command, and the right to it: where the server allows few at once (`MaxSessions`), others wait.
    pub(super) async fn session(&self) -> Result<(russh::Channel<Msg>, OwnedSemaphorePermit), SshError> {
        const WHAT: &str = "opening a session";
        let gone = |_| SshError::Lost { address: self.address.clone(), what: WHAT, why: "it was closed".to_owned() };
        loop {
            let permit = self.sessions.clone().acquire_owned().await.map_err(gone)?;
            let opening = |handle: Arc<Handle<ClientHandler>>| async move { handle.channel_open_session().await };
            match self.channel(WHAT, OPEN_TIMEOUT, opening).await? {
                Ok(channel) => return Ok((channel, permit)),
                // With others open it is one too many; refused alone it is refused.
                Err(russh::Error::ChannelOpenFailure(_)) if self.others_open() => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    permit.forget();
                }
                Err(error) => return Err(self.lost(WHAT, &error)),
            }
        }
    }

    /// Opens a channel in a task of its own. The library forgets an opening that is not waited for, and the host keeps its end: a connection
    /// to an application, or one of its few sessions. So a channel that comes too late is closed.
    async fn channel<F>(
        &self,
        what: &'static str,
        limit: Duration,
        opening: impl FnOnce(Arc<Handle<ClientHandler>>) -> F,
    ) -> Result<Result<Channel<Msg>, russh::Error>, SshError>
    where
        F: Future<Output = Result<Channel<Msg>, russh::Error>> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let opening = opening(self.handle.clone());
        tokio::spawn(async move {
            if let Ok(opened) = tokio::time::timeout(limit * LATE_TIMES, opening).await {
                // Where nobody waits any more it is closed as it is dropped.
                let _ = sender.send(opened.map(|channel| Opened(Some(channel))));
            }
        });
        let unanswered = || self.gone(what, "it was not answered".to_owned());
        match self.within(what, limit, answer).await?.map_err(|_| unanswered())? {
            Ok(mut opened) => opened.0.take().map(Ok).ok_or_else(unanswered),
            Err(error) => Ok(Err(error)),
        }
    }

    fn others_open(&self) -> bool {
        let ours = self.sessions.available_permits() + self.refused.load(Ordering::Relaxed) + 1;
        ours < SESSIONS_MAX
    }

    pub(super) async fn within<T>(
        &self,
        what: &'static str,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, SshError> {
        let late = |_| SshError::Deadline { address: self.address.clone(), what, seconds: limit.as_secs() };
        tokio::time::timeout(limit, work).await.map_err(late)
    }

    pub(super) fn lost(&self, what: &'static str, error: &russh::Error) -> SshError {
        self.gone(what, error.to_string())
    }

    /// Where we disconnected the host violated the protocol; where the jump host is gone the error is the jump host's.
    pub(super) fn gone(&self, what: &'static str, why: String) -> SshError {
        let address = self.address.clone();
        if let Some(violation) = self.observed.lock().violation {
            return SshError::Protocol { address, why: violation.to_owned() };
        }
        match self.via.as_ref().filter(|via| via.is_closed()) {
            None => SshError::Lost { address, what, why },
            Some(via) => SshError::Jump {
                hop: via.address.clone(),
                address,
                cause: Box::new(via.gone(what, "it ended".to_owned())),
            },
        }
    }
}

/// A channel that is open and that nobody has yet: closed when it is dropped.
struct Opened(Option<Channel<Msg>>);

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(channel) = self.0.take() {
            tokio::spawn(async move { channel.close().await });
        }
    }
}
