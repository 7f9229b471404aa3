//! Which web pages may read our answers (CORS): what browsers ask before they let a script see one.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::config::Origins;

/// How long a browser may remember what is allowed; Chromium caps it at two hours.
const PREFLIGHT_AGE: Duration = Duration::from_secs(2 * 3_600);

/// What scripts may read besides the few headers that are always readable.
const READABLE: [&str; 10] = [
    "etag",
    "idempotent-replayed",
    "location",
    "ratelimit",
    "ratelimit-limit",
    "ratelimit-policy",
    "ratelimit-remaining",
    "ratelimit-reset",
    "retry-after",
    "x-request-id",
];

/// Without credentials: a key is sent by the script itself, never by the browser of its own accord.
pub fn layer(origins: &Origins) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(match origins {
            Origins::All => AllowOrigin::any(),
            Origins::These(these) => AllowOrigin::list(these.clone()),
        })
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(READABLE.map(HeaderName::from_static))
        .max_age(PREFLIGHT_AGE)
}

/// Whether an answer is for a script of a web page.
pub fn is_from_a_page<B>(request: &axum::http::Request<B>) -> bool {
    request.headers().get(header::ORIGIN).is_some_and(|origin: &HeaderValue| !origin.is_empty())
}
