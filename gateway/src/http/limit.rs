//! Lets no request go uncounted: makes its account, charges what no handler has charged, and tells
//! the client how it stands.

use axum::extract::{ConnectInfo, Request};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use std::net::{Ipv4Addr, SocketAddr};

use super::Gateway;
use super::error::ApiError;
use crate::auth::{Caller, Right, Sent};
use crate::quota::Meter;

/// A request's account, and what came with it.
pub struct Account {
    meter: Meter,
    credential: Sent,
}

impl Account {
    /// Opens the account, for the handler too; an exempt request has none.
    pub fn open(gateway: &Gateway, request: Request) -> (Option<Self>, Request) {
        if is_exempt(request.method(), request.uri().path()) {
            return (None, request);
        }
        let (mut head, body) = request.into_parts();
        let credential = Sent::with(&head);
        let meter = gateway.quotas.meter(peer(&head), &head.headers);
        head.extensions.insert(meter.clone());
        (Some(Self { meter, credential }), Request::from_parts(head, body))
    }

    /// A token pays by address, and costs more to check than this: a flood of them is refused unread.
    pub async fn refusal(&self, gateway: &Gateway) -> Option<Response> {
        if self.credential != Sent::Token {
            return None;
        }
        let refused = gateway.quotas.refuse_exhausted(&self.meter).await.err()?;
        Some(ApiError::Quota(refused).into_response())
    }

    pub async fn close(self, gateway: &Gateway, mut response: Response) -> Response {
        // Whoever was not let in by a key pays by address: also for a wrong path, or a wrong key.
        let is_stranger =
            self.credential != Sent::Key || response.status() == StatusCode::UNAUTHORIZED;
        let charged = gateway.quotas.charge_rest(&self.meter, is_stranger).await;
        if let Err(refused) = charged {
            response = ApiError::Quota(refused).into_response();
        }
        self.meter.write_headers(response.headers_mut());
        response
    }
}

/// Probes, metrics, the page and the documentation; and the question of a browser before a request,
/// which never has a credential.
fn is_exempt(method: &Method, path: &str) -> bool {
    const PATHS: [&str; 5] = ["/", "/livez", "/readyz", "/metrics", "/openapi.json"];
    PATHS.contains(&path)
        || path == "/docs"
        || path.starts_with("/docs/")
        || path.starts_with("/page/")
        || method == Method::OPTIONS
}

fn peer(head: &Parts) -> SocketAddr {
    let nobody = || SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    head.extensions.get().map_or_else(nobody, |ConnectInfo(peer)| *peer)
}

impl Gateway {
    /// Who asks, if they may; charged at once, so that nothing is done for one who has nothing left.
    pub async fn admit_for(&self, right: Right, head: &Parts) -> Result<Caller, ApiError> {
        let caller = self.access.authorize(head, right).await?;
        self.charge(head, &caller).await?;
        Ok(caller)
    }

    /// Charges a request whose caller is known now.
    pub async fn charge(&self, head: &Parts, caller: &Caller) -> Result<(), ApiError> {
        let Some(meter) = Meter::of(head) else { return Ok(()) };
        Ok(self.quotas.charge(meter, caller).await?)
    }

    /// Charges a request that brings events; `charge_events` follows when it is known how many.
    pub async fn charge_bringer(&self, head: &Parts, caller: &Caller) -> Result<(), ApiError> {
        let Some(meter) = Meter::of(head) else { return Ok(()) };
        Ok(self.quotas.charge_bringer(meter, caller).await?)
    }

    /// Charges a batch as a whole, where limits count events.
    pub async fn charge_events(&self, head: &Parts, events: usize) -> Result<(), ApiError> {
        let Some(meter) = Meter::of(head) else { return Ok(()) };
        Ok(self.quotas.charge_events(meter, events).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_for_machines_and_readers_is_exempt() {
        for path in ["/", "/livez", "/metrics", "/docs", "/docs/errors/not_found", "/page/main.js"]
        {
            assert!(is_exempt(&Method::GET, path), "{path}");
        }
        for path in ["/api/events", "/docsx", "/livez/x", ""] {
            assert!(!is_exempt(&Method::GET, path), "{path}");
            assert!(is_exempt(&Method::OPTIONS, path), "{path}");
        }
    }
}
