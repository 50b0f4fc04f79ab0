//! One https connection to one server, and requests over it. It follows no redirect and asks no proxy; the login goes to that server alone.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::{self, HeaderMap},
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use crate::effects::git::{
    access,
    error::GitError,
    session::RemoteSession,
    tls::{self, Trust},
    types::clean,
    url::Server,
};

const AGENT: &str = concat!("git/2.0 (landfall ", env!("CARGO_PKG_VERSION"), ")");
/// Of what a server says with a refusal.
const ERROR_BYTES_MAX: usize = 4096;

/// An open connection. It ends when it is dropped.
pub(super) struct HttpConnection {
    sender: SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

/// What is asked of the server.
pub(super) struct GitRequest {
    /// Path and query, beginning with a slash.
    pub(super) target: String,
    /// `git-upload-pack` or `git-receive-pack`.
    pub(super) service: &'static str,
    /// What is posted; `None`: the list is asked for.
    pub(super) body: Option<Bytes>,
}

impl GitRequest {
    fn expected(&self) -> String {
        let what = if self.body.is_some() { "result" } else { "advertisement" };
        format!("application/x-{}-{what}", self.service)
    }
}

/// Opens a connection and completes the TLS handshake.
pub(super) async fn dial(session: &RemoteSession, server: &Server) -> Result<HttpConnection, GitError> {
    let unreachable = |why: String| GitError::Unreachable { url: session.remote.url.clone(), why };
    let trust = session.access.trust.clone().map_or_else(tls::system, Ok).map_err(unreachable)?;
    let socket = session.dial(server).await?;
    let name = ServerName::try_from(server.host.clone()).map_err(|error| unreachable(error.to_string()))?;
    let Trust(config) = trust;
    let stream =
        TlsConnector::from(config).connect(name, socket).await.map_err(|error| handshake_failure(server, &error))?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(error.to_string()))?;
    let driver = session.runtime().spawn(async move {
        // How it ends is told to whoever waits for an answer.
        let _ = connection.await;
    });
    Ok(HttpConnection { sender, _driver: AbortOnDropHandle::new(driver) })
}

fn handshake_failure(server: &Server, error: &std::io::Error) -> GitError {
    let host = server.shown.clone();
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(why)) => {
            GitError::CertificateUntrusted { host, why: format!("{why:?}") }
        }
        _ => GitError::Unreachable { url: host, why: format!("no TLS connection: {error}") },
    }
}

impl HttpConnection {
    /// False where the server hung up meanwhile.
    pub(super) async fn is_open(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// One question; the head of a good answer is checked, everything else is an error that says what the server said.
    pub(super) async fn ask(
        &mut self,
        session: &RemoteSession,
        server: &Server,
        request: GitRequest,
    ) -> Result<Response<Incoming>, GitError> {
        let expected = request.expected();
        let (service, writes) = (request.service, request.service == "git-receive-pack");
        let request = http_request(session, server, request)?;
        let broke = |error: hyper::Error| broke(session, &error);
        let answer = self.sender.send_request(request).await.map_err(broke)?;
        let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if answer.status() != 200 {
            return Err(refusal(session, server, writes, answer).await);
        }
        if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(&expected) {
            let why = format!(
                "it answers {:?} where git answers {expected}; is it a git server?",
                clean(kind.as_bytes(), 80)
            );
            return Err(GitError::Unreachable { url: session.remote.url.clone(), why });
        }
        if answer.headers().get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            let why = format!("it answers {service} compressed, though it was asked not to; mend the proxy before it");
            return Err(GitError::Unreachable { url: session.remote.url.clone(), why });
        }
        Ok(answer)
    }
}

fn broke(session: &RemoteSession, error: &hyper::Error) -> GitError {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    GitError::Unreachable { url: session.remote.url.clone(), why: format!("the connection broke ({error}{cause})") }
}

/// The next bytes of an answer; `None` at its end. One that was cut off is an error.
pub(super) async fn next(session: &RemoteSession, answer: &mut Incoming) -> Result<Option<Bytes>, GitError> {
    match answer.frame().await {
        None => Ok(None),
        Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
        Some(Err(error)) => Err(broke(session, &error)),
    }
}

