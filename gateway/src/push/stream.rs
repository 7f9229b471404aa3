//! What can be listened to: its topic, how one record of it is shown, by what it can be filtered.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::kafka::Record;
use common::topic::{self, Topic};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One topic as it is shown to those who listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Alerts.
    Notifications,
    /// Each action once.
    Events,
    /// Records that cannot be an event.
    Rejected,
}

/// A record as it is shown.
#[derive(Debug, PartialEq, Eq)]
pub struct Shown {
    /// A JSON object on one line, without its last brace.
    pub open_json: Vec<u8>,
    pub facets: Facets,
}

/// The values of a record by which it can be filtered, in the order of [`Stream::filters`].
pub type Facets = [Option<Box<str>>; FACETS];

const FACETS: usize = 5;

impl Stream {
    pub const ALL: [Self; 3] = [Self::Notifications, Self::Events, Self::Rejected];

    pub fn topic(self) -> &'static Topic {
        match self {
            Self::Notifications => &topic::NOTIFICATIONS,
            Self::Events => &topic::UNIQUE_ACTIONS,
            Self::Rejected => &topic::DEAD_LETTERS,
        }
    }

    /// The label in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Notifications => "notifications",
            Self::Events => "events",
            Self::Rejected => "rejected",
        }
    }

    /// How a cursor of this stream begins.
    pub fn letter(self) -> u8 {
        match self {
            Self::Notifications => b'n',
            Self::Events => b'e',
            Self::Rejected => b'r',
        }
    }

    /// The query parameters that choose among the messages.
    pub fn filters(self) -> &'static [&'static str] {
        match self {
            Self::Notifications => &["rule", "severity", "userId", "objectType", "objectId"],
            Self::Events => &["type", "userId", "objectType", "objectId", "source"],
            Self::Rejected => &["code"],
        }
    }

    /// The place of the filter that limits a person to what is theirs.
    pub fn owner(self) -> usize {
        self.filters().iter().position(|it| *it == "userId").unwrap_or(FACETS)
    }

    /// None for what nobody who keeps to the schema has written.
    pub fn show(self, partition: usize, record: &Record) -> Option<Shown> {
        match self {
            Self::Notifications => show_notification(record.value.as_deref()?),
            Self::Events => show_event(record.value.as_deref()?),
            Self::Rejected => show_rejected(partition, record),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventFacets {
    r#type: Option<Box<str>>,
    user_id: Option<Box<str>>,
    object_type: Option<Box<str>>,
    object_id: Option<Box<str>>,
    source: Option<Box<str>>,
}

fn show_event(value: &[u8]) -> Option<Shown> {
    let EventFacets { r#type, user_id, object_type, object_id, source } =
        serde_json::from_slice(value).ok()?;
    let facets = [r#type, user_id, object_type, object_id, source];
    Some(Shown { open_json: opened(value)?, facets })
}

#[derive(Deserialize)]
struct NotificationFacets {
    data: AlertFacets,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AlertFacets {
    rule: Option<Box<str>>,
    severity: Option<Box<str>>,
    user_id: Option<Box<str>>,
    object_type: Option<Box<str>>,
    object_id: Option<Box<str>>,
}

fn show_notification(value: &[u8]) -> Option<Shown> {
    let told: NotificationFacets = serde_json::from_slice(value).ok()?;
    let AlertFacets { rule, severity, user_id, object_type, object_id } = told.data;
    let facets = [rule, severity, user_id, object_type, object_id];
    Some(Shown { open_json: opened(value)?, facets })
}

/// A dead letter as it is shown: its reason, where it lay, and its bytes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rejected<'a> {
    verdict: &'static str,
    code: &'a str,
    detail: &'a str,
    /// `topic/partition/offset` of the record that was rejected.
    origin: String,
    rejected_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Bytes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Bytes<'a>>,
}

/// Text as it is, anything else in base64.
#[derive(Serialize)]
#[serde(untagged)]
enum Bytes<'a> {
    Text(&'a str),
    Binary { base64: String },
}

impl<'a> Bytes<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        std::str::from_utf8(bytes)
            .map_or_else(|_| Self::Binary { base64: STANDARD.encode(bytes) }, Self::Text)
    }
}

fn show_rejected(partition: usize, record: &Record) -> Option<Shown> {
    let header = |name| record.headers.text(name).unwrap_or_default();
    let code = header("error_code");
    let origin = match header("origin_topic") {
        "" => format!("{}/{partition}/{}", topic::DEAD_LETTERS.name, record.offset),
        topic => format!("{topic}/{}/{}", header("origin_partition"), header("origin_offset")),
    };
    let at = Timestamp::from_millisecond(record.timestamp_ms).ok()?;
    let rejected = Rejected {
        verdict: "rejected",
        code,
        detail: header("error_detail"),
        origin,
        rejected_at: format!("{at:.3}"),
        key: record.key.as_deref().map(Bytes::of),
        value: record.value.as_deref().map(Bytes::of),
    };
    let facets = [Some(code.into()), None, None, None, None];
    Some(Shown { open_json: opened(&serde_json::to_vec(&rejected).ok()?)?, facets })
}

/// On one line and without its last brace, so that a cursor can be put behind the last member. In
/// JSON a line break is never part of a value.
fn opened(object: &[u8]) -> Option<Vec<u8>> {
    let mut open = object.trim_ascii().strip_suffix(b"}")?.to_vec();
    for byte in &mut open {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    Some(open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::kafka::Headers;

    fn record(value: &[u8], headers: &[(&str, &str)]) -> Record {
        let mut all = Headers::default();
        headers.iter().for_each(|(name, value)| all.push(name, *value));
        let value = Some(value.to_vec().into());
        Record { offset: 5, timestamp_ms: 0, key: None, value, headers: all }
    }

    fn facet(shown: &Shown, stream: Stream, name: &str) -> Option<String> {
        let at = stream.filters().iter().position(|it| *it == name)?;
        shown.facets[at].as_deref().map(str::to_owned)
    }

    #[test]
    fn every_filter_has_its_facet() {
        let event =
            br#"{"type":"like","userId":"u","objectType":"post","objectId":"1","source":"s"}"#;
        let shown = Stream::Events.show(0, &record(event, &[])).unwrap();
        let values = ["like", "u", "post", "1", "s"];
        for (name, value) in Stream::Events.filters().iter().zip(values) {
            assert_eq!(facet(&shown, Stream::Events, name).as_deref(), Some(value), "{name}");
        }
        let alert = br#"{"data":{"rule":"spike","severity":"info","userId":"u","objectType":"post","objectId":"1"}}"#;
        let shown = Stream::Notifications.show(0, &record(alert, &[])).unwrap();
        let values = ["spike", "info", "u", "post", "1"];
        for (name, value) in Stream::Notifications.filters().iter().zip(values) {
            assert_eq!(
                facet(&shown, Stream::Notifications, name).as_deref(),
                Some(value),
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_shown_is_one_line_without_its_last_brace() {
        let event = b"{\"type\":\"like\",\r\n\"properties\":{\"a\":\"\\n\"}}\n";
        let shown = Stream::Events.show(0, &record(event, &[])).unwrap();
        assert_eq!(shown.open_json, br#"{"type":"like",  "properties":{"a":"\n"}"#);
    }

    #[test]
    fn a_dead_letter_tells_its_reason_and_its_bytes() {
        let headers = [
            ("error_code", "invalid_json"),
            ("error_detail", "why"),
            ("origin_topic", "user-actions"),
            ("origin_partition", "2"),
            ("origin_offset", "7"),
        ];
        for (value, told) in [
            (&b"\"\n"[..], serde_json::json!("\"\n")),
            (b"\xff", serde_json::json!({"base64": "/w=="})),
        ] {
            let mut shown = Stream::Rejected.show(0, &record(value, &headers)).unwrap();
            assert_eq!(facet(&shown, Stream::Rejected, "code").as_deref(), Some("invalid_json"));
            shown.open_json.push(b'}');
            let json: serde_json::Value = serde_json::from_slice(&shown.open_json).unwrap();
            assert_eq!(json["origin"], "user-actions/2/7");
            assert_eq!((&json["detail"], &json["value"]), (&serde_json::json!("why"), &told));
        }
    }

    #[test]
    fn what_keeps_to_no_schema_is_not_shown() {
        for value in [&b"[]"[..], b"no json", b"7", b""] {
            assert_eq!(Stream::Events.show(0, &record(value, &[])), None);
            assert_eq!(Stream::Notifications.show(0, &record(value, &[])), None);
        }
    }
}
