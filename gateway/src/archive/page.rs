//! One page of events, newest first.

use common::event::Event;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio_postgres::types::ToSql;
use tokio_postgres::{NoTls, Row};

use super::{Archive, Cursor, Wanted};
use crate::http::ApiError;
use crate::stats::{Filter, LIMIT_DEFAULT, StatsError};

/// How far back is looked at first, then, and then: a page mostly lies in what happened last, which
/// the index on the time finds without reading the rest.
const LOOK_BACK: [SignedDuration; 3] =
    [SignedDuration::from_mins(15), SignedDuration::from_hours(6), SignedDuration::from_hours(168)];

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    events: Vec<Box<RawValue>>,
    /// Where the next page begins; the last has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    as_of: Timestamp,
}

impl Archive {
    /// Cancelled in Postgres too when it takes too long.
    pub async fn page(&self, wanted: &Wanted) -> Result<Page, ApiError> {
        let mut cancel = None;
        let read = async {
            let mut client = self.pool.get().await.map_err(StatsError::from)?;
            cancel = Some(client.cancel_token());
            let transaction = client.transaction().await?;
            let ms = self.patience.as_millis().max(1);
            transaction.batch_execute(&format!("set local statement_timeout = {ms}")).await?;
            let as_of = Timestamp::now();
            let rows = rows(&transaction, wanted).await?;
            transaction.commit().await?;
            Ok::<_, StatsError>((rows, as_of))
        };
        let Ok(read) = tokio::time::timeout(self.patience, read).await else {
            if let Some(cancel) = cancel {
                // Else the server ends it at the same time by itself.
                let _unreachable = cancel.cancel_query(NoTls).await;
            }
            return Err(StatsError::TooSlow.into());
        };
        let ((rows, has_more), as_of) = read?;
        let last = rows.last().filter(|_| has_more);
        let next = last.map(|row| {
            Cursor { occurred_at: row.get("occurred_at"), src: row.get("src") }.encode()
        });
        Ok(Page { events: rows.iter().map(json).collect(), next, as_of })
    }
}

/// A page ends early with the event that reaches this: a thousand of the largest ones are a gigabyte.
const BYTES_MAX: usize = 16 << 20;
const ROWS_AT_ONCE: i32 = 64;

/// What a page takes, and whether there may be more.
async fn rows(
    on: &deadpool_postgres::Transaction<'_>,
    wanted: &Wanted,
) -> Result<(Vec<Row>, bool), tokio_postgres::Error> {
    let limit = wanted.limit.unwrap_or(LIMIT_DEFAULT);
    let (mut found, mut bytes) = (Vec::new(), 0);
    let mut behind = wanted.cursor.unwrap_or(Cursor { occurred_at: wanted.to, src: i64::MIN });
    if behind.occurred_at > wanted.to {
        behind = Cursor { occurred_at: wanted.to, src: i64::MIN };
    }
    // What lies ahead of now is little.
    let newest = behind.occurred_at.min(Timestamp::now());
    let Filter { event_type, user_id, object_type, object_id, source } = &wanted.filter;
    let statement = on.prepare_cached(include_str!("read_page.sql")).await?;
    let starts = LOOK_BACK.iter().map(|it| newest.saturating_sub(*it).unwrap_or(wanted.from));
    for from in starts.chain([wanted.from]) {
        let from = from.max(wanted.from);
        // One more, to know whether there are more.
        let left = (limit + 1 - found.len()) as i64;
        let parameters: [&(dyn ToSql + Sync); 9] = [
            &from,
            &behind.occurred_at,
            &behind.src,
            event_type,
            user_id,
            object_type,
            object_id,
            source,
            &left,
        ];
        let portal = on.bind(&statement, &parameters).await?;
        loop {
            let rows = on.query_portal(&portal, ROWS_AT_ONCE).await?;
            let is_last = rows.len() < ROWS_AT_ONCE as usize;
            for row in rows {
                if found.len() == limit || bytes > BYTES_MAX {
                    return Ok((found, true));
                }
                bytes += row.raw_size_bytes();
                found.push(row);
            }
            if is_last {
                break;
            }
        }
        if from == wanted.from {
            break;
        }
        behind = Cursor { occurred_at: from, src: i64::MIN };
    }
    Ok((found, false))
}

fn json(row: &Row) -> Box<RawValue> {
    let received_at: Timestamp = row.get("received_at");
    let mut out = Vec::new();
    Event::of_row(row).write_json(Some(received_at), &mut out);
    let text = String::from_utf8(out).expect("an event is text");
    RawValue::from_string(text).expect("an event is JSON")
}
