//! A stream over WebSocket: one text message each, small buffers, and a reason when it ends.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::{MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::handshake::server::create_response;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::protocol::{Message as Outgoing, Role, WebSocketConfig};
use tracing::debug;

use super::feed::Turn;
use super::message::Message;
use super::stream::Stream;
use super::{PING_INTERVAL, Socket};
use crate::http::{ApiError, Gateway};

/// Each way, for each socket, for as long as it is open.
const BUFFER_BYTES: usize = 4 << 10;

/// A message is sent in pieces of this size: the library copies each, and keeps the room.
const PIECE_BYTES_MAX: usize = 16 << 10;

/// Clients have nothing to say here but pongs and a close.
const RECEIVED_BYTES_MAX: usize = 4 << 10;

/// How long a peer may take to answer a close.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);

/// The subprotocol under which browsers send a token: `bearer, <token>`.
const BEARER: &str = "bearer";

type WebSocket = WebSocketStream<TokioIo<Upgraded>>;

pub fn is_upgrade(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE).and_then(|it| it.to_str().ok());
    upgrade.is_some_and(|it| it.eq_ignore_ascii_case("websocket"))
}

pub async fn open(
    gateway: Arc<Gateway>,
    stream: Stream,
    mut request: Request,
) -> Result<Response, ApiError> {
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return Err(ApiError::UpgradeRequired {
            reason: "this connection cannot become one".into(),
        });
    };
    let (head, _body) = request.into_parts();
    let request = Request::from_parts(head, ());
    let response = create_response(&request)
        .map_err(|error| ApiError::UpgradeRequired { reason: error.to_string() })?;
    let (head, ()) = request.into_parts();
    let socket = Socket::open(&gateway, stream, &head).await?;
    gateway.push.sockets.spawn(async move {
        match upgrade.await {
            Ok(upgraded) => serve(upgraded, socket).await,
            Err(error) => debug!(%error, "a client left before its WebSocket was open"),
        }
    });
    let mut response = response.map(|()| Body::empty());
    if offers_bearer(&head.headers) {
        let bearer = HeaderValue::from_static(BEARER);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, bearer);
    }
    Ok(response)
}

/// A browser that offers subprotocols closes a connection that takes none of them.
fn offers_bearer(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let offers = offers.filter_map(|it| it.to_str().ok()).flat_map(|it| it.split(','));
    offers.map(str::trim).any(|it| it == BEARER)
}

async fn serve(upgraded: Upgraded, mut socket: Socket) {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(Some(RECEIVED_BYTES_MAX))
        .max_frame_size(Some(RECEIVED_BYTES_MAX));
    let io = TokioIo::new(upgraded);
    let mut web = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let Some(farewell) = talk(&mut web, &mut socket).await else { return };
    let closed = async {
        web.close(Some(farewell)).await?;
        while web.next().await.transpose()?.is_some() {}
        Ok::<_, tungstenite::Error>(())
    };
    if !matches!(timeout(CLOSE_TIME_MAX, closed).await, Ok(Ok(()))) {
        debug!("a client did not answer the close");
    }
}

/// Sends what is fed until one of both ends it; how to say goodbye to a peer that is still there.
async fn talk(web: &mut WebSocket, socket: &mut Socket) -> Option<CloseFrame> {
    let mut ping = interval_at(tokio::time::Instant::now() + PING_INTERVAL, PING_INTERVAL);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let turn = {
            let mut next = pin!(socket.feed.next());
            loop {
                tokio::select! {
                    turn = &mut next => break turn,
                    heard = web.next() => match heard {
                        Some(Ok(Outgoing::Close(_))) | None => return None,
                        Some(Err(error)) => {
                            debug!(%error, "a WebSocket broke");
                            return None;
                        }
                        Some(Ok(_)) => {}
                    },
                    _ = ping.tick() => sent(web.send(Outgoing::Ping(Bytes::new()))).await?,
                    reason = socket.ticket.ended() => {
                        return Some(farewell(CloseCode::Policy, reason.code()));
                    }
                    () = socket.closing.cancelled() => {
                        return Some(farewell(CloseCode::Away, "going away, connect again"));
                    }
                }
            }
        };
        match turn {
            Turn::Send(messages) => {
                socket.count_sent(messages.len());
                deliver(web, socket, messages).await?;
            }
            Turn::Lagged(message) => {
                socket.count_lagged();
                deliver(web, socket, vec![message]).await?;
                return Some(farewell(CloseCode::Again, "too slow, resume with the cursor"));
            }
            Turn::Away => return Some(farewell(CloseCode::Again, "try again later")),
        }
    }
}

/// Who takes what is sent a little at a time must not hold up our end, or outlive its key: none then, too.
async fn deliver(web: &mut WebSocket, socket: &mut Socket, messages: Vec<Message>) -> Option<()> {
    let too_late = async {
        tokio::select! {
            _ = socket.ticket.ended() => {}
            () = socket.closing.cancelled() => {}
        }
        tokio::time::sleep(CLOSE_TIME_MAX).await;
    };
    tokio::select! {
        sent = sent(send(web, messages)) => sent,
        () = too_late => None,
    }
}

/// None when the peer takes nothing any more: there is nobody to say goodbye to.
async fn sent(sending: impl Future<Output = Result<(), tungstenite::Error>>) -> Option<()> {
    let sent = sending.await;
    sent.inspect_err(|error| debug!(%error, "a WebSocket broke, or its client takes nothing")).ok()
}

async fn send(web: &mut WebSocket, messages: Vec<Message>) -> Result<(), tungstenite::Error> {
    for message in messages {
        if message.text.len() <= PIECE_BYTES_MAX {
            web.feed(Outgoing::Text(message.text)).await?;
            continue;
        }
        for piece in pieces(&Bytes::from(message.text)) {
            web.feed(Outgoing::Frame(piece)).await?;
        }
    }
    web.flush().await
}

/// The frames of one long message.
fn pieces(text: &Bytes) -> impl Iterator<Item = Frame> {
    (0..text.len()).step_by(PIECE_BYTES_MAX).map(|from| {
        let to = text.len().min(from + PIECE_BYTES_MAX);
        let kind = if from == 0 { Data::Text } else { Data::Continue };
        Frame::message(text.slice(from..to), OpCode::Data(kind), to == text.len())
    })
}

fn farewell(code: CloseCode, reason: &'static str) -> CloseFrame {
    CloseFrame { code, reason: reason.into() }
}
