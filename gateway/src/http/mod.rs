//! The routes, and what their handlers share.

mod body;
mod content;
mod error;
mod finish;
mod server;
mod split;
mod submit;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware;
use axum::routing::post;
use common::admin;
use common::daemon::Context;

pub use self::error::ApiError;
pub use self::server::Server;
use crate::auth::Access;
use crate::budget::Budget;
use crate::metrics::GatewayMetrics;
use crate::publisher::Publisher;

/// Everything a request may need.
pub struct Gateway {
    pub access: Access,
    pub publisher: Publisher,
    pub budget: Budget,
    pub body_time_max: Duration,
    pub metrics: GatewayMetrics,
}

/// The paths on which our own form and the two flat forms are taken; the parser tells them apart.
const SUBMISSIONS: [&str; 3] = ["/api/events", "/product_events", "/api-fast/view-event"];

pub fn router(gateway: Arc<Gateway>, context: &Context) -> Router {
    let metrics = gateway.metrics.clone();
    let mut router = Router::new();
    for path in SUBMISSIONS {
        router = router
            .route(path, post(submit::submit))
            .route(&format!("{path}/"), post(submit::submit));
    }
    router
        .with_state(gateway)
        .merge(admin::router(context.registry.clone(), context.readiness.clone()))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(metrics, finish::finish))
}

async fn not_found(request: Request) -> ApiError {
    refuse(request, ApiError::NotFound).await
}

async fn method_not_allowed(request: Request) -> ApiError {
    let method = request.method().clone();
    refuse(request, ApiError::MethodNotAllowed { method }).await
}

async fn refuse(request: Request, error: ApiError) -> ApiError {
    let (head, body) = request.into_parts();
    body::discard(&head.headers, body).await;
    error
}
