//! A real git server over https: `git http-backend` behind TLS, with a login, a record of every request, and faults to order.
//!
//! It must not know anything of landfall.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinHandle,
};

const BACKEND: &str = "/usr/lib/git-core/git-http-backend";

/// What goes wrong from now on.
#[derive(Clone, Debug, Default)]
pub enum RetryState {
    #[default]
    None,
    /// Connections end after the server sent so many bytes (of TLS, handshake included).
    CutAt(usize),
    /// Connections are taken, and nothing is ever said.
    Mute,
    /// The answer's head comes, then nothing more.
    Stuck,
    /// Each answer comes in pieces of so many bytes, a pause before each.
    Slow(usize, Duration),
    /// 302 to this base URL.
    RedirectTo(String),
    /// This status, with these words.
    Status(u16, &'static str),
    /// As a web page, with status 200.
    WebPage,
    /// `receive-pack` is carried out, and the connection ends before its answer.
    LoseAnswer,
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: BTreeMap<String, String>,
    /// Bytes that were sent as the answer's body.
    pub sent: usize,
}

#[derive(Default)]
struct State {
    fault: RetryState,
    /// `user:password` or a bearer token; `None`: whoever comes may read and write.
    login: Option<String>,
    seen: Vec<Seen>,
    connections: usize,
}

/// Serves the bare repositories of a folder at `https://localhost:<port>/<name>`. Ends when it is dropped.
pub struct GitServer {
    pub port: u16,
    /// PEM of the CA that signed its certificate.
    pub ca: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl GitServer {
    pub async fn start(root: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &ca).unwrap();
        let chain = vec![CertificateDer::from(leaf.der().to_vec())];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let (root, shared) = (root.to_owned(), state.clone());
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                tokio::spawn(connection(socket, acceptor.clone(), root.clone(), shared.clone()));
            }
        });
        Self { port, ca: ca.pem(), state, task }
    }

    pub fn url(&self, repository: &str) -> String {
        format!("https://localhost:{}/{repository}", self.port)
    }

    /// `localhost:<port>`.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// From now on a login is wanted: `user:password`, or a bearer token without a colon.
    pub fn login(&self, login: &str) {
        self.state.lock().unwrap().login = Some(login.to_owned());
    }

    pub fn fault(&self, fault: RetryState) {
        self.state.lock().unwrap().fault = fault;
    }

    /// The requests since the last call.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state.lock().unwrap().seen)
    }

    /// TCP connections so far.
    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }
}

/// Bytes go through a pipe of ours, so that a cut is as rude as on a real line.
async fn connection(socket: TcpStream, acceptor: tokio_rustls::TlsAcceptor, root: PathBuf, state: Arc<Mutex<State>>) {
    let fault = state.lock().unwrap().fault.clone();
    if matches!(fault, RetryState::Mute) {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let limit = if let RetryState::CutAt(limit) = fault { limit } else { usize::MAX };
    let pump = tokio::spawn(pump(socket, theirs, limit));
    if let Ok(stream) = acceptor.accept(ours).await {
        let service = service_fn(move |request| answer(request, root.clone(), state.clone()));
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }
    let _ = pump.await;
}

async fn pump(socket: TcpStream, server: DuplexStream, limit: usize) {
    let (mut from_client, mut to_client) = socket.into_split();
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let up = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
        let _ = to_server.shutdown().await;
    });
    let (mut left, mut buffer) = (limit, vec![0; 16 * 1024]);
    while left > 0 {
        let n = from_server.read(&mut buffer).await.unwrap_or(0).min(left);
        if n == 0 || to_client.write_all(&buffer[..n]).await.is_err() {
            break;
        }
        left -= n;
    }
    up.abort();
}

type Body = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

