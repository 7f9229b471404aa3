//! Finds the credential of a request: the first place that holds one decides (CONTRACT, "Rights").

use std::borrow::Cow;

use axum::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Without `Debug`: nothing prints it by accident.
pub enum Credential<'a> {
    Key(Cow<'a, str>),
    /// A JWT, known by its three dotted parts.
    Token(&'a str),
}

pub fn find(head: &Parts) -> Option<Credential<'_>> {
    in_headers(head).or_else(|| in_query(head.uri.query()?))
}

/// Between these and the query a compatibility path looks into the body.
pub fn in_headers(head: &Parts) -> Option<Credential<'_>> {
    ["x-api-key", "x-write-key"]
        .into_iter()
        .find_map(|name| text(head, name).map(|key| Credential::Key(key.into())))
        .or_else(|| authorization(text(head, AUTHORIZATION.as_str())?))
        .or_else(|| in_protocols(text(head, SEC_WEBSOCKET_PROTOCOL.as_str())?))
}

/// What kind of credential a head holds, right or wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    Nothing,
    Key,
    Token,
}

impl Sent {
    pub fn with(head: &Parts) -> Self {
        match find(head) {
            None => Self::Nothing,
            Some(Credential::Key(_)) => Self::Key,
            Some(Credential::Token(_)) => Self::Token,
        }
    }
}

/// A header's value; an empty one is none.
fn text<'a>(head: &'a Parts, name: &str) -> Option<&'a str> {
    // What is not text cannot be a key; `?` must not hide that something was sent.
    let value = head.headers.get(name)?.to_str().unwrap_or("?").trim();
    (!value.is_empty()).then_some(value)
}

fn authorization(value: &str) -> Option<Credential<'_>> {
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("basic") {
        return basic_user(rest);
    }
    if !scheme.eq_ignore_ascii_case("bearer") || rest.is_empty() {
        return None;
    }
    Some(bearer(rest))
}

fn bearer(value: &str) -> Credential<'_> {
    if value.split('.').count() == 3 {
        return Credential::Token(value);
    }
    Credential::Key(value.into())
}

/// The pair `bearer, <token>` among the protocols that a browser's WebSocket asks for: it can set no
/// other header.
fn in_protocols(value: &str) -> Option<Credential<'_>> {
    let mut protocols = value.split(',').map(str::trim);
    protocols.find(|name| name.eq_ignore_ascii_case("bearer"))?;
    protocols.next().filter(|token| !token.is_empty()).map(bearer)
}

/// The key is the user; a password is ignored.
fn basic_user(encoded: &str) -> Option<Credential<'static>> {
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let user = decoded.split_once(':').map_or(decoded.as_str(), |(user, _password)| user);
    (!user.is_empty()).then(|| Credential::Key(user.to_owned().into()))
}

/// `?api_key=` and `?access_token=`; neither keys nor tokens have characters that a URL would escape.
fn in_query(query: &str) -> Option<Credential<'_>> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(name, value)| match name {
        _ if value.is_empty() => None,
        "api_key" => Some(Credential::Key(value.into())),
        "access_token" => Some(bearer(value)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn found(uri: &str, headers: &[(&str, &str)]) -> Option<String> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        find(&head).map(|credential| match credential {
            Credential::Key(key) => format!("key {key}"),
            Credential::Token(token) => format!("token {token}"),
        })
    }

    #[test]
    fn a_key_is_found_in_every_place_it_may_be_in() {
        let basic = STANDARD.encode("k:");
        for headers in [
            [("X-API-Key", "k")],
            [("X-Write-Key", " k ")],
            [("Authorization", "Bearer k")],
            [("Authorization", "bearer  k")],
            [("Authorization", &format!("Basic {basic}"))],
        ] {
            assert_eq!(found("/", &headers).as_deref(), Some("key k"), "{headers:?}");
        }
        assert_eq!(found("/?a=1&api_key=k", &[]).as_deref(), Some("key k"));
    }

    #[test]
    fn the_first_place_that_holds_one_decides() {
        let both = [("Authorization", "Bearer b"), ("X-API-Key", "a")];
        assert_eq!(found("/?api_key=c", &both).as_deref(), Some("key a"));
        assert_eq!(found("/?api_key=c", &both[..1]).as_deref(), Some("key b"));
        assert_eq!(found("/?api_key=c", &[("X-API-Key", "")]).as_deref(), Some("key c"));
    }

    #[test]
    fn three_dotted_parts_are_a_token() {
        assert_eq!(
            found("/", &[("Authorization", "Bearer a.b.c")]).as_deref(),
            Some("token a.b.c")
        );
        assert_eq!(found("/", &[("Authorization", "Bearer a.b")]).as_deref(), Some("key a.b"));
    }

    #[test]
    fn nothing_usable_is_no_credential() {
        for value in ["", "Basic", "Basic %%%", "Digest x", "Bearer"] {
            assert_eq!(found("/?api_key=", &[("Authorization", value)]), None, "{value}");
        }
    }
}
