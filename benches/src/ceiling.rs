//! The COPY ceiling: the unique rows of a drain, already encoded in memory, by two connections in
//! transactions of 5,000 into one unpartitioned table of the same columns with a primary key on the
//! 16-byte key. Given as input events a second: what a drain could do if judging cost nothing.
//!
//! A host that others share is not as quick during these seconds as during the drain's: what a drain
//! is compared with is measured before it and after it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::events;
use crate::installation::Installation;
use crate::postgres::Connection;
use crate::report::{Row, grouped};
use crate::usage::{Meter, Used};

const CONNECTIONS: usize = 2;
const TRANSACTION_ROWS: usize = 5_000;

/// `PGCOPY`, flags, no header extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: &[u8] = &(-1i16).to_be_bytes();

/// One measurement.
pub struct Ceiling {
    /// Input events a second.
    pub rate: f64,
    usage: Vec<(&'static str, Used)>,
}

/// What a drain between the two is compared with: as many events each, so their times are added.
pub fn mean(before: &Ceiling, after: &Ceiling) -> f64 {
    2.0 / (1.0 / before.rate + 1.0 / after.rate)
}

pub fn row(before: &Ceiling, after: Ceiling) -> Row {
    Row {
        what: "COPY ceiling".to_owned(),
        rate: format!("{} events/s", grouped(mean(before, &after))),
        against: format!(
            "{} before the drain, {} after it",
            grouped(before.rate),
            grouped(after.rate)
        ),
        usage: after.usage,
        ..Row::default()
    }
}

/// Copies the rows that an installation has stored once more.
pub async fn measure(installation: &Installation, numbers: &[u32]) -> anyhow::Result<Ceiling> {
    let postgres = installation.postgres().await?;
    let pieces = Arc::new(encoded(&postgres).await?);
    let table = "create table ceiling (like events, primary key (event_key))";
    postgres.client.batch_execute(table).await?;
    postgres.checkpoint().await;
    let servers = installation.servers().into_iter().filter(|it| it.name == "Postgres");
    let meter = Meter::start(servers.collect())?;
    let next = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(installation.postgres().await?);
    }
    let began = Instant::now();
    for connection in connections {
        writers.spawn(write(connection, pieces.clone(), next.clone()));
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    let rate = numbers.len() as f64 / began.elapsed().as_secs_f64();
    let usage = meter.read();
    let rows = postgres.number("select count(*) from ceiling").await?;
    ensure!(rows == i64::from(events::distinct(numbers)), "{rows} rows were copied");
    Ok(Ceiling { rate, usage })
}

/// One transaction after another, until none is left.
async fn write(
    mut connection: Connection,
    pieces: Arc<Vec<Bytes>>,
    next: Arc<AtomicUsize>,
) -> anyhow::Result<()> {
    while let Some(rows) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
        let transaction = connection.client.transaction().await?;
        let copy = "copy ceiling from stdin (format binary)";
        let mut sink = pin!(transaction.copy_in::<_, Bytes>(copy).await?);
        sink.send(Bytes::from_static(HEADER)).await?;
        sink.send(rows.clone()).await?;
        sink.send(Bytes::from_static(TRAILER)).await?;
        sink.finish().await?;
        transaction.commit().await?;
    }
    Ok(())
}

/// The rows as Postgres itself encodes them, cut into transactions.
async fn encoded(postgres: &Connection) -> anyhow::Result<Vec<Bytes>> {
    let copy = "copy (select * from events) to stdout (format binary)";
    let mut stream = pin!(postgres.client.copy_out(copy).await?);
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece?);
    }
    cut(&Bytes::from(all))
}

fn cut(all: &Bytes) -> anyhow::Result<Vec<Bytes>> {
    ensure!(all.starts_with(HEADER), "not what COPY writes");
    let (mut pieces, mut start, mut at, mut rows) = (Vec::new(), HEADER.len(), HEADER.len(), 0);
    while let Some(end) = row_end(all, at)? {
        at = end;
        rows += 1;
        if rows % TRANSACTION_ROWS == 0 {
            pieces.push(all.slice(start..at));
            start = at;
        }
    }
    if start < at {
        pieces.push(all.slice(start..at));
    }
    Ok(pieces)
}

/// Where the row that begins here ends; none at the trailer.
fn row_end(all: &[u8], start: usize) -> anyhow::Result<Option<usize>> {
    let fields = i16::from_be_bytes(array(all, start)?);
    let mut at = start + 2;
    for _ in 0..fields {
        let length = i32::from_be_bytes(array(all, at)?);
        // A null has length -1 and no bytes.
        at += 4 + length.max(0) as usize;
    }
    Ok((fields >= 0).then_some(at))
}

fn array<const N: usize>(all: &[u8], at: usize) -> anyhow::Result<[u8; N]> {
    let bytes = all.get(at..at + N).context("COPY ended early")?;
    Ok(bytes.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_where_they_end() {
        let row: &[u8] = &[0, 2, 0, 0, 0, 1, b'x', 0xff, 0xff, 0xff, 0xff];
        let mut all = HEADER.to_vec();
        (0..TRANSACTION_ROWS + 1).for_each(|_| all.extend_from_slice(row));
        all.extend_from_slice(TRAILER);
        let pieces = cut(&Bytes::from(all)).unwrap();
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[0].len(), TRANSACTION_ROWS * row.len());
        assert_eq!(pieces[1], row);
    }
}
