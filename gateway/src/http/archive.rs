//! Stored events over HTTP: pages as JSON, exports as NDJSON or CSV, whichever `Accept` names.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;

use super::Gateway;
use super::error::ApiError;
use crate::archive::{Form, Wanted};
use crate::auth::Right;

pub fn routes() -> Router<Arc<Gateway>> {
    Router::new().route("/api/events", get(events))
}

async fn events(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, _body) = request.into_parts();
    gateway.admit_for(Right::Read, &head).await?;
    let wanted = Wanted::read(head.uri.query().unwrap_or_default(), Timestamp::now())?;
    let Some(form) = accepted(&head.headers) else {
        return Ok(Json(gateway.archive.page(&wanted).await?).into_response());
    };
    if wanted.is_continued() {
        let detail = "an export has no pages; leave `cursor` out, or ask for JSON".to_owned();
        return Err(ApiError::UnusableParameter { detail });
    }
    let body = gateway.archive.export(&wanted, form).await?;
    let (media_type, file) = match form {
        Form::Ndjson => ("application/x-ndjson", "attachment; filename=\"events.ndjson\""),
        Form::Csv => {
            ("text/csv; charset=utf-8; header=present", "attachment; filename=\"events.csv\"")
        }
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static(file)),
    ];
    Ok((headers, body).into_response())
}

/// The first that is named of what is exported; none wants a page.
fn accepted(headers: &HeaderMap) -> Option<Form> {
    let named = headers.get_all(header::ACCEPT).iter().filter_map(|it| it.to_str().ok());
    let mut types = named.flat_map(|it| it.split(','));
    types.find_map(|it| match it.split(';').next()?.trim() {
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
            Some(Some(Form::Ndjson))
        }
        "text/csv" => Some(Some(Form::Csv)),
        "application/json" => Some(None),
        _ => None,
    })?
}
