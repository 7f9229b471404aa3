//! The statistics over HTTP: questions with a tag by which nothing is sent twice.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;

use super::Gateway;
use super::error::ApiError;
use crate::auth::Right;
use crate::stats::{Answer, Question};

pub fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/api/stats/{question}", get(stats))
        .route("/api/objects/{type}/{id}/counters", get(counters))
}

async fn stats(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, _body) = request.into_parts();
    gateway.admit_for(Right::Read, &head).await?;
    let now = Timestamp::now();
    let question = Question::read(&name, head.uri.query().unwrap_or_default(), now)?;
    let question = question.ok_or(ApiError::NotFound)?;
    let answer = gateway.stats.answer(&question).await?;
    Ok(tagged(&head, &answer, now))
}

async fn counters(
    State(gateway): State<Arc<Gateway>>,
    Path((object_type, id)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, _body) = request.into_parts();
    gateway.admit_for(Right::Read, &head).await?;
    if object_type.contains('\0') || id.contains('\0') {
        // Nothing stored has one, and Postgres takes no such question.
        return Err(ApiError::NotFound);
    }
    let json = gateway.stats.counters(&object_type, &id).await?;
    Ok(([(header::CONTENT_TYPE, JSON)], json).into_response())
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The answer, or only its tag when the client has it already. Whoever keeps it asks before using it.
fn tagged(head: &Parts, answer: &Answer, now: Timestamp) -> Response {
    let tag = format!("\"{}\"", answer.version);
    let age = now.duration_since(answer.computed_at).as_secs().max(0);
    let headers = [
        (header::ETAG, tag.clone()),
        (header::AGE, age.to_string()),
        (header::CACHE_CONTROL, "private, no-cache".to_owned()),
    ];
    let known = head.headers.get_all(header::IF_NONE_MATCH).iter();
    let is_known = known.filter_map(|it| it.to_str().ok()).flat_map(|it| it.split(',')).any(|it| {
        let it = it.trim();
        it == "*" || it.strip_prefix("W/").unwrap_or(it) == tag
    });
    if is_known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    ([(header::CONTENT_TYPE, JSON)], headers, answer.json.clone()).into_response()
}
