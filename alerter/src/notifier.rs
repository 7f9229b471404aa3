//! What is said, and how: a finding of a rule becomes a notification.

use common::event::ObjectRef;
use common::notification::{Alert, Cause, Notification, Rule, Severity, Status, Subject, Window};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::detector::Anomaly;
use crate::windows::Timing;

/// Whom and what a finding concerns.
#[derive(Debug, Clone)]
pub struct About<'a> {
    pub object: ObjectRef,
    pub event_type: &'a str,
    pub owner: Option<&'a str>,
}

/// An object reached a milestone, by the action of this time.
pub fn milestone(about: &About<'_>, milestone: u64, at_ms: i64) -> Notification {
    let text = format!("{} reached {}", name(&about.object), amount(milestone, about.event_type));
    let alert = Alert {
        rule: Rule::Milestone,
        severity: Severity::Info,
        status: Status::Info,
        observed: milestone as f64,
        expected: milestone as f64,
        text,
        ..about.alert()
    };
    about.notification(Cause::Milestone(milestone), at_ms, alert)
}

/// An object got far more in one window than its past explains.
pub fn spike(
    about: &About<'_>,
    timing: &Timing,
    window: i64,
    observed: u32,
    anomaly: Anomaly,
) -> Notification {
    let (start_ms, end_ms) = (timing.start_ms(window), timing.start_ms(window + 1));
    let span = Window { start: timestamp(start_ms), end: timestamp(end_ms) };
    let text = format!(
        "{} got {} in {}; about {:.0} were expected",
        name(&about.object),
        amount(u64::from(observed), about.event_type),
        duration(timing.window_ms / 1_000),
        anomaly.expected
    );
    let alert = Alert {
        rule: Rule::Spike,
        severity: Severity::Warning,
        status: Status::Firing,
        window: Some(span),
        observed: f64::from(observed),
        expected: rounded(anomaly.expected),
        score: Some(rounded(anomaly.score)),
        text,
        ..about.alert()
    };
    about.notification(Cause::Window(span), end_ms, alert)
}

impl About<'_> {
    /// What all alerts about an object have in common.
    fn alert(&self) -> Alert {
        let evidence = Map::from_iter([("type".to_owned(), Value::from(self.event_type))]);
        Alert {
            rule: Rule::Milestone,
            severity: Severity::Info,
            status: Status::Info,
            key: self.key(),
            object: Some(self.object.clone()),
            user_id: self.owner.map(str::to_owned),
            window: None,
            observed: 0.0,
            expected: 0.0,
            score: None,
            count: None,
            users: None,
            text: String::new(),
            evidence: Some(evidence),
        }
    }

    fn notification(&self, cause: Cause, at_ms: i64, alert: Alert) -> Notification {
        let subject = Subject::Object(self.object.clone());
        Notification::about(&subject, cause, timestamp(at_ms), alert)
    }

    /// `post/123/like`: what the rule watched. A slash in type or action is escaped, so that the
    /// first and the last segment are always those two: no two subjects share an id.
    fn key(&self) -> String {
        let segment = |text: &str| text.replace('%', "%25").replace('/', "%2F");
        let ObjectRef { object_type, id } = &self.object;
        format!("{}/{id}/{}", segment(object_type), segment(self.event_type))
    }
}

/// `Post 123`.
fn name(object: &ObjectRef) -> String {
    let mut letters = object.object_type.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{} {}", letters.as_str(), object.id)
}

/// `1 like`, `100 likes`; `100 × sign-up` where the plural of a word cannot be known.
fn amount(count: u64, event_type: &str) -> String {
    const NOUNS: [&str; 22] = [
        "bookmark",
        "click",
        "comment",
        "download",
        "favorite",
        "follow",
        "impression",
        "like",
        "mention",
        "order",
        "pin",
        "play",
        "purchase",
        "rating",
        "reaction",
        "repost",
        "save",
        "share",
        "upvote",
        "view",
        "visit",
        "vote",
    ];
    match (event_type, count) {
        (noun, 1) if NOUNS.contains(&noun) => format!("1 {noun}"),
        (noun, count) if NOUNS.contains(&noun) => format!("{count} {noun}s"),
        ("reply", 1) => "1 reply".to_owned(),
        ("reply", count) => format!("{count} replies"),
        (other, count) => format!("{count} × {other}"),
    }
}

