//! All events that match, as a stream: a few rows are in memory, however many there are.

use std::io;

use axum::body::Body;
use bytes::Bytes;
use common::event::Event;
use deadpool_postgres::{ClientWrapper, Object};
use futures_util::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, Statement};
use tracing::warn;

use super::{Archive, Wanted, csv};
use crate::http::ApiError;
use crate::stats::{Filter, StatsError};

/// Rows in memory at a time; an event has a MiB at most.
const FETCH: &str = "fetch 64 from exported";

/// A client that reads nothing for so long is cut: it holds back Postgres' cleaning.
const SILENCE: &str = "set local idle_in_transaction_session_timeout = '60s'";

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Ndjson,
    Csv,
}

/// An export on its way. The connection is its own: dropped in the middle, it ends the query too.
struct Export {
    client: ClientWrapper,
    fetch: Statement,
    form: Form,
    head: Option<&'static str>,
    _place: OwnedSemaphorePermit,
}

impl Archive {
    pub async fn export(&self, wanted: &Wanted, form: Form) -> Result<Body, ApiError> {
        let place =
            self.exports.clone().try_acquire_owned().map_err(|_| ApiError::TooManyExports)?;
        let client = Object::take(self.pool.get().await.map_err(StatsError::from)?);
        let fetch = open(&client, wanted).await.map_err(StatsError::from)?;
        let head = (form == Form::Csv).then_some(csv::HEAD);
        let export = Export { client, fetch, form, head, _place: place };
        Ok(Body::from_stream(stream::try_unfold(export, async |mut export| {
            let chunk = export.next().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(chunk.map(|bytes| (bytes, export)))
        })))
    }
}

async fn open(client: &ClientWrapper, wanted: &Wanted) -> Result<Statement, tokio_postgres::Error> {
    client
        .batch_execute(&format!("begin isolation level repeatable read, read only; {SILENCE}"))
        .await?;
    let Filter { event_type, user_id, object_type, object_id, source } = &wanted.filter;
    let limit = wanted.limit.map(|it| it as i64);
    let types = [
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::INT8,
    ];
    let declare = client.prepare_typed(include_str!("open_export.sql"), &types).await?;
    let parameters: [&(dyn ToSql + Sync); 8] =
        [&wanted.from, &wanted.to, event_type, user_id, object_type, object_id, source, &limit];
    client.execute(&declare, &parameters).await?;
    client.prepare(FETCH).await
}

impl Export {
    async fn next(&mut self) -> Result<Option<Bytes>, tokio_postgres::Error> {
        let rows = self.client.query(&self.fetch, &[]).await;
        let rows = rows.inspect_err(|error| warn!("an export is cut: {error:#}"))?;
        let head = self.head.take();
        if rows.is_empty() && head.is_none() {
            return Ok(None);
        }
        let mut out = head.unwrap_or_default().as_bytes().to_vec();
        rows.iter().for_each(|row| self.write(row, &mut out));
        Ok(Some(out.into()))
    }

    fn write(&self, row: &Row, out: &mut Vec<u8>) {
        let (event, received_at) = (Event::of_row(row), row.get("received_at"));
        match self.form {
            Form::Ndjson => {
                event.write_json(Some(received_at), out);
                out.push(b'\n');
            }
            Form::Csv => csv::write(&event, received_at, out),
        }
    }
}
