//! Readiness, asked through the SSH connection: no tool on the host is needed, no port need be open, no redirect is followed.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;

use crate::effects::ssh::{Connection, SshError, Stream};

/// Bytes of an answer's body that are read at most.
const MAX_BODY: usize = 64 * 1024;

/// The status code of `GET path`; `Err` inside: why there is none, for a person.
pub(super) async fn http(
    connection: &Connection,
    port: u16,
    path: &str,
    timeout: Duration,
) -> Result<Result<u16, String>, SshError> {
    let asking = async {
        let Some(stream) = connection.direct_tcpip(port).await? else {
            return Ok(Err(format!("nothing accepts connections on port {port}")));
        };
        let host = format!("127.0.0.1:{port}");
        Ok(get(stream, path, &host).await)
    };
    match tokio::time::timeout(timeout, asking).await {
        Ok(answer) => answer,
        Err(_) => Ok(Err(format!("no answer within {} ms", timeout.as_millis()))),
    }
}

async fn get(stream: Stream, path: &str, host: &str) -> Result<u16, String> {
    let request = hyper::Request::get(path)
        .header(hyper::header::HOST, host)
        .header(hyper::header::USER_AGENT, "landfall-probe")
        .header(hyper::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("the request can't be made: {error}"))?;
    let no_http = |error: hyper::Error| format!("the answer is no HTTP: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(no_http)?;
    let asking = async {
        let response = sender.send_request(request).await.map_err(no_http)?;
        let status = response.status().as_u16();
        // The server is let finish a short answer, or it would log a broken pipe for every probe.
        let _ = Limited::new(response.into_body(), MAX_BODY).collect().await;
        Ok(status)
    };
    tokio::pin!(asking, connection);
    tokio::select! {
        answer = &mut asking => answer,
        ended = &mut connection => {
            ended.map_err(no_http)?;
            asking.await
        }
    }
}
