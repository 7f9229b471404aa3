//! The header `Idempotency-Key`, and the names it gives (pure).

use std::fmt::Write as _;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};
use uuid::Uuid;

pub const HEADER: HeaderName = HeaderName::from_static("idempotency-key");

const BYTES_MAX: usize = 255;

/// The key, when there is one: a string of RFC 8941 in quotes, or the bare text.
pub fn read(headers: &HeaderMap) -> Result<Option<Vec<u8>>, InvalidKey> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(InvalidKey);
    }
    let key = text(value.as_bytes()).ok_or(InvalidKey)?;
    if (1..=BYTES_MAX).contains(&key.len()) { Ok(Some(key)) } else { Err(InvalidKey) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidKey;

fn text(value: &[u8]) -> Option<Vec<u8>> {
    let Some(quoted) = value.strip_prefix(b"\"") else {
        let is_bare = |byte: &u8| byte.is_ascii_graphic() && *byte != b'"';
        return value.iter().all(is_bare).then(|| value.to_vec());
    };
    let mut key = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    loop {
        match *bytes.next()? {
            b'"' => return bytes.next().is_none().then_some(key),
            b'\\' => key.push(*bytes.next().filter(|byte| matches!(byte, b'"' | b'\\'))?),
            byte @ b' '..=b'~' => key.push(byte),
            _ => return None,
        }
    }
}

/// One request, however often it is sent: a key within its credential and path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope([u8; 32]);

impl Scope {
    pub fn new(credential: &str, path: &str, key: &[u8]) -> Self {
        let mut hash = Sha256::new();
        for part in [credential.as_bytes(), path.as_bytes(), key] {
            // With its length: no two lists of parts read the same.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    pub fn redis_key(&self) -> String {
        format!("tm:idempotency:{}", hex(&self.0))
    }

    /// The id of the event at `index`, if it brings neither an id nor a time: the same each time.
    fn event_id(&self, index: usize) -> String {
        let index = (index as u64).to_be_bytes();
        hex(&Sha256::new().chain_update(self.0).chain_update(index).finalize())
    }
}

/// Where ids of events that bring none come from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Names(pub(super) Option<Scope>);

impl Names {
    /// By its place in a request that can be known again, else a new one.
    pub fn of(self, index: usize) -> String {
        match self.0 {
            Some(scope) => scope.event_id(index),
            None => Uuid::now_v7().to_string(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every text");
        text
    })
}

/// What must be the same when a key is used again: the body, and the headers that say how to read it.
pub fn fingerprint(headers: &HeaderMap, body: &[u8]) -> [u8; 32] {
    let tells = |name: &HeaderName| name == "content-type" || name.as_str().starts_with("ce-");
    let mut told: Vec<(&str, &HeaderValue)> = headers
        .iter()
        .filter(|(name, _)| tells(name))
        .map(|(name, value)| (name.as_str(), value))
        .collect();
    told.sort_unstable();
    let mut hash = Sha256::new();
    for (name, value) in told {
        hash.update(name);
        hash.update([0]);
        hash.update(value.as_bytes());
        hash.update([0]);
    }
    hash.update(b"\n");
    hash.update(body);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(sent: &str) -> Result<Option<Vec<u8>>, InvalidKey> {
        read(&HeaderMap::from_iter([(HEADER, HeaderValue::from_str(sent).unwrap())]))
    }

    #[test]
    fn a_key_is_a_quoted_string_or_the_bare_text() {
        let same = Ok(Some(b"order-1:a".to_vec()));
        assert_eq!(key("order-1:a"), same);
        assert_eq!(key("\"order-1:a\""), same);
        assert_eq!(key(r#""a \"b\" \\""#), Ok(Some(br#"a "b" \"#.to_vec())));
        assert_eq!(read(&HeaderMap::new()), Ok(None));
        assert!(key(&"x".repeat(255)).is_ok());
    }

    #[test]
    fn anything_else_is_refused() {
        let long = "x".repeat(256);
        for sent in ["", "\"\"", "two words", "\"open", "\"a\"b", r#""\n""#, r#"a"b"#, &long] {
            assert_eq!(key(sent), Err(InvalidKey), "{sent}");
        }
        let mut twice = HeaderMap::new();
        twice.append(HEADER, HeaderValue::from_static("a"));
        twice.append(HEADER, HeaderValue::from_static("a"));
        assert_eq!(read(&twice), Err(InvalidKey));
    }

    #[test]
    fn credential_path_key_and_index_make_a_name_and_nothing_else_does() {
        let scope = Scope::new("key:1", "/api/events", b"k");
        let names = Names(Some(scope));
        assert_eq!(names.of(0), Names(Some(Scope::new("key:1", "/api/events", b"k"))).of(0));
        assert_eq!(names.of(0).len(), 64);
        let mut all = vec![names.of(0), names.of(1)];
        for other in [
            Scope::new("key:2", "/api/events", b"k"),
            Scope::new("key:1", "/product_events", b"k"),
            Scope::new("key:1", "/api/events", b"l"),
            Scope::new("key:1", "/api/eventsk", b""),
        ] {
            all.push(Names(Some(other)).of(0));
        }
        all.extend([Names(None).of(0), Names(None).of(0)]);
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn the_content_is_the_body_and_how_it_is_to_be_read() {
        let with = |name: &'static str, value: &str| {
            HeaderMap::from_iter([(
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )])
        };
        let plain = fingerprint(&HeaderMap::new(), b"{}");
        assert_eq!(plain, fingerprint(&with("user-agent", "x"), b"{}"));
        for other in [
            fingerprint(&HeaderMap::new(), b"{ }"),
            fingerprint(&with("content-type", "text/csv"), b"{}"),
            fingerprint(&with("ce-id", "1"), b"{}"),
            fingerprint(&with("ce-id", "2"), b"{}"),
        ] {
            assert_ne!(plain, other);
        }
    }
}
