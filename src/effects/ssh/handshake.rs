//! From the first packet to the accepted key: the route, the key exchange, the server's identity and ours.

use std::{borrow::Cow, sync::Arc, time::Duration};

use russh::{
    Preferred, cipher,
    client::{self, AuthResult, Handle},
    compression, kex,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Connection, Credentials, Identity, OpenOptions, Permit, SshError, SshTarget,
    client_handler::{ClientHandler, ServerObserved, SharedServerObserved},
    identity::Proof,
    printable,
    throttle::{CloseHandle, Moved, throttled},
    trust::Expected,
};
use crate::effects::names::{self, LookupPool};

/// How the server is reached.
pub(super) enum Route {
    Dial,
    /// In a stream of this connection.
    Through(Arc<Connection>),
    Over(TcpStream),
}

pub(super) async fn connect(
    route: Route,
    permit: Option<Permit>,
    target: &SshTarget,
    expected: Expected,
    identity: &Identity,
) -> Result<Connection, SshError> {
    let ((mut handle, observed, close_handle), via) = match route {
        Route::Dial => (handshake(dial(target).await?, permit, target, expected).await?, None),
        Route::Over(socket) => (handshake(socket, permit, target, expected).await?, None),
        Route::Through(via) => (handshake(through(&via, target).await?, permit, target, expected).await?, Some(via)),
    };
    let address = target.address.clone();
    let proof = identity.prove(&target.user, &address)?;
    let limit = target.connect_timeout;
    let answer = tokio::time::timeout(limit, log_in(&mut handle, &target.user, proof)).await;
    let silent =
        |_| SshError::Silent { address: address.clone(), what: "no answer to our key", seconds: limit.as_secs() };
    let lost = |why: String| SshError::Lost { address: address.clone(), what: "authenticating", why };
    match answer.map_err(silent)? {
        Ok(result) if result.success() => Ok(Connection::new(handle, close_handle, address, observed, via)),
        Ok(_) if handle.is_closed() => Err(lost("the server closed the connection".to_owned())),
        Ok(_) => Err(SshError::AuthenticationFailed { address, user: target.user.clone() }),
        Err(error) => Err(lost(error.to_string())),
    }
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
        Self::open_with(OpenOptions { via, permit: None }, target, credentials).await
    }

    pub async fn open_with(
        options: OpenOptions,
        target: &SshTarget,
        credentials: &Credentials,
    ) -> Result<Self, SshError> {
        let OpenOptions { via, permit } = options;
        Self::sign_in(via.map_or(Route::Dial, Route::Through), permit, target, credentials).await
    }

    /// The same over a socket that is connected already; the caller has checked where to.
    pub(crate) async fn open_over(
        socket: TcpStream,
        target: &SshTarget,
        credentials: &Credentials,
    ) -> Result<Self, SshError> {
        Self::sign_in(Route::Over(socket), None, target, credentials).await
    }

    async fn sign_in(
        route: Route,
        permit: Option<Permit>,
        target: &SshTarget,
        credentials: &Credentials,
    ) -> Result<Self, SshError> {
        let expected = credentials.expected(&target.address, target.port).await?;
        let (target, identity) = (target.clone(), credentials.identity().clone());
        let address = target.address.clone();
        let work = tokio::spawn(async move { connect(route, permit, &target, expected, &identity).await });
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
}

async fn log_in(handle: &mut Handle<ClientHandler>, user: &str, proof: Proof) -> Result<AuthResult, russh::Error> {
    match proof {
        Proof::Key(key) => handle.authenticate_publickey(user, key).await,
        Proof::Certificate(key, certificate) => handle.authenticate_openssh_cert(user, key, *certificate).await,
    }
}

async fn dial(target: &SshTarget) -> Result<TcpStream, SshError> {
    let limit = target.connect_timeout;
    let unreachable = |why: String| SshError::Unreachable { address: target.address.clone(), why };
    let deadline = tokio::time::Instant::now() + limit;
    let found = names::look_up(LookupPool::Hosts, &target.address, target.port, limit).await.map_err(unreachable)?;
    let socket = tokio::time::timeout_at(deadline, TcpStream::connect(found.as_slice()))
        .await
        .map_err(|_| unreachable(format!("no answer within {} s", limit.as_secs())))?
        .map_err(|error| unreachable(error.to_string()))?;
    socket.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
    Ok(socket)
}

/// What a jump host connects to is not trusted: the host behind it shows its own key.
async fn through(via: &Connection, target: &SshTarget) -> Result<super::Stream, SshError> {
    let SshTarget { address, port, connect_timeout: limit, .. } = target;
    let unreachable = |why: String| SshError::Unreachable { address: address.clone(), why };
    match via.forward(address, *port, *limit).await {
        Ok(Some(stream)) => {
            via.close_handle.free();
            Ok(stream)
        }
        Ok(None) => Err(unreachable(format!("the jump host {} can't connect to port {port} there", via.address))),
        Err(SshError::Deadline { seconds, .. }) => {
            Err(unreachable(format!("no answer within {seconds} s through the jump host {}", via.address)))
        }
        Err(cause) => {
            Err(SshError::Jump { hop: via.address.clone(), address: address.clone(), cause: Box::new(cause) })
        }
    }
}

