//! What people read about this gateway, from its own binary: the API to click through, and its errors.

mod answers;
mod errors;
mod openapi;

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use utoipa_swagger_ui::Config;

use crate::http::ApiError;

/// Nothing of these pages comes from another host, and nothing may be made to.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
);

const PAGE: &str = include_str!("page.html");

/// `/docs`, `/docs/errors`, `/openapi.json`; without credentials.
pub fn router() -> Router {
    // The badge of Swagger's own validator would be fetched from its host.
    let config = Config::from("/openapi.json").validator_url("none").try_it_out_enabled(true);
    Router::new()
        .route("/openapi.json", get(description))
        .route("/docs/errors", get(|| async { in_page("errors", &errors::index()) }))
        .route("/docs/errors/{code}", get(error_page))
        .route("/docs", get(|config| swagger_file("index.html", config)))
        .route("/docs/{file}", get(file_of_docs))
        .with_state(Arc::new(config))
}

/// Put together once: whoever asks needs no credential and has no limit.
async fn description() -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| openapi::document().to_string().into());
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.clone()).into_response()
}

async fn error_page(Path(code): Path<String>) -> Result<Response, ApiError> {
    let page = errors::page(&code).ok_or(ApiError::NotFound)?;
    Ok(in_page(page.code, &page.render()))
}

async fn file_of_docs(
    Path(file): Path<String>,
    config: State<Arc<Config<'static>>>,
) -> Result<Response, ApiError> {
    swagger_file(&file, config).await
}

async fn swagger_file(
    name: &str,
    State(config): State<Arc<Config<'static>>>,
) -> Result<Response, ApiError> {
    let Ok(Some(file)) = utoipa_swagger_ui::serve(name, config) else {
        return Err(ApiError::NotFound);
    };
    let mut bytes = file.bytes.into_owned();
    if name == "index.html" {
        // Its files lie below /docs, whose path has no slash at its end here.
        let page =
            String::from_utf8_lossy(&bytes).replace("<head>", "<head><base href=\"/docs/\">");
        bytes = page.into_bytes();
    }
    let headers = [(header::CONTENT_TYPE, file.content_type)];
    Ok(([(header::CONTENT_SECURITY_POLICY, POLICY)], headers, bytes).into_response())
}

fn in_page(title: &str, content: &str) -> Response {
    let page = PAGE.replace("{title}", title).replace("{content}", content);
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    let headers = [(header::CONTENT_TYPE, html), (header::CONTENT_SECURITY_POLICY, POLICY)];
    (headers, page).into_response()
}
