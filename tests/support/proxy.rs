//! A proxy between an operator and a real API server that does what networks and servers do on bad days: refuses, answers after the fact,
//! hangs, goes silent, loses and repeats events, serves yesterday's lists. It records every request.
//!
//! HTTP/1.1 over TLS with an authority of its own; upstream it is the operator, by the client certificate of the operator's kubeconfig.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use futures::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    client::conn::http1::SendRequest,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER, TRANSFER_ENCODING},
    http::response::Parts,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use kube::config::Kubeconfig;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

type Body = UnsyncBoxBody<Bytes, Cut>;
/// What comes instead of a line of a watch.
pub type Edit = Box<dyn FnMut(Bytes) -> Vec<Bytes> + Send>;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Call {
    pub at: Instant,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`: as in RBAC.
    pub verb: &'static str,
    /// `deployments`, `deployments/status`, …
    pub resource: String,
    pub namespace: String,
    pub name: String,
    pub query: String,
    /// The `Authorization` header, where there was one.
    pub token: Option<String>,
}

impl Call {
    pub fn is_write(&self) -> bool {
        !matches!(self.verb, "get" | "list" | "watch")
    }

    pub fn is_lease(&self) -> bool {
        self.resource == "leases"
    }

    /// A list that begins a watch, not one that a decision asks for.
    pub fn is_watchers_list(&self) -> bool {
        self.verb == "list" && self.query.contains("limit=") && !self.query.contains("fieldSelector")
    }
}

/// What becomes of a request.
pub enum RetryState {
    /// Nothing happens to it.
    Pass,
    /// It never arrives, and is answered so.
    Refuse(u16),
    /// 429, to come back after so many seconds.
    Busy(u32),
    /// It arrives, and its answer is swallowed for this one.
    After(u16),
    /// It arrives so much later.
    Late(Duration),
    /// It never arrives and is never answered; the connection stays open.
    Hang,
    /// It arrives, and the connection ends after so many bytes of the answer's body.
    Cut(usize),
    /// A watch, line by line: what comes instead of each.
    Lines(Edit),
    /// It never arrives, and is answered with this body.
    Serve(Bytes),
}

type Rule = Box<dyn FnMut(&Call) -> RetryState + Send>;
type Record = Box<dyn Fn(&Call, &Bytes) + Send>;

struct Shared {
    upstream: Upstream,
    rule: Mutex<Option<Rule>>,
    record: Mutex<Option<Record>>,
    calls: Mutex<Vec<Call>>,
    /// Watches begun before this one are dead: open, and silent for ever.
    dead_before: AtomicUsize,
    watches: AtomicUsize,
    /// What dead watches say last.
    last_words: tokio::sync::watch::Sender<Option<Bytes>>,
}

struct Upstream {
    address: String,
    tls: TlsConnector,
}

/// Ends with the runtime of the test that made it.
pub struct Proxy {
    /// For the operator.
    pub kubeconfig: PathBuf,
    shared: Arc<Shared>,
    _folder: tempfile::TempDir,
}

impl Proxy {
    /// In front of the API server that this kubeconfig (with a client certificate in it) names.
    pub async fn before(kubeconfig: &Path) -> Self {
        Self::with_user(kubeconfig, None).await
    }

    /// The same for an operator that shows the token in a file instead of the certificate.
    pub async fn before_with_token(kubeconfig: &Path, token_file: &Path) -> Self {
        Self::with_user(kubeconfig, Some(token_file)).await
    }

    async fn with_user(kubeconfig: &Path, token_file: Option<&Path>) -> Self {
        let original = serde_json::to_value(Kubeconfig::read_from(kubeconfig).expect("a kubeconfig")).expect("json");
        let upstream = Upstream::of(&original, token_file.is_none());
        let (authority, acceptor) = identity();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://{}", listener.local_addr().expect("an address"));
        let folder = tempfile::Builder::new().prefix("landfall-proxy-").tempdir().expect("a folder");
        let path = folder.path().join("kubeconfig");
        let mut mine = original.clone();
        mine["clusters"][0]["cluster"] =
            json!({ "server": url, "certificate-authority-data": STANDARD.encode(authority) });
        mine["users"][0]["user"] = match token_file {
            Some(file) => json!({ "tokenFile": file }),
            None => json!({}),
        };
        std::fs::write(&path, mine.to_string()).expect("a kubeconfig");
        let shared = Arc::new(Shared {
            upstream,
            rule: Mutex::default(),
            record: Mutex::default(),
            calls: Mutex::default(),
            dead_before: AtomicUsize::new(0),
            watches: AtomicUsize::new(0),
            last_words: tokio::sync::watch::Sender::new(None),
        });
        tokio::spawn(accept(listener, acceptor, shared.clone()));
        Self { kubeconfig: path, shared, _folder: folder }
    }

    /// What becomes of every request from now on.
    pub fn rule(&self, rule: impl FnMut(&Call) -> RetryState + Send + 'static) {
        *self.shared.rule.lock().unwrap() = Some(Box::new(rule));
    }

    /// Everything passes from now on.
    pub fn calm(&self) {
        *self.shared.rule.lock().unwrap() = None;
    }

    /// Sees the body of every answer (but watches) that passes from now on.
    pub fn record(&self, record: impl Fn(&Call, &Bytes) + Send + 'static) {
        *self.shared.record.lock().unwrap() = Some(Box::new(record));
    }

    /// Every watch that is open now stays open and says nothing any more.
    pub fn silence_watches(&self) {
        self.shared.dead_before.store(self.shared.watches.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Those that are silent say this, and end.
    pub fn expire_watches(&self, last: Bytes) {
        self.shared.last_words.send_replace(Some(last));
    }

    /// All requests so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// Requests since then that change something, leases left out.
    pub fn writes_since(&self, then: Instant) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.at >= then && call.is_write() && !call.is_lease()).collect()
    }
}

impl Upstream {
    fn of(kubeconfig: &Value, with_certificate: bool) -> Self {
        let text = |value: &Value| STANDARD.decode(value.as_str().expect("data")).expect("base64");
        let cluster = &kubeconfig["clusters"][0]["cluster"];
        let user = &kubeconfig["users"][0]["user"];
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(&text(&cluster["certificate-authority-data"])).expect("a CA");
        roots.add(authority).expect("a root");
        let config = ClientConfig::builder().with_root_certificates(roots);
        let config = if with_certificate {
            let chain = CertificateDer::from_pem_slice(&text(&user["client-certificate-data"])).expect("a certificate");
            let key = PrivateKeyDer::from_pem_slice(&text(&user["client-key-data"])).expect("a key");
            config.with_client_auth_cert(vec![chain], key).expect("a client certificate")
        } else {
            config.with_no_client_auth()
        };
        let server = cluster["server"].as_str().expect("a server");
        let address = server.strip_prefix("https://").expect("https").trim_end_matches('/').to_owned();
        Self { address, tls: TlsConnector::from(Arc::new(config)) }
    }

    async fn connect(&self) -> Option<SendRequest<Full<Bytes>>> {
        let tcp = tokio::net::TcpStream::connect(&self.address).await.ok()?;
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let tls = self.tls.connect(name, tcp).await.ok()?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.ok()?;
        tokio::spawn(connection);
        Some(sender)
    }
}

/// A certificate for 127.0.0.1 by an authority of its own, whose certificate it answers in PEM.
fn identity() -> (String, TlsAcceptor) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "fault proxy");
    let key = KeyPair::generate().expect("a key");
    let certificate = authority.self_signed(&key).expect("an authority");
    let issuer = Issuer::new(authority, key);
    let own_key = KeyPair::generate().expect("a key");
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name").signed_by(&own_key, &issuer);
    let chain = vec![own.expect("a certificate").der().clone()];
    let private = PrivateKeyDer::try_from(own_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, private).expect("an identity");
    (certificate.pem(), TlsAcceptor::from(Arc::new(config)))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let (acceptor, shared) = (acceptor.clone(), shared.clone());
        tokio::spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            let upstream = Arc::new(tokio::sync::Mutex::new(None));
            let service = service_fn(move |request| {
                let (shared, upstream) = (shared.clone(), upstream.clone());
                async move { serve(request, &shared, &upstream).await }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
        });
    }
}

/// The end of a connection.
#[derive(Debug, thiserror::Error)]
#[error("cut")]
pub struct Cut;

type Sender = tokio::sync::Mutex<Option<SendRequest<Full<Bytes>>>>;

async fn serve(request: Request<Incoming>, shared: &Arc<Shared>, upstream: &Sender) -> Result<Response<Body>, Cut> {
    let (head, body) = request.into_parts();
    let call = call(&head);
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    shared.calls.lock().unwrap().push(call.clone());
    let fault = shared.rule.lock().unwrap().as_mut().map_or(RetryState::Pass, |rule| rule(&call));
    match fault {
        RetryState::Refuse(code) => return Ok(status(code, None)),
        RetryState::Busy(seconds) => return Ok(status(429, Some(seconds))),
        RetryState::Hang => std::future::pending().await,
        RetryState::Late(time) => tokio::time::sleep(time).await,
        RetryState::Serve(body) => return Ok(json_answer(200, body)),
        _ => {}
    }
    let answer = forward(head, body, shared, upstream).await?;
    if call.verb == "watch" && answer.status().is_success() {
        let edit = if let RetryState::Lines(edit) = fault { Some(edit) } else { None };
        return Ok(relay(answer, edit, shared));
    }
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    match fault {
        RetryState::After(code) => return Ok(status(code, None)),
        RetryState::Cut(at) => {
            return Ok(Response::from_parts(without_length(head), broken(body.slice(..at.min(body.len())))));
        }
        _ => {}
    }
    if let Some(record) = shared.record.lock().unwrap().as_ref() {
        record(&call, &body);
    }
    Ok(Response::from_parts(without_length(head), whole(body)))
}

async fn forward(
    head: hyper::http::request::Parts,
    body: Bytes,
    shared: &Shared,
    upstream: &Sender,
) -> Result<Response<Incoming>, Cut> {
    let mut kept = upstream.lock().await;
    if kept.as_ref().is_none_or(|sender| sender.is_closed()) {
        *kept = Some(shared.upstream.connect().await.ok_or(Cut)?);
    }
    let sender = kept.as_mut().ok_or(Cut)?;
    sender.ready().await.map_err(|_| Cut)?;
    let mut request = Request::from_parts(head, Full::new(body));
    request.headers_mut().insert(HOST, shared.upstream.address.parse().expect("a host"));
    sender.send_request(request).await.map_err(|_| Cut)
}

/// A watch, passed on line by line until it is dead; a dead one does not even end.
fn relay(answer: Response<Incoming>, edit: Option<Edit>, shared: &Arc<Shared>) -> Response<Body> {
    let number = shared.watches.fetch_add(1, Ordering::SeqCst);
    let (head, body) = answer.into_parts();
    let edit = edit.unwrap_or_else(|| Box::new(|line| vec![line]));
    let relay = Relay { body, rest: BytesMut::new(), next: VecDeque::new(), edit, number, shared: shared.clone() };
    let frames = stream::unfold(relay, |mut relay| async move {
        let mut words = relay.shared.last_words.subscribe();
        if !relay.is_dead() {
            let (number, shared) = (relay.number, relay.shared.clone());
            let line = tokio::select! {
                line = relay.line() => Some(line),
                () = dies(number, &shared) => None,
            };
            if let (Some(line), false) = (line, relay.is_dead()) {
                return Some((Ok(Frame::data(line?)), relay));
            }
        }
        let last = words.wait_for(Option::is_some).await.ok()?.clone()?;
        // Said once; what comes after is nobody's business.
        relay.number = usize::MAX;
        relay.next.clear();
        Some((Ok(Frame::data(last)), relay))
    });
    Response::from_parts(without_length(head), StreamBody::new(frames).boxed_unsync())
}

/// Comes back when this watch is dead and has last words.
async fn dies(number: usize, shared: &Shared) {
    let mut words = shared.last_words.subscribe();
    while number >= shared.dead_before.load(Ordering::SeqCst) || words.borrow_and_update().is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

struct Relay {
    body: Incoming,
    rest: BytesMut,
    next: VecDeque<Bytes>,
    edit: Edit,
    number: usize,
    shared: Arc<Shared>,
}

impl Relay {
    fn is_dead(&self) -> bool {
        self.number < self.shared.dead_before.load(Ordering::SeqCst)
    }

    async fn line(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.next.pop_front() {
                return Some(line);
            }
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end + 1).freeze();
                self.next.extend((self.edit)(line));
                continue;
            }
            let data = self.body.frame().await?.ok()?.into_data().ok()?;
            self.rest.extend_from_slice(&data);
        }
    }
}

/// A body that ends before its time, and the connection with it.
fn broken(begin: Bytes) -> Body {
    let frames = stream::iter([Ok(Frame::data(begin)), Err(Cut)]);
    StreamBody::new(frames).boxed_unsync()
}

fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

/// Its length is said anew by whoever sends it.
fn without_length(mut head: Parts) -> Parts {
    head.headers.remove(CONTENT_LENGTH);
    head.headers.remove(TRANSFER_ENCODING);
    head
}

fn json_answer(code: u16, body: Bytes) -> Response<Body> {
    let answer = Response::builder().status(code).header(CONTENT_TYPE, "application/json");
    answer.body(whole(body)).expect("an answer")
}

/// What an API server says of itself.
fn status(code: u16, retry_after: Option<u32>) -> Response<Body> {
    let (reason, message) = match code {
        429 => ("TooManyRequests", "too many requests, please try again later"),
        504 => ("Timeout", "the server was unable to return a response in the time allotted"),
        410 => ("Expired", "too old resource version"),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
        403 => ("Forbidden", "refused by the fault proxy"),
        _ => ("InternalError", "an error of the fault proxy"),
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    let mut answer = json_answer(code, body.to_string().into());
    if let Some(seconds) = retry_after {
        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    answer
}

/// What a path and a method mean, as RBAC puts it.
fn call(head: &hyper::http::request::Parts) -> Call {
    let query = head.uri.query().unwrap_or_default().to_owned();
    let mut path: VecDeque<&str> = head.uri.path().split('/').filter(|part| !part.is_empty()).collect();
    // /api/v1/… or /apis/<group>/<version>/…
    path.drain(..path.len().min(if path.front() == Some(&"apis") { 3 } else { 2 }));
    let mut namespace = String::new();
    if path.len() > 2 && path[0] == "namespaces" {
        namespace = path[1].to_owned();
        path.drain(..2);
    }
    let part = |nth: usize| path.get(nth).map(ToString::to_string).unwrap_or_default();
    let (resource, name, sub) = (part(0), part(1), part(2));
    let verb = match (head.method.as_str(), name.is_empty()) {
        ("GET", _) if query.contains("watch=true") || query.contains("watch=1") => "watch",
        ("GET", true) => "list",
        ("GET", false) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        _ => "delete",
    };
    let resource = if sub.is_empty() { resource } else { format!("{resource}/{sub}") };
    let token = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
    Call { at: Instant::now(), verb, resource, namespace, name, query, token }
}
