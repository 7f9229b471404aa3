//! What the headers say about a body: its type, its encoding, its length.

use axum::http::{HeaderMap, HeaderValue, header};

use super::error::ApiError;
pub use super::split::Declared;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Gzip,
    Deflate,
    Zstd,
}

impl Encoding {
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }
}

/// What the type says. Only a type that is surely something else is refused: many clients send JSON
/// under none, under the wrong one, or under curl's `application/x-www-form-urlencoded`.
pub fn declared(headers: &HeaderMap) -> Result<Declared, ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Declared::Nothing) };
    let essence = essence(value);
    match essence.as_str() {
        "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/json-lines"
        | "application/x-jsonlines" => Ok(Declared::Lines),
        "application/cloudevents+json" | "application/cloudevents-batch+json" => {
            Ok(Declared::CloudEvents)
        }
        "text/csv" | "application/csv" | "text/tab-separated-values" => Ok(Declared::Table),
        _ if is_surely_not_json(&essence) => Err(ApiError::UnsupportedMediaType { found: essence }),
        _ => Ok(Declared::Nothing),
    }
}

/// The type of the body, without its parameters.
pub fn essence_of(headers: &HeaderMap) -> Option<String> {
    headers.get(header::CONTENT_TYPE).map(essence)
}

/// The type without its parameters.
fn essence(value: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_surely_not_json(essence: &str) -> bool {
    const WHOLE: [&str; 14] = [
        "application/gzip",
        "application/grpc",
        "application/msgpack",
        "application/pdf",
        "application/protobuf",
        "application/vnd.apache.avro",
        "application/x-gzip",
        "application/x-msgpack",
        "application/x-protobuf",
        "application/xml",
        "application/yaml",
        "application/zip",
        "text/html",
        "text/xml",
    ];
    const FAMILIES: [&str; 6] = ["audio/", "avro/", "font/", "image/", "multipart/", "video/"];
    WHOLE.contains(&essence) || FAMILIES.iter().any(|family| essence.starts_with(family))
}

pub fn encoding(headers: &HeaderMap) -> Result<Option<Encoding>, ApiError> {
    let mut found = None;
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let name = String::from_utf8_lossy(value.as_bytes()).trim().to_ascii_lowercase();
        let encoding = match name.as_str() {
            "" | "identity" => continue,
            "gzip" | "x-gzip" => Encoding::Gzip,
            "deflate" => Encoding::Deflate,
            "zstd" => Encoding::Zstd,
            _ => return Err(ApiError::UnsupportedEncoding { found: name }),
        };
        if found.replace(encoding).is_some() {
            return Err(ApiError::UnsupportedEncoding { found: "several encodings".into() });
        }
    }
    Ok(found)
}

/// The length the client announces; a chunked body has none.
pub fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn only_a_type_that_is_surely_something_else_is_refused() {
        let taken = |value| declared(&with(header::CONTENT_TYPE, value)).is_ok();
        for value in ["application/json; charset=utf-8", "text/plain", "application/x-foo", "json"]
        {
            assert!(taken(value), "{value}");
        }
        for value in ["multipart/form-data; boundary=x", "Image/PNG", "text/html;charset=utf-8"] {
            assert!(!taken(value), "{value}");
        }
    }

    #[test]
    fn lines_are_announced_by_any_of_their_types() {
        for value in
            ["application/x-ndjson", "Application/NDJSON; charset=utf-8", "application/jsonl"]
        {
            let declared = declared(&with(header::CONTENT_TYPE, value)).unwrap();
            assert_eq!(declared, Declared::Lines, "{value}");
        }
    }

    #[test]
    fn a_table_and_cloud_events_are_announced_by_their_types() {
        for (value, expected) in [
            ("text/csv;header=present", Declared::Table),
            ("application/cloudevents+json; charset=utf-8", Declared::CloudEvents),
            ("application/cloudevents-batch+json", Declared::CloudEvents),
        ] {
            assert_eq!(declared(&with(header::CONTENT_TYPE, value)).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn an_encoding_is_known_by_any_of_its_names_and_two_are_too_many() {
        let of = |value| encoding(&with(header::CONTENT_ENCODING, value));
        assert_eq!(of("GZIP").unwrap(), Some(Encoding::Gzip));
        assert_eq!(of("x-gzip").unwrap(), Some(Encoding::Gzip));
        assert_eq!(of("identity").unwrap(), None);
        assert!(of("br").is_err());
        assert!(of("gzip, gzip").is_err());
    }
}