fn whole(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

async fn answer(
    request: Request<Incoming>,
    root: PathBuf,
    state: Arc<Mutex<State>>,
) -> Result<Response<Body>, std::io::Error> {
    let target = request.uri().to_string();
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()));
    let seen =
        Seen { method: request.method().to_string(), target: target.clone(), headers: headers.collect(), sent: 0 };
    let (fault, login, index) = {
        let mut state = state.lock().unwrap();
        state.seen.push(seen.clone());
        (state.fault.clone(), state.login.clone(), state.seen.len() - 1)
    };
    let said = |status: u16, kind: &str, text: &str| {
        Response::builder().status(status).header("content-type", kind).body(whole(text.to_owned())).unwrap()
    };
    match &fault {
        RetryState::RedirectTo(base) => {
            let to = format!("{base}{target}");
            return Ok(Response::builder().status(302).header("location", to).body(whole("")).unwrap());
        }
        RetryState::Status(status, words) => return Ok(said(*status, "text/plain", words)),
        RetryState::WebPage => return Ok(said(200, "text/html", "<h1>Sign in</h1>")),
        _ => {}
    }
    let shown = seen.headers.get("authorization").map(String::as_str);
    let wanted = login.as_ref().map(|login| match login.contains(':') {
        true => format!("Basic {}", STANDARD.encode(login)),
        false => format!("Bearer {login}"),
    });
    if wanted.is_some() && shown != wanted.as_deref() {
        let mut refused = said(401, "text/plain", "HTTP Basic: \u{1b}[31mAccess denied\u{1b}[0m\n");
        refused.headers_mut().insert("www-authenticate", "Basic realm=\"git\"".parse().unwrap());
        return Ok(refused);
    }
    let (head, body) = cgi(request, &root, login.is_some()).await?;
    if matches!(fault, RetryState::LoseAnswer) && target.ends_with("/git-receive-pack") {
        return Err(std::io::Error::other("the line breaks"));
    }
    if let Some(seen) = state.lock().unwrap().seen.get_mut(index) {
        seen.sent = body.len();
    }
    let mut response = Response::builder();
    for (name, value) in head {
        response = match name.as_str() {
            "status" => response.status(value[..3].parse::<u16>().unwrap()),
            _ => response.header(name, value),
        };
    }
    Ok(response.body(paced(body, &fault)).unwrap())
}

/// Chunked, for its length is not told.
fn paced(body: Bytes, fault: &RetryState) -> Body {
    let (piece, pause) = match fault {
        RetryState::Slow(piece, pause) => (*piece, *pause),
        RetryState::Stuck => (1, Duration::from_secs(3600)),
        _ => (32 * 1024, Duration::ZERO),
    };
    let pieces = futures::stream::unfold(body, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        let piece = rest.split_to(piece.min(rest.len()));
        Some((Ok(hyper::body::Frame::data(piece)), rest))
    });
    http_body_util::BodyExt::boxed(http_body_util::StreamBody::new(Box::pin(pieces) as SyncStream))
}

type SyncStream =
    std::pin::Pin<Box<dyn futures::Stream<Item = Result<hyper::body::Frame<Bytes>, std::io::Error>> + Send + Sync>>;

/// Runs `git http-backend` for one request: its headers, and its body.
async fn cgi(
    request: Request<Incoming>,
    root: &Path,
    known: bool,
) -> Result<(Vec<(String, String)>, Bytes), std::io::Error> {
    let mut command = Command::new(BACKEND);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", request.method().as_str())
        .env("PATH_INFO", request.uri().path())
        .env("QUERY_STRING", request.uri().query().unwrap_or_default())
        .env("REMOTE_ADDR", "127.0.0.1");
    if known {
        command.env("REMOTE_USER", "ann");
    }
    if let Some(kind) = request.headers().get("content-type") {
        command.env("CONTENT_TYPE", kind.to_str().unwrap());
    }
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
    let (mut into, posted) = (child.stdin.take().unwrap(), request.into_body());
    let feed = tokio::spawn(async move {
        let posted = posted.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let _ = into.write_all(&posted).await;
    });
    let output = child.wait_with_output().await?;
    let _ = feed.await;
    let end = output.stdout.windows(4).position(|four| four == b"\r\n\r\n").ok_or(std::io::ErrorKind::InvalidData)?;
    let head = String::from_utf8_lossy(&output.stdout[..end]).into_owned();
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let lines = lines.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Ok((lines, Bytes::from(output.stdout).slice(end + 4..)))
}
