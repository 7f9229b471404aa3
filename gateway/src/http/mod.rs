//! The routes, and what their handlers share.

mod archive;
mod body;
mod content;
mod cors;
mod error;
mod finish;
pub mod imports;
pub mod keys;
mod limit;
pub mod pipeline;
mod server;
mod split;
mod stats;
mod submit;
mod surface;
mod tls;
mod unreadable;
mod verdict;
mod way;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use common::admin;
use common::daemon::Context;
use jiff::SignedDuration;
use percent_encoding::percent_decode_str;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_http::cors::CorsLayer;
use tower_http::normalize_path::NormalizePath;

pub use self::error::{ApiError, ProblemDocument};
use self::finish::Receipt;
use self::limit::Account;
pub use self::server::Server;
use self::surface::COMPATIBILITY;
pub use self::surface::Door;
pub use self::tls::Tls;
pub use self::verdict::Verdicts;
use crate::archive::Archive;
use crate::auth::Access;
use crate::budget::Budget;
use crate::config::Origins;
use crate::docs;
use crate::idempotency::Idempotency;
use crate::import::jobs::Jobs;
use crate::metrics::GatewayMetrics;
use crate::page;
use crate::pipeline::Pipeline;
use crate::publisher::Publisher;
use crate::push::{self, Push};
use crate::quota::Quotas;
use crate::stats::Stats;

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
    pub stats: Stats,
    pub pipeline: Pipeline,
    pub archive: Archive,
    pub metrics: GatewayMetrics,
}

/// The paths on which our own form and the two flat forms are taken; the parser tells them apart.
const SUBMISSIONS: [&str; 3] = ["/api/events", "/product_events", "/api-fast/view-event"];

/// The routes; a path with a slash at its end is the one without.
pub struct Routes {
    gateway: Arc<Gateway>,
    router: NormalizePath<Router>,
    cors: CorsLayer,
}

impl Routes {
    pub fn new(gateway: &Arc<Gateway>, context: &Context, origins: &Origins) -> Self {
        Self {
            gateway: gateway.clone(),
            router: NormalizePath::trim_trailing_slash(router(gateway.clone(), context)),
            cors: cors::layer(origins),
        }
    }

    /// Answers a request. Steps of a function and not layers of the router: each of those would move
    /// every request's future into an allocation of its own.
    async fn answer(self: Arc<Self>, mut request: Request) -> Response {
        let receipt = Receipt::of(&mut request);
        let response = if cors::is_from_a_page(&request) {
            self.answer_page(request).await
        } else {
            self.answer_within_limits(request).await
        };
        receipt.finish(&self.gateway, response).await
    }

    /// The same for the script of a web page.
    async fn answer_page(self: &Arc<Self>, request: Request) -> Response {
        let routes = self.clone();
        let answer = service_fn(move |request| {
            let routes = routes.clone();
            async move { Ok::<_, Infallible>(routes.answer_within_limits(request).await) }
        });
        let Ok(response) = Box::pin(self.cors.layer(answer).oneshot(request)).await;
        response
    }

    async fn answer_within_limits(&self, request: Request) -> Response {
        let (account, request) = Account::open(&self.gateway, request);
        let Some(account) = account else { return self.route(request).await };
        let response = match account.refusal(&self.gateway).await {
            Some(refusal) => refusal,
            None => self.route(request).await,
        };
        account.close(&self.gateway, response).await
    }

    async fn route(&self, request: Request) -> Response {
        if !is_text(request.uri().path()) {
            return refuse(request, ApiError::NotFound).await.into_response();
        }
        let Ok(response) = self.router.clone().call(request).await;
        response
    }
}

/// Nothing of ours is named in bytes that are none; the handlers need not ask.
fn is_text(path: &str) -> bool {
    !path.contains('%') || percent_decode_str(path).decode_utf8().is_ok()
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
        .merge(stats::routes())
        .merge(pipeline::routes())
        .merge(archive::routes())
        .with_state(gateway)
        .merge(docs::router())
        .merge(page::router())
        .merge(admin::router(context.registry.clone(), context.readiness.clone()))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
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
