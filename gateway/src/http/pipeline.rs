//! The pipeline over HTTP: its lag, one event's way, and for administrators what was rejected.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::Gateway;
use super::error::ApiError;
use crate::auth::Right;
use crate::pipeline::{DeadLetterPage, DeadLetters, Report, Trace};
use crate::stats::Params;

pub fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/api/pipeline", get(report))
        .route("/api/events/{eventId}/trace", get(trace))
        .route("/api/dead-letters", get(dead_letters))
}

/// What is true this moment is kept by nobody.
const NO_STORE: [(header::HeaderName, HeaderValue); 1] =
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];

#[utoipa::path(get, path = "/api/pipeline", tag = "Pipeline", summary = "Lag of each step, verdicts and rates",
    responses((status = 200, description = "As it stands, at most half a second old.", body = Report)))]
pub async fn report(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, _body) = request.into_parts();
    gateway.admit_for(Right::Read, &head).await?;
    let report = gateway.pipeline.report().await?;
    Ok((NO_STORE, Json(&*report)).into_response())
}

#[utoipa::path(get, path = "/api/events/{eventId}/trace", tag = "Pipeline", summary = "One event's way, with times",
    params(
        ("eventId" = String, Path, description = "As the answer to its submission named it."),
        ("source" = Option<String>, Query, description = "Of a CloudEvent, whose id is unique within its source alone."),
    ),
    responses(
        (status = 200, description = "How far it has come; no step is done while no event of this id is stored.", body = Trace),
        (status = 400, description = "A parameter cannot be used."),
    ))]
pub async fn trace(
    State(gateway): State<Arc<Gateway>>,
    Path(event_id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, _body) = request.into_parts();
    gateway.admit_for(Right::Read, &head).await?;
    let params = Params::read(head.uri.query().unwrap_or_default(), &[&["source"]])?;
    let trace = gateway.pipeline.trace(&event_id, params.text("source")).await?;
    Ok((NO_STORE, Json(trace)).into_response())
}

#[utoipa::path(get, path = "/api/dead-letters", tag = "Pipeline", summary = "Rejected records, newest first",
    params(
        ("code" = Option<String>, Query, description = "Only those rejected for this."),
        ("limit" = Option<u32>, Query, description = "1 to 1,000; 100 unless said."),
        ("cursor" = Option<String>, Query, description = "`next` of the page before."),
    ),
    responses(
        (status = 200, description = "A page of them, with the first 4,096 bytes of each value.", body = DeadLetterPage),
        (status = 400, description = "A parameter cannot be used."),
    ))]
pub async fn dead_letters(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, _body) = request.into_parts();
    gateway.admit_for(Right::Admin, &head).await?;
    let wanted = DeadLetters::read(head.uri.query().unwrap_or_default())?;
    let page = gateway.pipeline.dead_letters(&wanted).await?;
    Ok((NO_STORE, Json::<DeadLetterPage>(page)).into_response())
}
