//! Push: notifications and live events over WebSocket and SSE, each topic read once for all sockets.

mod cursor;
mod feed;
mod filter;
mod hub;
mod message;
mod ring;
mod sse;
mod stream;
mod ticket;
mod ws;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::get;
use common::config::KafkaConfig;
use common::kafka::GroupOffsets;
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa::IntoParams;

use self::cursor::Cursor;
pub use self::cursor::InvalidCursor;
use self::feed::Feed;
use self::hub::Hub;
use self::stream::Stream;
use self::ticket::Ticket;
use crate::config::PushConfig;
use crate::http::{ApiError, Gateway};
use crate::metrics::GatewayMetrics;

/// A peer is asked for so often whether it is there; SSE sends a comment.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// The sockets of this gateway, and what they are fed from.
pub struct Push {
    hubs: [Arc<Hub>; 3],
    places: Arc<Semaphore>,
    /// Cancelled when every socket is to say goodbye.
    closing: CancellationToken,
    /// WebSockets outlive the connections they came from.
    sockets: TaskTracker,
    metrics: GatewayMetrics,
}

/// What one socket holds as long as it is open.
struct Socket {
    feed: Feed,
    ticket: Ticket,
    closing: CancellationToken,
    metrics: GatewayMetrics,
    _place: OwnedSemaphorePermit,
    open: IntGauge,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// The query of a stream of notifications, for the API's description; `filter` reads it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description")]
pub struct Choice {
    /// Only of this rule.
    rule: Option<String>,
    /// `info`, `warning` or `critical`.
    severity: Option<String>,
    /// Only about what this user owns.
    #[param(rename = "userId")]
    user_id: Option<String>,
    /// Only about objects of this type.
    #[param(rename = "objectType")]
    object_type: Option<String>,
    /// Only about this object.
    #[param(rename = "objectId")]
    object_id: Option<String>,
    /// Resumes after this message, as the header `Last-Event-ID` does.
    cursor: Option<String>,
}

pub fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/api/notifications/ws", get(notifications_ws))
        .route("/api/notifications/stream", get(notifications_stream))
        .route("/api/events/live", get(events_live))
}

#[utoipa::path(get, path = "/api/notifications/ws", tag = "Push", summary = "Notifications over a WebSocket",
    params(Choice),
    responses(
        (status = 101, description = "Each message is a notification (a CloudEvent) with its `cursor`."),
        (status = 400, description = "A parameter or the cursor cannot be used."),
        (status = 426, description = "This needs a WebSocket client."),
    ))]
pub async fn notifications_ws(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, ApiError> {
    ws::open(gateway, Stream::Notifications, request).await
}

#[utoipa::path(get, path = "/api/notifications/stream", tag = "Push", summary = "Notifications as server-sent events",
    params(Choice),
    responses(
        (status = 200, description = "Each event is a notification (a CloudEvent) with its `cursor`.",
            body = String, content_type = "text/event-stream"),
        (status = 400, description = "A parameter or the cursor cannot be used."),
    ))]
pub async fn notifications_stream(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, ApiError> {
    sse::open(gateway, Stream::Notifications, request).await
}

#[utoipa::path(get, path = "/api/events/live", tag = "Push", summary = "Each action once, as it is counted",
    params(
        ("verdict" = Option<String>, Query, description = "`rejected` shows the dead letters instead."),
        ("type" = Option<String>, Query, description = "Only these actions."),
        ("source" = Option<String>, Query, description = "Only from here."),
        ("userId" = Option<String>, Query, description = "Only of this user."),
        ("objectType" = Option<String>, Query, description = "Only about objects of this type."),
        ("objectId" = Option<String>, Query, description = "Only about this object."),
        ("cursor" = Option<String>, Query, description = "Resumes after this message."),
    ),
    responses(
        (status = 101, description = "To a WebSocket client: each message is an event with its `cursor`."),
        (status = 200, description = "Each event is an action with its `cursor`.",
            body = String, content_type = "text/event-stream"),
        (status = 400, description = "A parameter or the cursor cannot be used."),
    ))]