fn http_request(
    session: &RemoteSession,
    server: &Server,
    request: GitRequest,
) -> Result<Request<Full<Bytes>>, GitError> {
    let mut headers = HeaderMap::new();
    let host = header::HeaderValue::from_str(&server.shown);
    headers.insert(header::HOST, host.map_err(|error| bad(session, &error))?);
    headers.insert(header::USER_AGENT, header::HeaderValue::from_static(AGENT));
    headers.insert(header::ACCEPT_ENCODING, header::HeaderValue::from_static("identity"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache"));
    if let Some(login) = &session.access.login {
        headers.insert(header::AUTHORIZATION, access::authorization(login)?);
    }
    let accepted = header::HeaderValue::from_str(&request.expected());
    headers.insert(header::ACCEPT, accepted.map_err(|error| bad(session, &error))?);
    let mut builder = Request::builder().uri(&request.target);
    if request.body.is_some() {
        let kind = header::HeaderValue::from_str(&format!("application/x-{}-request", request.service));
        headers.insert(header::CONTENT_TYPE, kind.map_err(|error| bad(session, &error))?);
        builder = builder.method(Method::POST);
    }
    let mut request =
        builder.body(Full::new(request.body.unwrap_or_default())).map_err(|error| bad(session, &error))?;
    *request.headers_mut() = headers;
    Ok(request)
}

fn bad(session: &RemoteSession, error: &dyn std::error::Error) -> GitError {
    GitError::BadUrl { url: session.remote.url.clone(), why: error.to_string() }
}

/// What a status other than 200 means. The server's words are shown, cleaned, where they are plain text.
async fn refusal(session: &RemoteSession, server: &Server, writes: bool, answer: Response<Incoming>) -> GitError {
    let (host, url, status) = (server.shown.clone(), session.remote.url.clone(), answer.status());
    if status.is_redirection() {
        let to = answer.headers().get(header::LOCATION).map(|to| clean(to.as_bytes(), 200)).unwrap_or_default();
        return GitError::RedirectRefused { url, to: without_query(&to) };
    }
    let detail = words(answer).await;
    match status.as_u16() {
        401 | 403 | 404 if writes => GitError::PushRefused { name: String::new(), words: format!("{status}{detail}") },
        401 if session.access.login.is_none() => GitError::AuthenticationFailed {
            host,
            why: format!(
                "it wants a login{detail}; name a Secret with username and password, or bearerToken, in source.secretRef"
            ),
        },
        401 | 403 => GitError::AuthenticationFailed {
            host,
            why: format!(
                "it does not accept the login, or not for this repository ({status}{detail}); mend the Secret"
            ),
        },
        404 => GitError::Unreachable {
            url,
            why: format!("no such repository, or this login may not see it ({status}{detail})"),
        },
        _ => GitError::Unreachable { url, why: format!("it answers {status}{detail}") },
    }
}

fn without_query(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let mut url = url.get(..end).unwrap_or_default().to_owned();
    if let (Some(start), Some(at)) = (url.find("://"), url.find('@')) {
        url.replace_range(start + 3..=at, "");
    }
    url.trim_end_matches("/info/refs").to_owned()
}

async fn words(answer: Response<Incoming>) -> String {
    let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("text/plain") {
        return String::new();
    }
    let mut text = Vec::new();
    let mut body = answer.into_body();
    while let (true, Some(Ok(frame))) = (text.len() < ERROR_BYTES_MAX, body.frame().await) {
        text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
    }
    let text = clean(&text, 300);
    if text.trim().is_empty() { String::new() } else { format!(": {}", text.trim()) }
}

/// Kept by a transport between its requests.
pub(super) type SharedConnection = Arc<parking_lot::Mutex<Option<HttpConnection>>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_redirect_leads_is_shown_without_what_may_be_secret() {
        for (to, shown) in [
            ("https://evil.example/x/info/refs?service=git-upload-pack", "https://evil.example/x"),
            ("https://u:p@evil.example/x#t", "https://evil.example/x"),
            ("/login?token=1", "/login"),
        ] {
            assert_eq!(without_query(to), shown);
        }
    }
}
