//! Answers that only the leading operator has, fetched from it: over TLS between replicas, with the user that the API server named. The
//! leader checks the user's rights again.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, Method, Request, Uri, header},
    response::Response,
};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{
    connections::Peer,
    state::View,
    tls::{Caller, Tls},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The leader's answer, where another replica leads and can be reached. A request that was relayed already is answered here.
pub async fn relayed(
    view: &View,
    peer: &Peer,
    (method, body): (Method, Bytes),
    headers: &HeaderMap,
    uri: &Uri,
) -> Option<Response> {
    if view.leads() || peer.caller == Caller::Replica {
        return None;
    }
    let address = view.leader.address(&view.client, &view.advertised).await?;
    match relay(&peer.tls, &address, (method, body), headers, uri).await {
        Ok(response) => Some(response),
        Err(error) => {
            tracing::info!(%address, %error, "the operator that leads can't be asked");
            None
        }
    }
}

type RelayError = Box<dyn std::error::Error + Send + Sync>;

async fn relay(
    tls: &Tls,
    address: &str,
    (method, body): (Method, Bytes),
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<Response, RelayError> {
    let connect = async {
        let connection = TcpStream::connect(address).await?;
        connection.set_nodelay(true)?;
        TlsConnector::from(tls.client.clone()).connect(tls.name.clone(), connection).await
    };
    let secured = tokio::time::timeout(CONNECT_TIMEOUT, connect).await??;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(secured)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a relayed answer ended early");
        }
    });
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request =
        Request::builder().method(method).uri(path).header(header::HOST, address).body(Body::from(body))?;
    for (name, value) in tls.front_proxy.passed_on(headers) {
        request.headers_mut().append(name, value.clone());
    }
    let (mut head, body) = sender.send_request(request).await?.into_parts();
    // These belong to the connection between the replicas, not to the answer.
    for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
        head.headers.remove(name);
    }
    Ok(Response::from_parts(head, Body::new(body)))
}
