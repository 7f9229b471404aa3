//! A stream as Server-Sent Events: what browsers' `EventSource` and `curl -N` read.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::feed::Turn;
use super::stream::Stream;
use super::{PING_INTERVAL, Socket};
use crate::http::{ApiError, Gateway};

/// Clients connect again after between one and three seconds: all at once, after a restart, would
/// be a storm.
const RETRY_MS: std::ops::Range<u32> = 1_000..3_000;

const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    // Proxies that know it pass each event on at once.
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
];

pub async fn open(
    gateway: Arc<Gateway>,
    stream: Stream,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, _body) = request.into_parts();
    let socket = Socket::open(&gateway, stream, &head).await?;
    let chunks = stream::unfold(Events::new(socket), |mut events| async {
        let chunk = events.next().await?;
        Some((Ok::<_, Infallible>(chunk), events))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    response.headers_mut().extend(HEADERS);
    Ok(response)
}

struct Events {
    socket: Socket,
    ping: Interval,
    /// Taken from the feed, but not yet by the connection.
    waiting: VecDeque<Bytes>,
    is_over: bool,
}

impl Events {
    fn new(socket: Socket) -> Self {
        let mut ping = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let spread = uuid::Uuid::new_v4().as_fields().0 % (RETRY_MS.end - RETRY_MS.start);
        // An id without data is no event, but what a client that reconnects sends back.
        let hello = format!("retry: {}\nid: {}\n\n", RETRY_MS.start + spread, socket.feed.cursor());
        Self { socket, ping, waiting: VecDeque::from([hello.into()]), is_over: false }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.waiting.pop_front() {
                return Some(chunk);
            }
            if self.is_over {
                return None;
            }
            self.refill().await;
        }
    }

    async fn refill(&mut self) {
        let Self { socket, ping, waiting, is_over } = self;
        let cursor_before = socket.feed.cursor();
        let turn = {
            let mut next = pin!(socket.feed.next());
            tokio::select! {
                turn = &mut next => turn,
                _ = ping.tick() => {
                    waiting.push_back(format!(": ping\nid: {cursor_before}\n\n").into());
                    return;
                }
                _ = socket.ticket.ended() => {
                    *is_over = true;
                    return;
                }
                () = socket.closing.cancelled() => {
                    *is_over = true;
                    return;
                }
            }
        };
        match turn {
            Turn::Send(messages) => {
                socket.count_sent(messages.len());
                waiting.extend(messages.into_iter().map(|message| message.sse));
            }
            Turn::Lagged(message) => {
                socket.count_lagged();
                waiting.push_back(message.sse);
                *is_over = true;
            }
            Turn::Away => *is_over = true,
        }
    }
}
