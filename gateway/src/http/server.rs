//! Accepts connections, bounds what they may cost, and lets them finish when the daemon stops.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus::IntGauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::config::HttpConfig;

/// What a connection may buffer of a request before somebody reads it; also the limit of its headers.
/// The smallest hyper takes: 16 KiB cost 7 MB more at 256 connections and saved no time.
const READ_BUFFER_BYTES_MAX: usize = 8 << 10;

/// A pause after "too many open files" and the like, which a new attempt at once would meet again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    router: Router,
    protocol: http1::Builder,
    places: Arc<Semaphore>,
    connections: IntGauge,
}

impl Server {
    pub async fn bind(
        config: &HttpConfig,
        router: Router,
        connections: IntGauge,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(config.gateway_listen).await?;
        let mut protocol = http1::Builder::new();
        protocol
            .timer(TokioTimer::new())
            .header_read_timeout(config.idle())
            .max_buf_size(READ_BUFFER_BYTES_MAX);
        Ok(Self {
            local_addr: listener.local_addr()?,
            listener,
            router,
            protocol,
            places: Arc::new(Semaphore::new(config.gateway_connections_max)),
            connections,
        })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `close` resolves; then every connection may finish its request, and what is not
    /// done after `drain_max` is cut off: it got no answer, so its client sends again.
    pub async fn run(self, close: impl Future<Output = ()>, drain_max: Duration) {
        let tasks = TaskTracker::new();
        let closing = CancellationToken::new();
        let cut = CancellationToken::new();
        let mut close = pin!(close);
        loop {
            let (stream, place) = tokio::select! {
                () = &mut close => break,
                accepted = self.accept() => accepted,
            };
            tasks.spawn(self.serve(stream, place, closing.clone(), cut.clone()));
        }
        drop(self.listener);
        closing.cancel();
        tasks.close();
        info!(connections = tasks.len(), "no new connections; finishing the open requests");
        if tokio::time::timeout(drain_max, tasks.wait()).await.is_err() {
            warn!(connections = tasks.len(), "cutting off requests that do not finish");
            cut.cancel();
            tasks.wait().await;
        }
    }

    /// The next connection, once there is a place for it.
    async fn accept(&self) -> (TcpStream, OwnedSemaphorePermit) {
        let place =
            self.places.clone().acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, _peer)) => return (stream, place),
                Err(error) if is_of_one_connection(&error) => debug!(%error, "a client left early"),
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn serve(
        &self,
        stream: TcpStream,
        place: OwnedSemaphorePermit,
        closing: CancellationToken,
        cut: CancellationToken,
    ) -> impl Future<Output = ()> + use<> {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "answers on this connection may be delayed");
        }
        let service = TowerToHyperService::new(self.router.clone());
        let connection = self.protocol.serve_connection(TokioIo::new(stream), service);
        let connections = self.connections.clone();
        async move {
            connections.inc();
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = &mut connection => ended,
                () = closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        ended = connection => ended,
                        () = cut.cancelled() => Ok(()),
                    }
                }
            };
            if let Err(error) = ended {
                debug!(%error, "a connection ended in the middle of a request");
            }
            connections.dec();
            drop(place);
        }
    }
}

/// The peer went away between its SYN and our accept: nothing is wrong with the listener.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
