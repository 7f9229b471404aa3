//! How a client stands, as headers: of draft-ietf-httpapi-ratelimit-headers-10, and the older three.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::{Limited, Unit};
use crate::quota::lease::WINDOW;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const CURRENT: HeaderName = HeaderName::from_static("ratelimit");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

pub fn write(limited: &Limited, headers: &mut HeaderMap) {
    let (name, standing) = (limited.payer.name(), limited.standing);
    let resets_in = limited.resets_in_seconds();
    // Requests are the unit a client assumes.
    let unit = if limited.unit == Unit::Events { ";qu=\"events\"" } else { "" };
    let window = WINDOW.as_secs();
    let policy = format!("\"{name}\";q={};w={window}{unit}", standing.budget);
    let current = format!("\"{name}\";r={};t={resets_in}", standing.remaining);
    for (header, text) in [(POLICY, policy), (CURRENT, current)] {
        let value = HeaderValue::try_from(text).expect("names and numbers are visible");
        headers.insert(header, value);
    }
    headers.insert(LIMIT, standing.budget.into());
    headers.insert(REMAINING, standing.remaining.into());
    headers.insert(RESET, resets_in.into());
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Payer;
    use super::super::lease::Standing;
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let resets_in = Duration::from_millis(41_001);
        let standing = Standing { budget: 100, remaining: 97, resets_in };
        let mut headers = HeaderMap::new();
        write(&Limited { payer: Payer::Address, unit: Unit::Requests, standing }, &mut headers);
        for (name, value) in [
            ("ratelimit-policy", "\"ip\";q=100;w=60"),
            ("ratelimit", "\"ip\";r=97;t=42"),
            ("ratelimit-limit", "100"),
            ("ratelimit-remaining", "97"),
            ("ratelimit-reset", "42"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
        write(&Limited { payer: Payer::Key, unit: Unit::Events, standing }, &mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"key\";q=100;w=60;qu=\"events\"");
        assert_eq!(headers["ratelimit"], "\"key\";r=97;t=42");
    }
}
