//! One connection: from the first packet to the accepted key, and the channels in it. Deadlines stand outside the library, and the
//! library runs in a task of its own, so a server that makes it hang or panic costs its own host and nothing else.

use std::{
    borrow::Cow,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use russh::{
    ChannelOpenFailure, Preferred,
    client::{self, Handle, Msg, Session},
    compression,
    keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate},
};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::{
    SshError, SshTarget,
    keys::{Credentials, Expected, fingerprint},
};

/// Opening a channel is one round trip.
const OPEN: Duration = Duration::from_secs(15);

/// A stream to a port of the host, through the connection.
pub type Stream = russh::ChannelStream<Msg>;

/// Channels are multiplexed; ends when it is dropped.
pub struct Connection {
    pub(super) handle: Handle<Watcher>,
    pub(super) address: String,
    server: String,
}

impl Connection {
    /// Stops before authentication where the host key is not one of known_hosts.
    pub async fn open(target: &SshTarget, credentials: &Credentials) -> Result<Self, SshError> {
        let expected = credentials.expected(&target.address, target.port)?;
        let (target, identity) = (target.clone(), PrivateKeyWithHashAlg::new(credentials.identity(), None));
        let address = target.address.clone();
        let work = tokio::spawn(async move { connect(&target, expected, identity).await });
        match AbortOnDropHandle::new(work).await {
            Ok(done) => done,
            Err(broken) => Err(SshError::Protocol { address, why: format!("the SSH library gave up ({broken})") }),
        }
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
        let opening = self.handle.channel_open_direct_tcpip("127.0.0.1", u32::from(port), "127.0.0.1", 0);
        match self.within("opening a stream", OPEN, opening).await? {
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
        SshError::Lost { address: self.address.clone(), what, why: error.to_string() }
    }
}

async fn connect(
    target: &SshTarget,
    expected: Expected,
    identity: PrivateKeyWithHashAlg,
) -> Result<Connection, SshError> {
    let (address, limit) = (target.address.clone(), target.connect_timeout);
    let unreachable = |why: String| SshError::Unreachable { address: address.clone(), why };
    let silent = |what| SshError::Silent { address: address.clone(), what, seconds: limit.as_secs() };

    let socket = tokio::time::timeout(limit, TcpStream::connect((target.address.as_str(), target.port)))
        .await
        .map_err(|_| unreachable(format!("no answer within {} s", limit.as_secs())))?
        .map_err(|error| unreachable(error.to_string()))?;
    socket.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;

    let seen = Arc::new(Mutex::new(Seen::default()));
    let config = Arc::new(config(&expected));
    let watcher = Watcher { expected: expected.clone(), seen: seen.clone(), first: true };
    let greeted = tokio::time::timeout(limit, client::connect_stream(config, socket, watcher))
        .await
        .map_err(|_| silent("no SSH greeting or key exchange"))?;
    let seen = || seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut handle = greeted.map_err(|error| greeting_failed(&address, &expected, &seen(), &error))?;

    let asked = handle.authenticate_publickey(target.user.clone(), identity);
    let answer = tokio::time::timeout(limit, asked).await.map_err(|_| silent("no answer to our key"))?;
    match answer {
        Ok(result) if result.success() => Ok(Connection { handle, address: address.clone(), server: seen().banner }),
        Ok(_) if handle.is_closed() => Err(SshError::Lost {
            address: address.clone(),
            what: "authenticating",
            why: "the server closed the connection".to_owned(),
        }),
        Ok(_) => Err(SshError::AuthenticationFailed { address: address.clone(), user: target.user.clone() }),
        Err(error) => Err(SshError::Lost { address: address.clone(), what: "authenticating", why: error.to_string() }),
    }
}

fn greeting_failed(address: &str, expected: &Expected, seen: &Seen, error: &russh::Error) -> SshError {
    let address = address.to_owned();
    if let Some(got) = &seen.stranger {
        return SshError::HostKeyMismatch { address, expected: expected.fingerprints(), got: got.clone() };
    }
    if seen.weak {
        let why = "it offers no strict key exchange (CVE-2023-48795); update its OpenSSH".to_owned();
        return SshError::Protocol { address, why };
    }
    match error {
        // The server has no key of the types that known_hosts has for it: it is another one than we know.
        russh::Error::NoCommonAlgo { kind: russh::AlgorithmKind::Key, theirs, .. } => SshError::HostKeyMismatch {
            address,
            expected: expected.fingerprints(),
            got: printable(format!("a key of another type ({})", theirs.join(", ")).as_bytes()),
        },
        russh::Error::IO(_) | russh::Error::Disconnect | russh::Error::HUP => {
            SshError::Lost { address, what: "greeting", why: printable(error.to_string().as_bytes()) }
        }
        other => SshError::Protocol { address, why: printable(other.to_string().as_bytes()) },
    }
}

fn config(expected: &Expected) -> client::Config {
    client::Config {
        preferred: Preferred {
            key: Cow::Owned(expected.algorithms()),
            compression: Cow::Borrowed(&[compression::NONE]),
            ..Preferred::DEFAULT
        },
        keepalive_interval: Some(Duration::from_secs(10)),
        keepalive_max: 3,
        inactivity_timeout: Some(Duration::from_secs(60)),
        nodelay: true,
        ..client::Config::default()
    }
}

/// What the handler learned, for the message when the library only says no.
#[derive(Clone, Default)]
struct Seen {
    banner: String,
    stranger: Option<String>,
    weak: bool,
}

/// Answers the library's questions: is this the host, is the exchange strict. Whatever the server opens by itself is refused.
pub(super) struct Watcher {
    expected: Expected,
    seen: Arc<Mutex<Seen>>,
    first: bool,
}

impl client::Handler for Watcher {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let stranger = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } if self.expected.contains(key) => return Ok(true),
            PublicKeyOrCertificate::PublicKey { key, .. } => fingerprint(key),
            PublicKeyOrCertificate::Certificate(_) => "a certificate".to_owned(),
        };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).stranger = Some(stranger);
        Ok(false)
    }

    async fn kex_done(
        &mut self,
        _: Option<&[u8]>,
        names: &russh::Names,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if std::mem::take(&mut self.first) {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.banner = printable(session.remote_sshid());
            let sealed = names.cipher.as_ref().contains("-gcm@");
            if !names.strict_kex() && !sealed {
                seen.weak = true;
                return Err(russh::Error::Kex);
            }
        }
        Ok(())
    }
}

fn printable(bytes: &[u8]) -> String {
    bytes.iter().take(255).map(|b| if (32..127).contains(b) { char::from(*b) } else { '?' }).collect()
}
