//! The live page: its files, from the gateway's own binary, each with a tag by which nothing is sent twice.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use xxhash_rust::xxh3::xxh3_64;

use crate::http::ApiError;

/// Nothing comes from another host or runs that is not a file of ours, and no other page may frame it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

struct File {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! files {
    ($($name:literal $content_type:expr),+ $(,)?) => {
        &[$(File { name: $name, content_type: $content_type, text: include_str!($name) }),+]
    };
}

const FILES: &[File] = files![
    "index.html" HTML,
    "style.css" STYLE,
    "main.js" SCRIPT,
    "api.js" SCRIPT,
    "live.js" SCRIPT,
    "format.js" SCRIPT,
    "dom.js" SCRIPT,
    "chart.js" SCRIPT,
    "key.js" SCRIPT,
    "figures.js" SCRIPT,
    "events.js" SCRIPT,
    "send.js" SCRIPT,
    "pipeline.js" SCRIPT,
    "notifications.js" SCRIPT,
    "letters.js" SCRIPT,
    "activity.js" SCRIPT,
    "top.js" SCRIPT,
    "users.js" SCRIPT,
    "vendor/uPlot.iife.min.js" SCRIPT,
    "vendor/uPlot.min.css" STYLE,
    "vendor/LICENSE" "text/plain; charset=utf-8",
];

/// `/` and what it loads; without credentials.
pub fn router() -> Router {
    Router::new().route("/", get(|headers| async move { answer("index.html", &headers) })).route(
        "/page/{*file}",
        get(|Path(file): Path<String>, headers| async move { answer(&file, &headers) }),
    )
}

/// The file, or only its tag when the browser has it already.
fn answer(name: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let at = FILES.iter().position(|it| it.name == name).ok_or(ApiError::NotFound)?;
    let (file, tag) = (&FILES[at], &tags()[at]);
    let caching = [
        (header::ETAG, tag.clone()),
        // A new binary is seen on the next look.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|it| it == tag) {
        return Ok((StatusCode::NOT_MODIFIED, caching).into_response());
    }
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(file.content_type)),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    Ok((caching, headers, file.text).into_response())
}

fn tags() -> &'static [HeaderValue] {
    static TAGS: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| {
        let tag = |file: &File| format!("\"{:016x}\"", xxh3_64(file.text.as_bytes()));
        FILES.iter().map(|it| tag(it).parse().expect("hexadecimal digits are a header")).collect()
    });
    &TAGS
}
