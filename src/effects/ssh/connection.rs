//! One connection: from the first packet to the accepted key, and the channels in it. Deadlines stand outside the library, and the
//! library runs in a task of its own, so a server that makes it hang or panic costs its own host and nothing else.

use std::{future::Future, sync::Arc, time::Duration};

use russh::{
    ChannelOpenFailure,
    client::{Handle, Msg},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Credentials, SshError, SshTarget,
    greet::{Watcher, connect},
};

/// Opening a channel is one round trip.
const OPEN: Duration = Duration::from_secs(15);

/// A stream to a port of the host, through the connection.
pub type Stream = russh::ChannelStream<Msg>;

/// Channels are multiplexed; ends when it is dropped.
pub struct Connection {
    pub(super) handle: Handle<Watcher>,
    pub(super) address: String,
    pub(super) server: String,
    /// The connection that carries this one.
    pub(super) via: Option<Arc<Connection>>,
}

impl Connection {
    /// Stops before authentication where the host does not prove that it is the one.
    pub async fn open(target: &SshTarget, credentials: &Credentials) -> Result<Self, SshError> {
        Self::open_via(None, target, credentials).await
    }

    /// The same through another connection, which lives as long as this one.
    pub async fn open_via(
        via: Option<Arc<Connection>>,
        target: &SshTarget,
        credentials: &Credentials,
    ) -> Result<Self, SshError> {
        let expected = credentials.expected(&target.address, target.port).await?;
        let (target, identity) = (target.clone(), credentials.identity().clone());
        let address = target.address.clone();
        let work = tokio::spawn(async move { connect(via, &target, expected, &identity).await });
        match AbortOnDropHandle::new(work).await {
            Ok(done) => done,
            Err(broken) => Err(SshError::Protocol { address, why: format!("the SSH library gave up ({broken})") }),
        }
    }

    /// Through these jump hosts, the first of which is dialled from here. Each proves who it is before it is sent anything.
    pub async fn open_chain(
        hops: &[SshTarget],
        end: &str,
        credentials: &Credentials,
    ) -> Result<Option<Arc<Self>>, SshError> {
        let mut via = None;
        for hop in hops {
            let jump =
                |cause| SshError::Jump { hop: hop.address.clone(), address: end.to_owned(), cause: Box::new(cause) };
            via = Some(Arc::new(Self::open_via(via, hop, credentials).await.map_err(jump)?));
        }
        Ok(via)
    }

    /// The server's version banner, for people: printable ASCII, at most 255 characters.
    pub fn server(&self) -> &str {
        &self.server
    }

    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// A stream to 127.0.0.1:`port` of the host; `None` where nobody accepts there.
    pub async fn direct_tcpip(&self, port: u16) -> Result<Option<Stream>, SshError> {
        self.forward("127.0.0.1", port, OPEN).await
    }

    /// A stream from the host to `address`:`port`; `None` where nobody accepts there.
    pub(super) async fn forward(&self, address: &str, port: u16, limit: Duration) -> Result<Option<Stream>, SshError> {
        let opening = self.handle.channel_open_direct_tcpip(address, u32::from(port), "127.0.0.1", 0);
        match self.within("opening a stream", limit, opening).await? {
            Ok(channel) => Ok(Some(channel.into_stream())),
            Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed)) => Ok(None),
            Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited)) => {
                Err(SshError::NoForwarding { address: self.address.clone() })
            }
            Err(error) => Err(self.lost("opening a stream", &error)),
        }
    }

    pub(super) async fn session(&self) -> Result<russh::Channel<Msg>, SshError> {
        let opened = self.within("opening a session", OPEN, self.handle.channel_open_session()).await?;
        opened.map_err(|error| self.lost("opening a session", &error))
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

    /// Where the jump host is gone the host is not to blame.
    pub(super) fn gone(&self, what: &'static str, why: String) -> SshError {
        let address = self.address.clone();
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