/// Key exchange and host key; what the server showed, and the handle that closes the stream.
async fn handshake<S>(
    socket: S,
    permit: Option<Permit>,
    target: &SshTarget,
    expected: Expected,
) -> Result<(Handle<ClientHandler>, SharedServerObserved, CloseHandle), SshError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (address, limit) = (target.address.clone(), target.connect_timeout);
    let observed = SharedServerObserved::default();
    let config = Arc::new(config(&expected));
    let moved = Moved::default();
    let handler = ClientHandler::new(expected.clone(), observed.clone(), moved.clone());
    let (stream, close_handle) = throttled(socket, permit, moved);
    let handshaken = tokio::time::timeout(limit, client::connect_stream(config, stream, handler)).await;
    let what = "no SSH greeting or key exchange";
    let handshaken =
        handshaken.map_err(|_| SshError::Silent { address: address.clone(), what, seconds: limit.as_secs() })?;
    let learned = || observed.lock().clone();
    let handle = handshaken.map_err(|error| handshake_failed(&address, &expected, learned(), &error))?;
    Ok((handle, observed, close_handle))
}

fn handshake_failed(address: &str, expected: &Expected, observed: ServerObserved, error: &russh::Error) -> SshError {
    let address = address.to_owned();
    if let Some(refused) = observed.refused {
        return refused;
    }
    if observed.weak {
        let why = "it offers no strict key exchange (CVE-2023-48795); update its OpenSSH".to_owned();
        return SshError::Protocol { address, why };
    }
    match error {
        // The server has no key of the types that are known for it: it is another one than we know.
        russh::Error::NoCommonAlgo { kind: russh::AlgorithmKind::Key, theirs, .. } => {
            expected.no_common_algorithm(&[printable(theirs.join(", ").as_bytes())])
        }
        russh::Error::IO(_) | russh::Error::Disconnect | russh::Error::HUP => {
            SshError::Lost { address, what: "greeting", why: printable(error.to_string().as_bytes()) }
        }
        other => SshError::Protocol { address, why: printable(other.to_string().as_bytes()) },
    }
}

/// AES-GCM first where this machine has instructions for it, as nearly all have: several times the pace of ChaCha20 in OpenSSH, which has
/// none of its own for that. Without them ChaCha20 is the faster one.
fn ciphers() -> Vec<cipher::Name> {
    let mut ciphers = vec![cipher::AES_128_GCM, cipher::AES_256_GCM, cipher::CHACHA20_POLY1305];
    if !has_aes() {
        ciphers.rotate_right(1);
    }
    ciphers.extend([cipher::AES_256_CTR, cipher::AES_192_CTR, cipher::AES_128_CTR]);
    ciphers
}

/// The library's, and the curves of NIST, which a server under a policy may offer alone.
fn key_exchanges() -> Vec<kex::Name> {
    let mut all = Preferred::DEFAULT.kex.into_owned();
    // Not P-521, the dearest: a server that is bound to a policy has one of these.
    all.extend([kex::ECDH_SHA2_NISTP256, kex::ECDH_SHA2_NISTP384]);
    all
}

fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

fn config(expected: &Expected) -> client::Config {
    client::Config {
        preferred: Preferred {
            kex: Cow::Owned(key_exchanges()),
            cipher: Cow::Owned(ciphers()),
            key: Cow::Owned(expected.algorithms()),
            host_key_certificates: Cow::Owned(expected.certificate_algorithms()),
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

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        sync::mpsc::{Sender, channel},
    };

    use russh::keys::ssh_key;

    use super::*;

    /// Tells, when it comes back, what the server reads then.
    struct Reports(std::net::TcpListener, Sender<std::io::Result<usize>>);

    impl Drop for Reports {
        fn drop(&mut self) {
            let (mut socket, _) = self.0.accept().unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            // What was sent before is read first, up to the end of the stream.
            let _ = self.1.send(socket.read_to_end(&mut Vec::new()));
        }
    }

    #[tokio::test]
    async fn a_permit_comes_back_when_the_socket_is_closed_although_signing_in_failed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = SshTarget {
            address: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
            user: "deploy".to_owned(),
            connect_timeout: Duration::from_millis(200),
        };
        let pair = ssh_key::private::Ed25519Keypair::from_seed(&rand::random());
        let key = russh::keys::PrivateKey::from(pair);
        let line = format!("[127.0.0.1]:{} {}", target.port, key.public_key().to_openssh().unwrap());
        let text = key.to_openssh(ssh_key::LineEnding::LF).unwrap();
        let credentials = Credentials::new(&text, &line).unwrap();
        let (sender, receiver) = channel();
        let permit: Permit = Box::new(Reports(listener, sender));
        // Nobody greets.
        let failed =
            Connection::open_with(OpenOptions { via: None, permit: Some(permit) }, &target, &credentials).await;
        assert!(matches!(failed, Err(SshError::Silent { .. })));
        // This thread alone runs everything here: had the socket been open still, nobody could have closed it while the server read.
        let read = async {
            loop {
                match receiver.try_recv() {
                    Ok(read) => break read,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), read).await.unwrap().unwrap();
    }
}
