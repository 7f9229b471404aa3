//! Reads what was judged in a range of offsets back from Postgres.

use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use common::event::{Event, EventKey};
use common::kafka::Headers;
use common::postgres;
use deadpool_postgres::{Object, Transaction};
use futures_util::TryStreamExt;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::{FollowError, Share};
use crate::batch::{Candidate, DeadLetter, Deed, Judged, Source};

/// A range of offsets that is judged, as a snapshot of Postgres has it.
pub struct Stored {
    pub source: Arc<Source>,
    pub range: Range<i64>,
    /// The snapshot's: the rows are as it knows them.
    pub generation: i64,
}

impl Stored {
    /// The positions of its first offset, and of the one after its last.
    fn positions(&self) -> [i64; 2] {
        [self.source.src(self.range.start), self.source.src(self.range.end)]
    }
}

/// What a follower needs of a range. Rows, dead letters and the ledger are read in one snapshot: the
/// range ends at the ledger at the latest.
pub(super) async fn read<S: Share>(
    mut client: Object,
    source: &Arc<Source>,
    from: i64,
    to: i64,
) -> Result<S, FollowError> {
    let snapshot = postgres::snapshot(&mut client).await?;
    // Without statistics, as on a young leaf, the planner reads the whole day in parallel (seen). What it must
    // not do it calls so expensive that it would compile the query first, for a quarter of a second (seen).
    snapshot.batch_execute("set local enable_seqscan = off; set local jit = off").await?;
    let ledger = snapshot.query_one(include_str!("read_ledger.sql"), &[&source.number]).await?;
    let (ledger, generation): (i64, i64) = (ledger.get(0), ledger.get(1));
    let to = to.min(ledger);
    if to <= from {
        return Err(FollowError::Moved);
    }
    let stored = Stored { source: source.clone(), range: from..to, generation };
    let share = S::read(&snapshot, &stored).await?;
    snapshot.commit().await?;
    Ok(share)
}

/// Whole events and dead letters: of the range, or of its first part when that is as much as one step may hold.
pub async fn judged(on: &Transaction<'_>, of: &Stored) -> Result<Judged, tokio_postgres::Error> {
    let range = of.range.clone();
    let events = include_str!("read_events.sql");
    let measure = |it: &Candidate| (it.offset, it.size());
    let (mut stored, end) = rows(on, events, of, range.end, candidate, measure).await?;
    let letters = include_str!("read_dead_letters.sql");
    let measure = |it: &DeadLetter| (it.offset, it.size());
    let (dead, end) = rows(on, letters, of, end, dead_letter, measure).await?;
    stored.retain(|it| it.offset < end);
    Ok(Judged {
        source: of.source.clone(),
        from: range.start,
        to: end,
        generation: of.generation,
        stored,
        dead,
    })
}

/// What one step may hold: within the time that a Kafka transaction has, with much to spare.
const BYTES_MAX: usize = 16 << 20;

/// Rows asked for at once; the largest are of megabytes.
const ROWS: i32 = 100;

/// The rows before `end` in offset order, and where they end: at `end`, or where they are as much as a step holds.
async fn rows<T>(
    on: &Transaction<'_>,
    sql: &str,
    of: &Stored,
    end: i64,
    read: impl Fn(&Row) -> T,
    offset_and_size: impl Fn(&T) -> (i64, usize),
) -> Result<(Vec<T>, i64), tokio_postgres::Error> {
    let statement = on.prepare_cached(sql).await?;
    let (from, to) = (of.source.src(of.range.start), of.source.src(end));
    let portal = on.bind(&statement, &[&from, &to]).await?;
    let (mut all, mut bytes) = (Vec::new(), 0);
    loop {
        let page = on.query_portal(&portal, ROWS).await?;
        for row in &page {
            let row = read(row);
            let (offset, size) = offset_and_size(&row);
            bytes += size;
            if bytes > BYTES_MAX && !all.is_empty() {
                return Ok((all, offset));
            }
            all.push(row);
        }
        if page.len() < ROWS as usize {
            return Ok((all, end));
        }
    }
}

/// Who did what to what and when, event by event: a tenth of what whole events take.
pub async fn deeds(
    on: &Transaction<'_>,
    of: &Stored,
    mut each: impl FnMut(&Deed<'_>) + Send,
) -> Result<(), tokio_postgres::Error> {
    let statement = on.prepare_cached(include_str!("read_deeds.sql")).await?;
    let mut rows = pin!(on.query_raw(&statement, of.positions()).await?);
    while let Some(row) = rows.try_next().await? {
        let object_type: Option<&str> = row.get("object_type");
        each(&Deed {
            offset: Source::offset_of(row.get("src")),
            event_type: row.get("event_type"),
            event_source: row.get("source"),
            user_id: row.get("user_id"),
            object: object_type.zip(row.get("object_id")),
            occurred_at: row.get("occurred_at"),
        });
    }
    Ok(())
}

fn candidate(row: &Row) -> Candidate {
    Candidate {
        offset: Source::offset_of(row.get("src")),
        key: EventKey::from(row.get::<_, Uuid>("event_key")),
        received_at: row.get("received_at"),
        event: Event::of_row(row),
        trace: None,
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
        value: row.get::<_, Option<Vec<u8>>>("record_value").map(Bytes::from),
        headers: Headers(headers.into_iter().map(|(name, it)| (name, it.map(decode))).collect()),
        code: row.get("error_code"),
        detail: row.get("error_detail"),
        pointer: row.get("error_pointer"),
    }
}
