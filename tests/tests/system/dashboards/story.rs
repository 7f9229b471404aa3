//! What happens before the panels are looked at: a history of a few days, told by hand, and then some traffic.

use anyhow::ensure;
use serde_json::{Value, json};
use tests::Installation;
use tests::send::{HttpSender, Raw};

/// The time range that is looked at: it begins and ends within a day.
pub const FROM: &str = "2026-03-02T06:00:00Z";
pub const TO: &str = "2026-03-05T12:00:00Z";

/// Over which rates are taken: longer than everything here lasts.
pub const WINDOW: &str = "600s";
pub const WINDOW_SECONDS: f64 = 600.0;

/// Events of the history, for the gateway and for the processor: 30 actions, five of them twice; one that is
/// rejected, and one that comes past the gateway and is no event.
pub const HISTORY: usize = 36;
/// Topics that are written to by then.
pub const TOPICS: usize = 5;

/// Of the traffic: actions, those sent again, records that are no event, events the gateway rejects.
pub const ACTIONS: usize = 300;
pub const REPEATED: usize = 120;
pub const UNREADABLE: usize = 30;
pub const REJECTED: usize = 60;
/// What comes while the judge waits.
pub const MORE: usize = 40;

/// User, post, minute (UTC).
const LIKES: [(&str, &str, &str); 12] = [
    ("u1", "123", "2026-03-01T09:00"),
    ("u1", "123", "2026-03-01T09:10"),
    // Before the range begins, but on its first day.
    ("u1", "123", "2026-03-02T03:00"),
    ("a1", "123", "2026-03-02T10:00"),
    ("a2", "123", "2026-03-02T10:05"),
    ("a3", "7", "2026-03-02T10:10"),
    ("a4", "7", "2026-03-02T11:00"),
    ("a1", "123", "2026-03-03T08:00"),
    ("a2", "123", "2026-03-03T08:30"),
    ("b1", "123", "2026-03-03T08:45"),
    ("b2", "7", "2026-03-03T09:00"),
    ("b2", "123", "2026-03-05T09:00"),
];

const VIEWS: [(&str, &str, &str); 7] = [
    // In the month before.
    ("u1", "9", "2026-02-28T10:00"),
    ("u1", "9", "2026-02-28T10:01"),
    ("u1", "9", "2026-02-28T10:02"),
    ("a1", "1", "2026-03-04T12:00"),
    ("a3", "1", "2026-03-04T12:10"),
    ("b1", "1", "2026-03-04T12:20"),
    // After the range has ended, but on its last day.
    ("c1", "1", "2026-03-05T13:00"),
];

/// The tenth like of post 123, and the one after it.
const MILESTONE: (&str, &str, &str) = ("a3", "123", "2026-03-05T10:00");
const AFTER_IT: (&str, &str, &str) = ("c1", "123", "2026-03-05T11:00");

pub async fn history(tallyman: &Installation, http: &HttpSender) -> anyhow::Result<()> {
    let mut events: Vec<_> = LIKES.iter().map(|it| action("like", *it)).collect();
    events.extend(VIEWS.iter().map(|it| action("view", *it)));
    // More types than a panel tells apart, and more objects than it shows.
    events.extend((1..=9).map(|n| {
        json!({"type": format!("type{n}"), "userId": "a1", "productId": n.to_string(),
               "occurredAt": format!("2026-03-02T10:2{n}:00Z")})
    }));
    accepted(http, &events).await?;
    // Likes overtake each other from partition to partition: the tenth must come tenth.
    tallyman.wait_drained().await?;
    tallyman.wait_alerted().await?;
    accepted(http, &[action("like", MILESTONE)]).await?;
    tallyman.wait_drained().await?;
    tallyman.wait_alerted().await?;
    accepted(http, &[action("like", AFTER_IT)]).await?;

    // Of each kind of verdict one at least, so that its series exists before the traffic comes.
    accepted(http, &events[..5]).await?;
    rejected(http, 1).await?;
    tallyman.produce(&unreadable(1)).await?;
    tallyman.wait_drained().await?;
    tallyman.wait_alerted().await
}

pub async fn traffic(tallyman: &Installation, http: &HttpSender) -> anyhow::Result<()> {
    let pings: Vec<_> = (0..ACTIONS).map(ping).collect();
    accepted(http, &pings).await?;
    tallyman.wait_drained().await?;
    accepted(http, &pings[..REPEATED]).await?;
    rejected(http, REJECTED).await?;
    tallyman.produce(&unreadable(UNREADABLE)).await?;
    tallyman.wait_drained().await
}

pub async fn more(http: &HttpSender) -> anyhow::Result<()> {
    accepted(http, &(ACTIONS..ACTIONS + MORE).map(ping).collect::<Vec<_>>()).await
}

fn action(kind: &str, (user, post, minute): (&str, &str, &str)) -> Value {
    json!({"type": kind, "userId": user, "postId": post, "occurredAt": format!("{minute}:00Z")})
}

/// Long before the history, and of no object: no panel of the history shows it.
fn ping(n: usize) -> Value {
    let at = format!("2025-06-01T00:{:02}:{:02}Z", n / 60, n % 60);
    json!({"type": "ping", "userId": format!("p{n}"), "occurredAt": at})
}

fn unreadable(count: usize) -> Vec<Raw> {
    let record =
        |n| Raw { partition: (n % 4) as i32, key: "k".to_owned(), value: Some(b"{}".to_vec()) };
    (0..count).map(record).collect()
}

async fn accepted(http: &HttpSender, events: &[Value]) -> anyhow::Result<()> {
    let answer = http.post("/api/events", Value::from(events.to_vec()).to_string()).await?;
    ensure!(answer.status == 202, "{} {}", answer.status, answer.body);
    Ok(())
}

async fn rejected(http: &HttpSender, count: usize) -> anyhow::Result<()> {
    let nobody = vec![json!({"type": "ping"}); count];
    let answer = http.post("/api/events", Value::from(nobody).to_string()).await?;
    ensure!(answer.status == 422, "{} {}", answer.status, answer.body);
    Ok(())
}
