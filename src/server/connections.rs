//! Accepts connections: a handshake with a client certificate, then HTTP/1.1, all with limits in time and number.

use std::{pin::Pin, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use super::tls::{Caller, Tls};

/// More than there may be readers: the API server needs some for discovery and health.
const CONNECTIONS_MAX: usize = 512;
/// A client without a certificate occupies a connection for at most this long.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// For a request's headers, and between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// A connection whose other side takes no byte for this long is closed, so that a dead client costs no memory. `landfall logs` resumes
/// at its offset.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
const BUFFER_BYTES: usize = 64 * 1024;

/// The other end of a connection, known by its certificate.
#[derive(Clone)]
pub(crate) struct Peer {
    pub caller: Caller,
    pub tls: Tls,
}

/// Runs until the process ends.
pub async fn accept(listener: TcpListener, router: Router, tls: watch::Receiver<Tls>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Before it is accepted: connections beyond the limit wait in the kernel.
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((connection, _)) => {
                let (router, tls) = (router.clone(), tls.borrow().clone());
                tokio::spawn(async move {
                    if let Err(error) = serve(connection, router, tls).await {
                        tracing::debug!(%error, "a connection to the aggregated API ended early");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted for the aggregated API; trying again");
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
    let connection = with_write_timeout(connection, WRITE_TIMEOUT);
    let secured =
        tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls.server.clone()).accept(connection)).await??;
    let Some(caller) = tls.caller(secured.get_ref().1) else {
        return Err("its certificate is not that of the API server's front proxy".into());
    };
    let service = TowerToHyperService::new(router.layer(axum::Extension(Peer { caller, tls })));
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(secured), service)
        .await?;
    Ok(())
}

fn with_write_timeout<S: AsyncRead + AsyncWrite>(stream: S, timeout: Duration) -> Pin<Box<TimeoutStream<S>>> {
    let mut stream = Box::pin(TimeoutStream::new(stream));
    stream.as_mut().set_write_timeout_pinned(Some(timeout));
    stream
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::{Instant, sleep},
    };

    use super::*;

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut ours = with_write_timeout(ours, Duration::from_secs(1));
        let slow = tokio::spawn(async move {
            let mut taken = [0; 16];
            for _ in 0..10 {
                sleep(Duration::from_millis(150)).await;
                theirs.read_exact(&mut taken).await.unwrap();
            }
            theirs
        });
        ours.write_all(&[0; 160]).await.unwrap();
        let _dead = slow.await.unwrap();
        let began = Instant::now();
        let refused = ours.write_all(&[0; 160]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}
