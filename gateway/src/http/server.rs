//! Accepts connections, bounds what they may cost, and lets them finish when the daemon stops.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prometheus::IntGauge;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::Routes;
use super::tls::{self, Tls};
use super::unreadable::Completed;
use crate::config::HttpConfig;

/// The limit of a request's head; also what a connection may buffer of a request before somebody reads it.
/// The smallest hyper takes: 16 KiB cost 7 MB more at 256 connections and saved no time.
pub const HEAD_BYTES_MAX: usize = 8 << 10;

/// Requests at the same time on one HTTP/2 connection, and what each may send before it is read: a
/// connection then buffers as much as some dozens of HTTP/1 ones.
const STREAMS_MAX: u32 = 64;
const STREAM_WINDOW_BYTES: u32 = 64 << 10;

/// An HTTP/2 peer that is gone without a word is noticed within two of these.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// A pause after "too many open files" and the like, which a new attempt at once would meet again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    handshake: Handshake,
    places: Arc<Semaphore>,
    stall_max: Duration,
    connections: IntGauge,
}

/// What turns a stream of bytes into a served connection.
#[derive(Clone)]
struct Handshake {
    routes: Arc<Routes>,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    tls: Option<Tls>,
    first_byte_within: Duration,
}

/// When a connection is to end: after its request, or at once.
#[derive(Debug, Clone, Default)]
struct Ending {
    closing: CancellationToken,
    cut: CancellationToken,
}

impl Server {
    pub async fn bind(
        config: &HttpConfig,
        routes: Routes,
        tls: Option<Tls>,
        connections: IntGauge,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(config.gateway_listen).await?;
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(config.idle())
            .max_buf_size(HEAD_BYTES_MAX);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .max_concurrent_streams(STREAMS_MAX)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(STREAM_WINDOW_BYTES * 4)
            .max_header_list_size(HEAD_BYTES_MAX as u32);
        Ok(Self {
            local_addr: listener.local_addr()?,
            listener,
            handshake: Handshake {
                routes: Arc::new(routes),
                http1,
                http2,
                tls,
                first_byte_within: config.idle(),
            },
            places: Arc::new(Semaphore::new(config.gateway_connections_max)),
            stall_max: config.stall(),
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
        let ending = Ending::default();
        let mut close = pin!(close);
        loop {
            let (stream, peer, place) = tokio::select! {
                () = &mut close => break,
                accepted = self.accept() => accepted,
            };
            tasks.spawn(self.serve(stream, peer, place, ending.clone()));
        }
        drop(self.listener);
        ending.closing.cancel();
        tasks.close();
        info!(connections = tasks.len(), "no new connections; finishing the open requests");
        if tokio::time::timeout(drain_max, tasks.wait()).await.is_err() {
            warn!(connections = tasks.len(), "cutting off requests that do not finish");
            ending.cut.cancel();
            tasks.wait().await;
        }
    }

    /// The next connection, once there is a place for it.
    async fn accept(&self) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        let place =
            self.places.clone().acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => return (stream, peer, place),
                Err(error) if is_of_one_connection(&error) => debug!(%error, "a client left early"),
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Who reads nothing any more is cut by the system: it alone sees how long what was sent lies
    /// unread, whatever is spoken on the connection.
    fn prepare(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        SockRef::from(stream).set_tcp_user_timeout(Some(self.stall_max))
    }

    fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        place: OwnedSemaphorePermit,
        ending: Ending,
    ) -> impl Future<Output = ()> + use<> {
        if let Err(error) = self.prepare(&stream) {
            debug!(%error, "answers on this connection may be delayed, or wait for ever");
        }
        let handshake = self.handshake.clone();
        let connections = self.connections.clone();
        async move {
            connections.inc();
            if let Err(error) = handshake.serve(stream, peer, ending).await {
                debug!(error, "a connection ended in the middle of a request");
            }
            connections.dec();
            drop(place);
        }
    }
}

type ConnectionError = Box<dyn std::error::Error + Send + Sync>;

impl Handshake {
    /// TLS where it is configured, then the version of HTTP the client speaks.
    async fn serve(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        ending: Ending,
    ) -> Result<(), ConnectionError> {
        let Some(tls) = &self.tls else {
            let opening = tokio::time::timeout(self.first_byte_within, opens_with_http2(&stream));
            let is_http2 = tokio::select! {
                opened = opening => opened.unwrap_or(Ok(false))?,
                () = ending.closing.cancelled() => return Ok(()),
            };
            return self.speak(stream, is_http2, peer, ending).await;
        };
        let stream = tls.accept(stream).await?;
        let is_http2 = tls::chose_http2(&stream);
        self.speak(stream, is_http2, peer, ending).await
    }

    async fn speak<S>(
        &self,
        stream: S,
        is_http2: bool,
        peer: SocketAddr,
        ending: Ending,
    ) -> Result<(), ConnectionError>
    where
        TokioIo<S>: Read + Write + Unpin + Send + 'static,
    {
        let service = service_fn(|mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            let routes = self.routes.clone();
            async move { Ok::<_, Infallible>(routes.answer(request.map(Body::new)).await) }
        });
        let stream = TokioIo::new(stream);
        /// Both protocols' connections have these methods, and no trait in common.
        macro_rules! until_it_ends {
            ($connection:expr) => {{
                let mut connection = pin!($connection);
                tokio::select! {
                    ended = &mut connection => ended?,
                    () = ending.closing.cancelled() => {
                        connection.as_mut().graceful_shutdown();
                        tokio::select! {
                            ended = connection => ended?,
                            () = ending.cut.cancelled() => {}
                        }
                    }
                }
            }};
        }
        if is_http2 {
            until_it_ends!(self.http2.serve_connection(stream, service));
        } else {
            let stream = Completed::new(stream);
            until_it_ends!(self.http1.serve_connection(stream, service).with_upgrades());
        }
        Ok(())
    }
}

/// Whether a client without TLS begins with HTTP/2 (`PRI * HTTP/2.0`, "prior knowledge"), which no
/// HTTP/1 request does. Nothing is taken from the stream.
async fn opens_with_http2(stream: &TcpStream) -> io::Result<bool> {
    const PREFACE: [u8; 4] = *b"PRI ";
    const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
    let mut opening = [0; PREFACE.len()];
    loop {
        let seen = stream.peek(&mut opening).await?;
        if seen == PREFACE.len() || opening[..seen] != PREFACE[..seen] || seen == 0 {
            return Ok(opening == PREFACE);
        }
        // A beginning of it: the rest is on its way, and what is there already wakes nobody again.
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// The peer went away between its SYN and our accept: nothing is wrong with the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
