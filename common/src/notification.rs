//! What the alerter tells: a CloudEvent in structured JSON, the same id for the same cause.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_128;

use crate::event::ObjectRef;

/// Members that do not apply are absent, never null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    pub specversion: SpecVersion,
    pub id: String,
    pub source: String,
    #[serde(rename = "type")]
    pub event_type: String,
    pub subject: String,
    #[serde(with = "rfc3339_ms")]
    pub time: Timestamp,
    pub data: Alert,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpecVersion {
    #[serde(rename = "1.0")]
    V1,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    pub rule: Rule,
    pub severity: Severity,
    pub status: Status,
    /// What the rule watched, and what `alerter explain --key` takes: the subject, and where a rule
    /// looks at one type of action the type behind it (`post/123/like`).
    pub key: String,
    #[serde(flatten, with = "object", skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectRef>,
    /// The object's owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    #[serde(serialize_with = "number")]
    pub observed: f64,
    #[serde(serialize_with = "number")]
    pub expected: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<u64>,
    /// For people: "Post 123 reached 100 likes".
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    Milestone,
    Spike,
    Drop,
    Threshold,
    NoData,
    NewTop,
    Velocity,
    Ratio,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Firing,
    Resolved,
    Info,
}

/// From `start` inclusive to `end` exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    #[serde(with = "rfc3339_ms")]
    pub start: Timestamp,
    #[serde(with = "rfc3339_ms")]
    pub end: Timestamp,
}

/// What a rule watches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    Object(ObjectRef),
    Type(String),
    Source(String),
    Total,
}

/// What sets two notifications of one rule, subject and status apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    Window(Window),
    Milestone(u64),
}

impl Notification {
    pub const SOURCE: &'static str = "/tallyman/alerter";

    /// The subject is the alert's `key`, the id follows from key and cause.
    pub fn new(cause: Cause, time: Timestamp, alert: Alert) -> Self {
        Self {
            specversion: SpecVersion::V1,
            id: id(alert.rule, &alert.key, alert.status, cause),
            source: Self::SOURCE.to_owned(),
            event_type: format!("tallyman.alert.{}", alert.rule.name()),
            subject: alert.key.clone(),
            time,
            data: alert,
        }
    }

    /// The same where the key says more than the subject: likes and views of one subject reach
    /// the same milestone, each under an id of its own.
    pub fn about(subject: &Subject, cause: Cause, time: Timestamp, alert: Alert) -> Self {
        Self { subject: subject.to_string(), ..Self::new(cause, time, alert) }
    }
}

/// The same cause never gets two ids, whichever run finds it: a UUID of version 8 over its parts.
pub fn id(rule: Rule, key: &str, status: Status, cause: Cause) -> String {
    let cause = match cause {
        Cause::Window(window) => {
            let (start, end) = (window.start.as_millisecond(), window.end.as_millisecond());
            format!("window\u{1f}{start}\u{1f}{end}")
        }
        Cause::Milestone(count) => format!("milestone\u{1f}{count}"),
    };
    // The key comes last: it alone may hold the separator.
    let parts = format!("{}\u{1f}{}\u{1f}{cause}\u{1f}{key}", rule.name(), status.name());
    let bytes = xxh3_128(parts.as_bytes()).to_be_bytes();
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

impl Rule {
    pub const ALL: [Self; 8] = [
        Self::Milestone,
        Self::Spike,
        Self::Drop,
        Self::Threshold,
        Self::NoData,
        Self::NewTop,
        Self::Velocity,
        Self::Ratio,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Milestone => "milestone",
            Self::Spike => "spike",
            Self::Drop => "drop",
            Self::Threshold => "threshold",
            Self::NoData => "no_data",
            Self::NewTop => "new_top",
            Self::Velocity => "velocity",
            Self::Ratio => "ratio",
        }
    }
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
            Self::Info => "info",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(object) => write!(formatter, "{}/{}", object.object_type, object.id),
            Self::Type(event_type) => write!(formatter, "type/{event_type}"),
            Self::Source(source) => write!(formatter, "source/{source}"),
            Self::Total => formatter.write_str("total"),
        }
    }
}

/// Counts are written as integers: 100, not 100.0.
fn number<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    const EXACT_MAX: f64 = (1_u64 << 53) as f64;
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        return serializer.serialize_i64(*number as i64);
    }
    serializer.serialize_f64(*number)
}

