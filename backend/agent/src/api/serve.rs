//! Accepts connections, with or without TLS, and hands their requests to the router.
//!
//! Its own loop, because the ready-made one has no bound on connections, no time limit for TLS
//! handshakes and request heads (slow clients would hold descriptors for ever), and waits without
//! end for streams when it stops. Stopping has two stages: no new connections and a last response
//! on each, then, after the grace period, the rest is dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// A client has so long for its TLS handshake, and again for each request's head.
const PATIENCE: Duration = Duration::from_secs(15);
/// Most bytes of a request's head; also the size of the read buffer.
const HEAD_MAX_BYTES: usize = 64 * 1024;
/// Pause after a failed accept: the usual cause, no descriptors left, does not pass by itself at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the API is served.
#[derive(Debug, Clone)]
pub(crate) struct Doors {
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) max_connections: usize,
    /// Open connections get so long to finish after `stopping`.
    pub(crate) grace: Duration,
}

/// Serves until `stopping`, then drains for the grace period; returns when all connections are closed.
pub(crate) async fn serve(router: Router, listener: TcpListener, doors: Doors, stopping: CancellationToken) {
    let free = Arc::new(Semaphore::new(doors.max_connections));
    let connections = TaskTracker::new();
    let dropped = CancellationToken::new();
    let acceptor = doors.tls.map(TlsAcceptor::from);
    loop {
        // Dropping the branch between the permit and the accept loses nothing but the permit, which returns.
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = accept(&listener, &free) => accepted,
        };
        let Some((stream, address, permit)) = accepted else { continue };
        let (router, acceptor) = (router.clone(), acceptor.clone());
        let (stopping, dropped) = (stopping.clone(), dropped.clone());
        connections.spawn(async move {
            // A dropped connection is what the hard stop is for.
            tokio::select! {
                () = handle(router, stream, address, acceptor, stopping) => {}
                () = dropped.cancelled() => {}
            }
            drop(permit);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(doors.grace, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "connections did not end in time and are dropped");
        dropped.cancel();
        connections.wait().await;
    }
}

async fn accept(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let permit = Arc::clone(free).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, address, permit)),
        Err(error) => {
            tracing::warn!(error = %error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn handle(
    router: Router,
    stream: TcpStream,
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    stopping: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(error = %error, client.address = %address, "TCP_NODELAY could not be set");
    }
    let Some(acceptor) = acceptor else { return converse(router, stream, address, stopping).await };
    match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => converse(router, stream, address, stopping).await,
        Ok(Err(error)) => tracing::debug!(error = %error, client.address = %address, "TLS handshake failed"),
        Err(_) => tracing::debug!(client.address = %address, "TLS handshake took too long"),
    }
}

async fn converse<S>(router: Router, stream: S, address: SocketAddr, stopping: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = tower::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(address));
        router.clone().oneshot(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(HEAD_MAX_BYTES);
    let connection =
        http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, client.address = %address, "connection broke");
    }
}
