//! Takes connections: a handshake with a client certificate, then HTTP/1.1, all with limits in time and number.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_rustls::TlsAcceptor;

use super::{
    tls::{Caller, Tls},
    write_timeout::WriteTimeout,
};

/// More than there may be readers: the API server needs some for its own questions.
const CONNECTIONS: usize = 512;
/// Whoever has no certificate keeps a place for no longer.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// For a request's headers, and between two requests.
const HEADERS: Duration = Duration::from_secs(60);
/// Who takes nothing for so long is given up; a client of ours goes on where it stopped.
const PATIENCE: Duration = Duration::from_secs(60);
const BUFFER: usize = 64 * 1024;

/// The other end of a connection, known by its certificate.
#[derive(Clone)]
pub struct Peer {
    pub caller: Caller,
    pub tls: Tls,
}

/// Until the process ends.
pub async fn take(listener: TcpListener, router: Router, tls: watch::Receiver<Tls>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Before it is accepted: those who find no place wait in the kernel.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((connection, _)) => {
                let (router, tls) = (router.clone(), tls.borrow().clone());
                tokio::spawn(async move {
                    if let Err(error) = serve(connection, router, tls).await {
                        tracing::debug!(%error, "a connection to the aggregated API ended early");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken for the aggregated API; trying again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn serve(
    connection: TcpStream,
    router: Router,
    tls: Tls,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    connection.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_keepalive(&connection, true)?;
    let connection = WriteTimeout::new(connection, PATIENCE);
    let secured = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(tls.server.clone()).accept(connection)).await??;
    let Some(caller) = tls.caller(secured.get_ref().1) else {
        return Err("its certificate speaks for nobody: it is not the API server's front proxy".into());
    };
    let service = TowerToHyperService::new(router.layer(axum::Extension(Peer { caller, tls })));
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(secured), service)
        .await?;
    Ok(())
}
