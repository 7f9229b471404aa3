//! Rows in PostgreSQL's binary COPY format.

use bytes::{BufMut, Bytes, BytesMut};
use common::event::EventKey;
use jiff::Timestamp;
use jiff::civil::{Date, date};

use crate::batch::{Candidate, Source};

/// `PGCOPY`, flags, no header extension: see "Binary Format" of the COPY command's documentation.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: i16 = -1;
/// Postgres counts days and microseconds from 2000-01-01.
const POSTGRES_EPOCH: Date = date(2000, 1, 1);
const POSTGRES_EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;
const JSONB_VERSION: u8 = 1;

/// Rows of `event_keys`, in the order given.
pub fn keys(keys: &[EventKey], stored_on: Date) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER.len() + 2 + keys.len() * 30);
    out.put_slice(HEADER);
    let day = days(stored_on);
    for key in keys {
        out.put_i16(2);
        field(&mut out, &key.as_bytes());
        field(&mut out, &day.to_be_bytes());
    }
    out.put_i16(TRAILER);
    out.freeze()
}

/// Rows of `events` in the column order of copy_events.sql; none when there is nothing to store.
pub fn events<'a>(
    source: &Source,
    rows: impl Iterator<Item = &'a Candidate>,
    stored_on: Date,
) -> Option<Bytes> {
    let mut rows = rows.peekable();
    rows.peek()?;
    let mut out = BytesMut::with_capacity(64 << 10);
    out.put_slice(HEADER);
    let day = days(stored_on);
    for row in rows {
        let event = &row.event;
        let object = event.object.as_ref();
        out.put_i16(14);
        field(&mut out, event.event_id.as_bytes());
        field(&mut out, event.event_type.as_bytes());
        field(&mut out, event.user_id.as_bytes());
        optional(&mut out, object.map(|it| it.object_type.as_str()));
        optional(&mut out, object.map(|it| it.id.as_str()));
        timestamp(&mut out, event.occurred_at);
        timestamp(&mut out, row.received_at);
        field(&mut out, event.source.as_bytes());
        optional(&mut out, event.session_id.as_deref());
        jsonb(&mut out, &event.properties);
        jsonb(&mut out, &event.context);
        field(&mut out, &row.key.as_bytes());
        field(&mut out, &source.src(row.offset).to_be_bytes());
        field(&mut out, &day.to_be_bytes());
    }
    out.put_i16(TRAILER);
    Some(out.freeze())
}

fn field(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(i32::try_from(bytes.len()).expect("an event is far smaller than 2 GiB"));
    out.put_slice(bytes);
}

fn optional(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => field(out, text.as_bytes()),
        None => out.put_i32(-1),
    }
}

fn timestamp(out: &mut BytesMut, at: Timestamp) {
    field(out, &(at.as_microsecond() - POSTGRES_EPOCH_MICROSECONDS).to_be_bytes());
}

fn jsonb(out: &mut BytesMut, text: &str) {
    out.put_i32(i32::try_from(text.len() + 1).expect("an event is far smaller than 2 GiB"));
    out.put_u8(JSONB_VERSION);
    out.put_slice(text.as_bytes());
}

fn days(day: Date) -> i32 {
    (day - POSTGRES_EPOCH).get_days()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_from_the_year_2000() {
        assert_eq!(days(date(2000, 1, 2)), 1);
        assert_eq!(days(date(2026, 11, 21)), 9_821);
    }

    #[test]
    fn a_key_row_is_two_fields_between_header_and_trailer() {
        let bytes = keys(&[EventKey(1)], date(2000, 1, 1));
        assert_eq!(&bytes[..HEADER.len()], HEADER);
        assert_eq!(bytes.len(), HEADER.len() + 2 + 4 + 16 + 4 + 4 + 2);
        assert_eq!(&bytes[bytes.len() - 2..], &[0xff, 0xff]);
    }
}
