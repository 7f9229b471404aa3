//! CloudEvents over HTTP whose attributes are headers; the structured modes are bodies like others.

use std::borrow::Cow;

use axum::http::{HeaderMap, header};
use common::event::structured_cloud_event;
use percent_encoding::percent_decode;

pub fn is_binary(headers: &HeaderMap) -> bool {
    headers.contains_key("ce-specversion")
}

/// The structured form of a binary CloudEvent, if this is one.
pub fn binary(headers: &HeaderMap, body: &[u8]) -> Option<Vec<u8>> {
    if !is_binary(headers) {
        return None;
    }
    let attributes = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix("ce-")?;
        Some((name, decoded(value.as_bytes())))
    });
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    Some(structured_cloud_event(attributes, content_type, body))
}

/// Header values are percent-encoded where they are not printable ASCII, and may be quoted.
fn decoded(value: &[u8]) -> Cow<'_, str> {
    let value = value.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\"")).unwrap_or(value);
    percent_decode(value).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn structured(headers: &[(&'static str, &'static str)], body: &[u8]) -> Option<String> {
        let headers = headers.iter().map(|(name, value)| {
            (header::HeaderName::from_static(name), header::HeaderValue::from_static(value))
        });
        let headers = HeaderMap::from_iter(headers);
        Some(String::from_utf8(binary(&headers, body)?).unwrap())
    }

    #[test]
    fn the_attributes_of_the_headers_are_put_around_the_body() {
        let head = [("ce-specversion", "1.0"), ("ce-id", "a%20%C3%BC"), ("x-other", "1")];
        let event = structured(&head, br#"{"userId":"u"}"#).unwrap();
        assert_eq!(event, r#"{"specversion":"1.0","id":"a ü","data":{"userId":"u"}}"#);
        assert_eq!(structured(&head[1..], b"{}"), None);
    }

    #[test]
    fn data_that_is_no_json_is_a_text_and_what_is_no_text_base64() {
        let head = [("ce-specversion", "1.0"), ("content-type", "text/plain")];
        assert!(structured(&head, b"{}").unwrap().ends_with(r#""data":"{}"}"#));
        assert!(structured(&head[..1], b"hello").unwrap().ends_with(r#""data":"hello"}"#));
        assert!(structured(&head[..1], b"\xff").unwrap().ends_with(r#""data_base64":"/w=="}"#));
        assert!(structured(&head[..1], b"").unwrap().ends_with(r#""specversion":"1.0"}"#));
    }
}
