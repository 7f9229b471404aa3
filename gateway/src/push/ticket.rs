//! For how long a socket may stay: as long as its credential would let it in again.

use std::sync::Arc;
use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderName, Request, header};
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use super::stream::Stream;
use crate::auth::{AuthError, Caller, Right};
use crate::http::Gateway;

/// Keys are read every two seconds, so that a revoked one ends its sockets within five.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Where a credential can be.
const CREDENTIALS: [HeaderName; 4] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-write-key"),
    header::SEC_WEBSOCKET_PROTOCOL,
];

pub struct Ticket {
    gateway: Arc<Gateway>,
    stream: Stream,
    /// What of the request names the credential.
    head: Parts,
    check: Interval,
}

impl Ticket {
    /// Lets the caller of a request in, or says why not.
    pub async fn admit(
        gateway: &Arc<Gateway>,
        stream: Stream,
        head: &Parts,
    ) -> Result<(Self, Caller), AuthError> {
        let caller = check(gateway, stream, head).await?;
        let start = tokio::time::Instant::now() + CHECK_INTERVAL;
        let mut check = interval_at(start, CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let head = credential_of(head);
        Ok((Self { gateway: gateway.clone(), stream, head, check }, caller))
    }

    /// Resolves when the credential was revoked or has expired. While it cannot be checked, it
    /// stays good.
    pub async fn ended(&mut self) -> AuthError {
        loop {
            self.check.tick().await;
            match check(&self.gateway, self.stream, &self.head).await {
                Ok(_) | Err(AuthError::Unavailable) => {}
                Err(reason) => return reason,
            }
        }
    }
}

async fn check(gateway: &Gateway, stream: Stream, head: &Parts) -> Result<Caller, AuthError> {
    match stream {
        Stream::Notifications => gateway.access.authorize_listener(head).await,
        Stream::Events | Stream::Rejected => gateway.access.authorize(head, Right::Read).await,
    }
}

fn credential_of(head: &Parts) -> Parts {
    let mut request = Request::new(());
    *request.uri_mut() = head.uri.clone();
    for name in CREDENTIALS {
        for value in head.headers.get_all(&name) {
            request.headers_mut().append(name.clone(), value.clone());
        }
    }
    request.into_parts().0
}
