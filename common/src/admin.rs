//! The routes every daemon answers: `/livez`, `/readyz`, `/metrics`; and what "ready" means.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What each dependency said last. The daemon is ready when all that count are well.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Dependency>>>);

#[derive(Debug)]
struct Dependency {
    state: Result<(), String>,
    counts: bool,
}

impl Readiness {
    /// Says how a dependency is; from the first word on it counts.
    pub fn set(&self, dependency: &'static str, state: Result<(), String>) {
        self.lock().insert(dependency, Dependency { state, counts: true });
    }

    /// As `set`, for a dependency the daemon can do without for a while: shown, but it never makes
    /// the daemon unready.
    pub fn report(&self, dependency: &'static str, state: Result<(), String>) {
        self.lock().insert(dependency, Dependency { state, counts: false });
    }

    pub fn is_ready(&self) -> bool {
        self.lock().values().all(|it| it.state.is_ok() || !it.counts)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Dependency>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn describe(&self) -> String {
        let checks: serde_json::Map<_, _> = self
            .lock()
            .iter()
            .map(|(name, it)| {
                let text = it.state.as_ref().map_or_else(Clone::clone, |()| "ok".to_owned());
                ((*name).to_owned(), text.into())
            })
            .collect();
        serde_json::Value::Object(checks).to_string()
    }
}

/// The probe and metrics routes, without credentials.
pub fn router(registry: Registry, readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(readiness)
        .route("/metrics", get(move || async move { metrics(&registry) }))
}

/// Serves the routes until the daemon stops.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await?;
    Ok(())
}

async fn readyz(State(readiness): State<Readiness>, RawQuery(query): RawQuery) -> Response {
    let ready = readiness.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verbose = query.is_some_and(|query| query.split('&').any(|it| it.starts_with("verbose")));
    if verbose {
        return (status, [(header::CONTENT_TYPE, "application/json")], readiness.describe())
            .into_response();
    }
    (status, if ready { "ok\n" } else { "not ready\n" }).into_response()
}

fn metrics(registry: &Registry) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
