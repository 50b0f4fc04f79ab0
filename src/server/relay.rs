//! What only the operator that leads knows, fetched from it: over TLS as one replica to another, with the user as the API server named
//! him. The leader asks for his rights again.

use std::time::{Duration, Instant};

use axum::{
    body::Body,
    http::{HeaderMap, Request, Uri, header},
    response::Response,
};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{
    View,
    connections::Peer,
    tls::{Caller, Tls},
};
use crate::{api::view::VIEW_ADDRESS, effects::clock};

const LEASE: &str = "landfall";
const CONNECT: Duration = Duration::from_secs(2);
/// How long the address of the leader is cached.
const FRESH: Duration = Duration::from_secs(1);

/// Where the leader was found last.
#[derive(Default)]
pub struct Leader(Mutex<Option<(Option<String>, Instant)>>);

impl Leader {
    /// The address of the replica that holds the lease; `None` where none does, or where it is this one or was before it was restarted.
    async fn address(&self, view: &View) -> Option<String> {
        let known = self.0.lock().clone();
        if let Some((address, _)) = known.filter(|(_, at)| at.elapsed() < FRESH) {
            return address;
        }
        let lease = Api::<Lease>::namespaced(view.client.clone(), &view.namespace).get_opt(LEASE).await.ok()??;
        let held = lease.spec.and_then(|spec| spec.holder_identity).is_some_and(|holder| !holder.is_empty());
        let address = lease.metadata.annotations.and_then(|mut all| all.remove(VIEW_ADDRESS));
        let address = address.filter(|address| held && *address != view.advertised);
        *self.0.lock() = Some((address.clone(), clock::monotonic()));
        address
    }
}

/// The leader's answer, where another replica leads and can be reached. What was relayed once is answered here, whoever leads.
pub async fn elsewhere(view: &View, peer: &Peer, headers: &HeaderMap, uri: &Uri) -> Option<Response> {
    if view.leads() || peer.caller == Caller::Replica {
        return None;
    }
    let address = view.leader.address(view).await?;
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
