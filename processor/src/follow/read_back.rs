//! Reads what was judged in a range of offsets back from Postgres.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use common::event::{Event, EventKey, ObjectRef};
use common::kafka::Headers;
use deadpool_postgres::Object;
use tokio_postgres::types::Json;
use tokio_postgres::{IsolationLevel, Row};
use uuid::Uuid;

use super::FollowError;
use crate::batch::{Candidate, DeadLetter, Judged, Source};

/// Rows, dead letters and the ledger in one snapshot: the range ends at the ledger at the latest.
pub async fn read(
    mut client: Object,
    source: &Arc<Source>,
    from: i64,
    to: i64,
) -> Result<Judged, FollowError> {
    let snapshot = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let ledger = snapshot.query_one(include_str!("read_ledger.sql"), &[&source.number]).await?;
    let (ledger, generation): (i64, i64) = (ledger.get(0), ledger.get(1));
    let to = to.min(ledger);
    if to <= from {
        return Err(FollowError::Moved);
    }
    let range: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
        [&source.src(from), &source.src(to)];
    let statement = snapshot.prepare_cached(include_str!("read_events.sql")).await?;
    let stored = snapshot.query(&statement, &range).await?.iter().map(candidate).collect();
    let statement = snapshot.prepare_cached(include_str!("read_dead_letters.sql")).await?;
    let dead = snapshot.query(&statement, &range).await?.iter().map(dead_letter).collect();
    snapshot.commit().await?;
    Ok(Judged { source: source.clone(), from, to, generation, stored, dead, permit: None })
}

fn candidate(row: &Row) -> Candidate {
    let object_type: Option<String> = row.get("object_type");
    let object_id: Option<String> = row.get("object_id");
    let event = Event {
        event_id: row.get("event_id"),
        event_type: row.get("event_type"),
        user_id: row.get("user_id"),
        object: object_type.zip(object_id).map(|(object_type, id)| ObjectRef { object_type, id }),
        occurred_at: row.get("occurred_at"),
        source: row.get("source"),
        session_id: row.get("session_id"),
        properties: row.get::<_, String>("properties").into_boxed_str(),
        context: row.get::<_, String>("context").into_boxed_str(),
    };
    Candidate {
        offset: Source::offset_of(row.get("src")),
        key: EventKey::from(row.get::<_, Uuid>("event_key")),
        received_at: row.get("received_at"),
        event,
    }
}

fn dead_letter(row: &Row) -> DeadLetter {
    let Json(headers): Json<Vec<(String, Option<String>)>> = row.get("record_headers");
    let decode = |text: String| BASE64.decode(text).unwrap_or_default();
    DeadLetter {
        id: Some(row.get("id")),
        offset: row.get("record_offset"),
        received_at: row.get("received_at"),
        key: row.get("record_key"),
        value: row.get("record_value"),
        headers: Headers(headers.into_iter().map(|(name, it)| (name, it.map(decode))).collect()),
        code: row.get("error_code"),
        detail: row.get("error_detail"),
        pointer: row.get("error_pointer"),
    }
}