fn duration(seconds: i64) -> String {
    match seconds {
        60 => "one minute".to_owned(),
        seconds if seconds % 60 == 0 => format!("{} minutes", seconds / 60),
        1 => "one second".to_owned(),
        seconds => format!("{seconds} seconds"),
    }
}

/// Three digits behind the point: more would be noise in what people read.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

fn timestamp(at_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(at_ms).expect("an action's time was a timestamp")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about<'a>(object_type: &str, id: &str, event_type: &'a str) -> About<'a> {
        let object = ObjectRef { object_type: object_type.into(), id: id.into() };
        About { object, event_type, owner: Some("ann") }
    }

    #[test]
    fn a_milestone_reads_like_a_sentence() {
        let text =
            |event_type, count| milestone(&about("post", "123", event_type), count, 0).data.text;
        assert_eq!(text("like", 100), "Post 123 reached 100 likes");
        assert_eq!(text("like", 1), "Post 123 reached 1 like");
        assert_eq!(text("reply", 10), "Post 123 reached 10 replies");
        assert_eq!(text("sign-up", 10), "Post 123 reached 10 × sign-up");
        assert_eq!(milestone(&about("", "1", "like"), 10, 0).data.text, " 1 reached 10 likes");
    }

    #[test]
    fn a_milestone_has_the_members_of_the_contract() {
        let told =
            serde_json::to_value(milestone(&about("post", "123", "like"), 100, 1_500)).unwrap();
        assert_eq!(told["type"], "tallyman.alert.milestone");
        assert_eq!(told["subject"], "post/123");
        assert_eq!(told["time"], "1970-01-01T00:00:01.500Z");
        assert_eq!(told["data"]["observed"], 100);
        assert_eq!(told["data"]["expected"], 100);
        assert_eq!(told["data"]["userId"], "ann");
        assert_eq!(told["data"]["status"], "info");
        assert_eq!(told["data"].get("window"), None);
    }

    #[test]
    fn every_object_type_and_milestone_has_its_own_id() {
        let told = [
            milestone(&about("post", "1", "like"), 10, 0),
            milestone(&about("post", "1", "view"), 10, 0),
            milestone(&about("post", "1", "like"), 100, 0),
            milestone(&about("post", "1/x", "like"), 10, 0),
            milestone(&about("post/1", "x", "like"), 10, 0),
            milestone(&about("post", "1", "x/like"), 10, 0),
            milestone(&about("a", "b", "c"), 10, 0),
            milestone(&about("a", "b/c", "c"), 10, 0),
        ];
        let ids: std::collections::HashSet<_> = told.iter().map(|it| &it.id).collect();
        assert_eq!(ids.len(), told.len());
        // What differs between two runs does not enter the id.
        assert_eq!(milestone(&about("post", "1", "like"), 10, 99).id, told[0].id);
    }

    #[test]
    fn a_spike_names_its_window_and_what_was_expected() {
        let timing = Timing { window_ms: 60_000, lateness_ms: 0, quiet_ms: 0 };
        let anomaly = Anomaly { expected: 1.95, score: 43.21 };
        let told =
            serde_json::to_value(spike(&about("post", "7", "like"), &timing, 2, 60, anomaly))
                .unwrap();
        assert_eq!(told["data"]["window"]["start"], "1970-01-01T00:02:00.000Z");
        assert_eq!(told["data"]["window"]["end"], "1970-01-01T00:03:00.000Z");
        assert_eq!(told["data"]["severity"], "warning");
        assert_eq!(told["data"]["status"], "firing");
        assert_eq!(
            told["data"]["text"],
            "Post 7 got 60 likes in one minute; about 2 were expected"
        );
    }
}
