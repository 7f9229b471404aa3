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

/// Bytes of one piece: a whole batch at once would hold its megabytes a second time.
const PIECE: usize = 128 << 10;

/// Rows of `event_keys`, in the order given.
pub fn keys(keys: &[EventKey], stored_on: Date) -> impl Iterator<Item = Bytes> {
    let day = days(stored_on);
    pieces(keys.iter(), move |out, key| {
        out.put_i16(2);
        field(out, &key.as_bytes());
        field(out, &day.to_be_bytes());
    })
}

/// Rows of `events` in the column order of copy_events.sql.
pub fn events(
    source: &Source,
    rows: &[&Candidate],
    stored_on: Date,
) -> impl Iterator<Item = Bytes> {
    let day = days(stored_on);
    pieces(rows.iter(), move |out, row| {
        let event = &row.event;
        let object = event.object.as_ref();
        out.put_i16(14);
        field(out, event.event_id.as_bytes());
        field(out, event.event_type.as_bytes());
        field(out, event.user_id.as_bytes());
        optional(out, object.map(|it| it.object_type.as_str()));
        optional(out, object.map(|it| it.id.as_str()));
        timestamp(out, event.occurred_at);
        timestamp(out, row.received_at);
        field(out, event.source.as_bytes());
        optional(out, event.session_id.as_deref());
        jsonb(out, &event.properties);
        jsonb(out, &event.context);
        field(out, &row.key.as_bytes());
        field(out, &source.src(row.offset).to_be_bytes());
        field(out, &day.to_be_bytes());
    })
}

/// Header, rows and trailer in pieces.
fn pieces<T>(
    mut rows: impl Iterator<Item = T>,
    mut put: impl FnMut(&mut BytesMut, T),
) -> impl Iterator<Item = Bytes> {
    let mut header = Some(HEADER);
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let mut out = BytesMut::with_capacity(PIECE + (8 << 10));
        out.put_slice(header.take().unwrap_or_default());
        while out.len() < PIECE {
            match rows.next() {
                Some(row) => put(&mut out, row),
                None => {
                    out.put_i16(TRAILER);
                    ended = true;
                    break;
                }
            }
        }
        Some(out.freeze())
    })
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
        let bytes = keys(&[EventKey(1)], date(2000, 1, 1)).next().unwrap();
        assert_eq!(&bytes[..HEADER.len()], HEADER);
        assert_eq!(bytes.len(), HEADER.len() + 2 + 4 + 16 + 4 + 4 + 2);
        assert_eq!(&bytes[bytes.len() - 2..], &[0xff, 0xff]);
    }
}
