//! What only the operator that leads knows, fetched from it: over TLS as one replica to another, with the user as the API server named
//! him. The leader asks for his rights again.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, Request, Uri, header},
    response::Response,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{
    connections::Peer,
    state::View,
    tls::{Caller, Tls},
};

const CONNECT: Duration = Duration::from_secs(2);

/// The leader's answer, where another replica leads and can be reached. What was relayed once is answered here, whoever leads.
pub async fn elsewhere(view: &View, peer: &Peer, headers: &HeaderMap, uri: &Uri) -> Option<Response> {
    if view.leads() || peer.caller == Caller::Replica {
        return None;
    }
    let address = view.leader.address(&view.client, &view.namespace, &view.advertised).await?;
    match relay(&peer.tls, &address, headers, uri).await {
        Ok(response) => Some(response),
        Err(error) => {
            tracing::info!(%address, %error, "the operator that leads can't be asked");
            None
        }
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn relay(tls: &Tls, address: &str, headers: &HeaderMap, uri: &Uri) -> Result<Response, Failed> {
    let connect = async {
        let connection = TcpStream::connect(address).await?;
        connection.set_nodelay(true)?;
        TlsConnector::from(tls.client.clone()).connect(tls.name.clone(), connection).await
    };
    let secured = tokio::time::timeout(CONNECT, connect).await??;
    let (mut ask, connection) = hyper::client::conn::http1::handshake(TokioIo::new(secured)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a relayed answer ended early");
        }
    });
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(path).header(header::HOST, address).body(Body::empty())?;
    for (name, value) in tls.front_proxy.passed_on(headers) {
        request.headers_mut().append(name, value.clone());
    }
    let (mut head, body) = ask.send_request(request).await?.into_parts();
    // Of the connection between the two of us, not of the answer.
    for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
        head.headers.remove(name);
    }
    Ok(Response::from_parts(head, Body::new(body)))
}
