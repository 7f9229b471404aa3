//! Rows to Postgres by COPY.

use std::pin::pin;

use bytes::Bytes;
use deadpool_postgres::Transaction;
use futures_util::SinkExt;

/// Sends what a `copy … from stdin` takes, in the pieces given.
pub async fn copy(
    on: &Transaction<'_>,
    statement: &str,
    pieces: impl Iterator<Item = Bytes> + Send,
) -> Result<(), tokio_postgres::Error> {
    let statement = on.prepare_cached(statement).await?;
    let mut sink = pin!(on.copy_in(&statement).await?);
    for piece in pieces {
        sink.feed(piece).await?;
    }
    sink.finish().await?;
    Ok(())
}
