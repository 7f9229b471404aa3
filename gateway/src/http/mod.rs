//! The routes, and what their handlers share.

mod body;
mod content;
mod cors;
mod error;
mod finish;
mod imports;
mod keys;
mod limit;
mod server;
mod split;
mod submit;
mod surface;
mod tls;
mod verdict;
mod way;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post};
use common::admin;
use common::daemon::Context;
use jiff::SignedDuration;
use tower::Service;
use tower_http::normalize_path::NormalizePath;

pub use self::error::{ApiError, ProblemDocument};
pub use self::server::Server;
use self::surface::COMPATIBILITY;
pub use self::surface::Door;
pub use self::tls::Tls;
pub use self::verdict::Verdicts;
use crate::auth::Access;
use crate::budget::Budget;
use crate::config::Origins;
use crate::docs;
use crate::idempotency::Idempotency;
use crate::import::jobs::Jobs;
use crate::metrics::GatewayMetrics;
use crate::publisher::Publisher;
use crate::push::{self, Push};
use crate::quota::Quotas;

/// Everything a request may need.
pub struct Gateway {
    pub access: Access,
    pub quotas: Quotas,
    pub idempotency: Idempotency,
    pub publisher: Publisher,
    pub budget: Budget,
    pub push: Push,
    pub body_time_max: Duration,
    /// What a client's clock may be off by before its times are corrected.
    pub clock_skew: SignedDuration,
    pub jobs: Jobs,
    pub metrics: GatewayMetrics,
}

/// The paths on which our own form and the two flat forms are taken; the parser tells them apart.
const SUBMISSIONS: [&str; 3] = ["/api/events", "/product_events", "/api-fast/view-event"];

/// The routes; a path with a slash at its end is the one without.
#[derive(Clone)]
pub struct Routes {
    plain: NormalizePath<Router>,
    /// The same for the scripts of web pages.
    cors: NormalizePath<Router>,
}

impl Routes {
    pub fn new(gateway: &Arc<Gateway>, context: &Context, origins: &Origins) -> Self {
        let finish = || middleware::from_fn_with_state(gateway.clone(), finish::finish);
        let routes = router(gateway.clone(), context);
        Self {
            plain: NormalizePath::trim_trailing_slash(routes.clone().layer(finish())),
            cors: NormalizePath::trim_trailing_slash(
                routes.layer(cors::layer(origins)).layer(finish()),
            ),
        }
    }

    /// Answers a request.
    fn call(&self, request: Request) -> impl Future<Output = Result<Response, Infallible>> + use<> {
        let mut routes =
            if cors::is_from_a_page(&request) { &self.cors } else { &self.plain }.clone();
        routes.call(request)
    }
}

/// Where events can be sent, and in whose words.
pub fn doors() -> impl Iterator<Item = (&'static str, Door)> {
    let native = SUBMISSIONS.map(|path| (path, Door::Native));
    let validation = [("/api/events/validate", Door::Validation)];
    native.into_iter().chain(validation).chain(COMPATIBILITY)
}

fn router(gateway: Arc<Gateway>, context: &Context) -> Router {
    let mut router = Router::new();
    for (path, door) in doors() {
        let submit = move |State(gateway): State<Arc<Gateway>>, request| async move {
            submit::submit(&gateway, door, request).await
        };
        router = router.route(path, post(submit));
    }
    router
        .merge(push::routes())
        .route("/api/imports", post(imports::create))
        .route("/api/imports/{id}", get(imports::show))
        .merge(keys::routes())
        .with_state(gateway.clone())
        .merge(docs::router())
        .merge(admin::router(context.registry.clone(), context.readiness.clone()))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(gateway, limit::limit))
}

async fn not_found(request: Request) -> ApiError {
    refuse(request, ApiError::NotFound).await
}

/// The router adds the header `Allow`, which is also the whole answer to OPTIONS.
async fn method_not_allowed(request: Request) -> Result<StatusCode, ApiError> {
    let method = request.method().clone();
    if method == Method::OPTIONS {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(refuse(request, ApiError::MethodNotAllowed { method }).await)
}

async fn refuse(request: Request, error: ApiError) -> ApiError {
    let (head, body) = request.into_parts();
    body::discard(&head.headers, body).await;
    error
}