pub async fn events_live(
    State(gateway): State<Arc<Gateway>>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, ApiError> {
    let stream = filter::verdict(query.as_deref().unwrap_or_default());
    if ws::is_upgrade(request.headers()) {
        return ws::open(gateway, stream?, request).await;
    }
    sse::open(gateway, stream?, request).await
}

impl Push {
    pub fn new(
        kafka: &KafkaConfig,
        config: &PushConfig,
        metrics: &GatewayMetrics,
    ) -> anyhow::Result<Self> {
        let ring_bytes_max = config.gateway_push_ring_kbytes << 10;
        let offsets = GroupOffsets::of(kafka, "tallyman-push")?;
        let hub = |stream| {
            anyhow::Ok(Arc::new(Hub::new(stream, kafka, &offsets, ring_bytes_max, metrics)))
        };
        let [notifications, events, rejected] = Stream::ALL;
        Ok(Self {
            hubs: [hub(notifications)?, hub(events)?, hub(rejected)?],
            places: Arc::new(Semaphore::new(config.gateway_sockets_max)),
            closing: CancellationToken::new(),
            sockets: TaskTracker::new(),
            metrics: metrics.clone(),
        })
    }

    /// Reads the topics that somebody listens to.
    pub async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut hubs = JoinSet::new();
        for hub in self.hubs.clone() {
            let stop = stop.clone();
            hubs.spawn(async move {
                hub.run(stop).await;
                Ok(())
            });
        }
        common::daemon::join_all(hubs, &stop).await
    }

    /// Tells every socket that this gateway goes away: its client connects to another one.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// Resolves when the last WebSocket is closed.
    pub async fn closed(&self) {
        self.sockets.close();
        self.sockets.wait().await;
    }

    fn hub(&self, stream: Stream) -> &Arc<Hub> {
        let at = Stream::ALL.into_iter().position(|it| it == stream);
        &self.hubs[at.expect("every stream has a hub")]
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if self.closing.is_cancelled() {
            return Err(ApiError::StreamUnavailable);
        }
        self.places.clone().try_acquire_owned().map_err(|_| ApiError::TooManySockets)
    }
}

impl Socket {
    /// Everything that can be refused is refused here, before a socket is open.
    async fn open(gateway: &Arc<Gateway>, stream: Stream, head: &Parts) -> Result<Self, ApiError> {
        let (ticket, caller) = Ticket::admit(gateway, stream, head).await?;
        gateway.charge(head, &caller).await?;
        let mut wanted = filter::wanted(stream, head.uri.query().unwrap_or_default())?;
        if let Some(user_id) = &caller.confined_to {
            wanted.filter.limit_to(stream, user_id);
        }
        let header = head.headers.get("last-event-id").and_then(|it| it.to_str().ok());
        // A browser that reconnects repeats the query it began with.
        let cursor = header.filter(|it| !it.is_empty()).or(wanted.cursor.as_deref());
        let cursor = cursor.map(|text| Cursor::decode(text, stream)).transpose()?;
        let push = &gateway.push;
        let place = push.place()?;
        let feed = Feed::open(push.hub(stream), wanted.filter, cursor).await?;
        let open = push.metrics.push_sockets.with_label_values(&[stream.name()]);
        open.inc();
        Ok(Self {
            feed,
            ticket,
            closing: push.closing.clone(),
            metrics: push.metrics.clone(),
            _place: place,
            open,
        })
    }

    /// Counts what is about to be sent.
    fn count_sent(&self, messages: usize) {
        let stream = self.feed.stream().name();
        self.metrics.push_messages_sent_total.with_label_values(&[stream]).inc_by(messages as u64);
    }

    fn count_lagged(&self) {
        let stream = self.feed.stream().name();
        self.metrics.push_sockets_lagged_total.with_label_values(&[stream]).inc();
    }
}
