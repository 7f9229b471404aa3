//! One event's way: accepted, stored, counted, in the statistics, relayed, notified of.

use common::event::EventKey;
use common::kafka::TopicPartition;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio_postgres::Row;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Pipeline;
use super::marks::Counted;
use crate::stats::StatsError;

/// Offsets have the lower bits of a row's position, the number of its source the others.
const OFFSET_BITS: u32 = 44;

/// What happened last is found by its time, without reading the rest of its day.
const RECENT: SignedDuration = SignedDuration::from_mins(15);

/// Windows are named by their start, so a notification may seem older than the action in it.
const WINDOW_MAX: SignedDuration = SignedDuration::from_mins(5);

/// How far one event has come.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    event_id: String,
    /// Missing while no event of this id is stored.
    event: Option<Traced>,
    /// `topic/partition/offset` of its record.
    origin: Option<String>,
    steps: Vec<Step>,
    /// About its object, from its time on; at most ten.
    notifications: Vec<Told>,
    #[schema(value_type = String, format = DateTime)]
    as_of: Timestamp,
}

/// What was done; `GET /api/events` has all of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Traced {
    r#type: String,
    user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_id: Option<String>,
    source: String,
    #[schema(value_type = String, format = DateTime)]
    occurred_at: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
struct Step {
    /// `accepted`, `stored`, `counted`, `rolledUp`, `relayed` or `notified`.
    name: &'static str,
    /// Missing when the one who knows cannot be asked.
    done: Option<bool>,
    /// When it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
    /// When it had been done already, where the very moment is not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    by: Option<Timestamp>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Told {
    id: String,
    rule: String,
    severity: String,
    status: String,
    text: String,
    #[schema(value_type = String, format = DateTime)]
    time: Timestamp,
}

/// A stored event and what Postgres knows of its way.
struct Found {
    event: Traced,
    received_at: Timestamp,
    source: i32,
    offset: i64,
    place: Row,
    notifications: Vec<Told>,
}

impl Step {
    fn at(name: &'static str, at: Option<Timestamp>) -> Self {
        Self { name, done: Some(at.is_some()), at, by: None }
    }

    fn by(name: &'static str, done: Option<bool>, by: Option<Timestamp>) -> Self {
        Self { name, done, at: None, by: by.filter(|_| done == Some(true)) }
    }
}

impl Pipeline {
    /// `source` is a CloudEvent's: only with it is its id unique.
    pub async fn trace(&self, event_id: &str, source: Option<&str>) -> Result<Trace, StatsError> {
        let as_of = Timestamp::now();
        let found = self.find(event_id, source).await?;
        let Some(found) = found else { return Ok(Trace::unknown(event_id, as_of)) };
        let partition = TopicPartition {
            topic: found.place.get("topic"),
            partition: found.place.get("partition"),
        };
        let start: i64 = found.place.get("start_offset");
        let (counted, relayed) = tokio::join!(self.counted(), self.relayed(&partition, start));
        let counted = match &counted {
            Counted::Live(marks) => Some(marks.get(&found.source).copied().unwrap_or(start)),
            Counted::Rebuilding | Counted::Away => None,
        };
        let is_past = |mark: i64| mark > found.offset;
        let steps = vec![
            Step::at("accepted", Some(found.received_at)),
            Step::by("stored", Some(true), found.place.get("updated_at")),
            Step::by("counted", counted.map(is_past), Some(as_of)),
            Step::by(
                "rolledUp",
                Some(is_past(found.place.get("rolled_up"))),
                found.place.get("moved_at"),
            ),
            Step::by("relayed", relayed.ok().map(is_past), Some(as_of)),
            Step::at("notified", found.notifications.first().map(|it| it.time)),
        ];
        Ok(Trace {
            event_id: event_id.to_owned(),
            event: Some(found.event),
            origin: Some(format!("{partition}/{}", found.offset)),
            steps,
            notifications: found.notifications,
            as_of,
        })
    }

    async fn find(
        &self,
        event_id: &str,
        source: Option<&str>,
    ) -> Result<Option<Found>, StatsError> {
        let mut client = self.pool.get().await?;
        let on = self.snapshot(&mut client).await?;
        let seed = self.seed.get_or_try_init(async || {
            let row = on.query_one("select hash_seed from install", &[]).await?;
            Ok::<_, StatsError>(row.get::<_, i64>(0).cast_unsigned())
        });
        let seed = *seed.await?;
        let key: Uuid = match source {
            Some(source) => EventKey::of_cloud_event(source, event_id, seed).into(),
            None => EventKey::of(event_id, seed).into(),
        };
        let statement = on.prepare_cached(include_str!("find_stored_on.sql")).await?;
        let Some(stored) = on.query_opt(&statement, &[&key]).await? else { return Ok(None) };
        let stored_on: jiff::civil::Date = stored.get(0);
        let statement = on.prepare_cached(include_str!("find_event.sql")).await?;
        let recent = Timestamp::now().saturating_sub(RECENT).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut row = None;
        for from in [recent, Timestamp::UNIX_EPOCH] {
            row = row.or(on.query_opt(&statement, &[&stored_on, &key, &from]).await?);
            if row.is_some() {
                break;
            }
        }
        let Some(row) = row else { return Ok(None) };
        let src: i64 = row.get("src");
        let event = traced(&row);
        let number = i32::try_from(src >> OFFSET_BITS).expect("sources have 20 bits");
        let statement = on.prepare_cached(include_str!("read_source.sql")).await?;
        let place = on.query_one(&statement, &[&number]).await?;
        let mut notifications = Vec::new();
        if let (Some(object_type), Some(object_id)) = (&event.object_type, &event.object_id) {
            let subject = format!("{object_type}/{object_id}");
            let from = event.occurred_at.saturating_sub(WINDOW_MAX).unwrap_or(Timestamp::MIN);
            let statement = on.prepare_cached(include_str!("find_notifications.sql")).await?;
            let rows = on.query(&statement, &[&subject, &from]).await?;
            notifications = rows.iter().map(told).collect();
        }
        on.commit().await?;
        Ok(Some(Found {
            event,
            received_at: row.get("received_at"),
            source: number,
            offset: src & ((1 << OFFSET_BITS) - 1),
            place,
            notifications,
        }))
    }
}

impl Trace {
    /// Not stored, or not yet: nobody knows more.
    fn unknown(event_id: &str, as_of: Timestamp) -> Self {
        let names = ["accepted", "stored", "counted", "rolledUp", "relayed", "notified"];
        Self {
            event_id: event_id.to_owned(),
            event: None,
            origin: None,
            steps: names.map(|name| Step::by(name, Some(false), None)).into(),
            notifications: Vec::new(),
            as_of,
        }
    }
}

fn traced(row: &Row) -> Traced {
    Traced {
        r#type: row.get("event_type"),
        user_id: row.get("user_id"),
        object_type: row.get("object_type"),
        object_id: row.get("object_id"),
        source: row.get("source"),
        occurred_at: row.get("occurred_at"),
    }
}

fn told(row: &Row) -> Told {
    Told {
        id: row.get("id"),
        rule: row.get("rule"),
        severity: row.get("severity"),
        status: row.get("status"),
        text: row.get("text"),
        time: row.get("occurred_at"),
    }
}