/// RFC 3339 in UTC with milliseconds, as every time that leaves us.
mod rfc3339_ms {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{at:.3}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Timestamp::deserialize(deserializer)
    }
}

/// `objectType` and `objectId` beside the other members: both or neither.
mod object {
    use compact_str::CompactString;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    use crate::event::ObjectRef;

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        object_type: Option<CompactString>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        object_id: Option<CompactString>,
    }

    pub fn serialize<S: Serializer>(
        object: &Option<ObjectRef>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let object = object.as_ref();
        let object_type = object.map(|object| object.object_type.clone());
        let object_id = object.map(|object| object.id.clone());
        Members { object_type, object_id }.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<ObjectRef>, D::Error> {
        let members = Members::deserialize(deserializer)?;
        match (members.object_type, members.object_id) {
            (Some(object_type), Some(id)) => Ok(Some(ObjectRef { object_type, id })),
            (None, None) => Ok(None),
            _ => Err(D::Error::custom("objectType and objectId go together")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milestone() -> Alert {
        Alert {
            rule: Rule::Milestone,
            severity: Severity::Info,
            status: Status::Info,
            key: "post/123".into(),
            object: Some(ObjectRef { object_type: "post".into(), id: "123".into() }),
            user_id: Some("author-7".into()),
            window: None,
            observed: 100.0,
            expected: 100.0,
            score: None,
            count: None,
            users: None,
            text: "Post 123 reached 100 likes".into(),
            evidence: None,
        }
    }

    #[test]
    fn what_does_not_apply_is_absent_and_counts_are_integers() {
        let time = "2026-11-21T10:00:00.5Z".parse().unwrap();
        let notification = Notification::new(Cause::Milestone(100), time, milestone());
        assert_eq!(
            serde_json::to_string(&notification).unwrap(),
            concat!(
                r#"{"specversion":"1.0","id":"52d735d4-0247-81bd-ac1f-b62ac5c74cf5","source":"/tallyman/alerter","#,
                r#""type":"tallyman.alert.milestone","subject":"post/123","#,
                r#""time":"2026-11-21T10:00:00.500Z","data":{"rule":"milestone","severity":"info","#,
                r#""status":"info","key":"post/123","objectType":"post","objectId":"123","#,
                r#""userId":"author-7","observed":100,"expected":100,"#,
                r#""text":"Post 123 reached 100 likes"}}"#
            )
        );
    }

    #[test]
    fn an_alert_without_an_object_has_neither_of_its_members() {
        let alert = Alert { object: None, observed: 2.5, ..milestone() };
        let json = serde_json::to_value(&alert).unwrap();
        assert_eq!(json.get("objectId"), None);
        assert_eq!(json["observed"], 2.5);
        assert_eq!(serde_json::from_value::<Alert>(json).unwrap(), alert);
    }

    #[test]
    fn half_an_object_is_refused() {
        for half in ["objectType", "objectId"] {
            let mut json = serde_json::to_value(milestone()).unwrap();
            json.as_object_mut().unwrap().remove(half);
            assert!(serde_json::from_value::<Alert>(json).is_err(), "without {half}");
        }
    }

    #[test]
    fn every_part_of_the_cause_changes_the_id() {
        let window = |start: i64, end: i64| {
            let at = |second| Timestamp::from_second(second).unwrap();
            Cause::Window(Window { start: at(start), end: at(end) })
        };
        let ids = std::collections::HashSet::from([
            id(Rule::Milestone, "post/1", Status::Info, Cause::Milestone(10)),
            id(Rule::Milestone, "post/1", Status::Info, Cause::Milestone(100)),
            id(Rule::Milestone, "post/2", Status::Info, Cause::Milestone(10)),
            id(Rule::Spike, "post/1", Status::Firing, window(0, 60)),
            id(Rule::Spike, "post/1", Status::Resolved, window(0, 60)),
            id(Rule::Drop, "post/1", Status::Firing, window(0, 60)),
            id(Rule::Spike, "post/1", Status::Firing, window(60, 120)),
            id(Rule::Spike, "post/1", Status::Firing, window(0, 120)),
        ]);
        assert_eq!(ids.len(), 8);
    }

    #[test]
    fn names_in_the_code_are_those_on_the_wire() {
        for rule in Rule::ALL {
            assert_eq!(serde_json::to_value(rule).unwrap(), rule.name());
        }
        for status in [Status::Firing, Status::Resolved, Status::Info] {
            assert_eq!(serde_json::to_value(status).unwrap(), status.name());
        }
    }
}
