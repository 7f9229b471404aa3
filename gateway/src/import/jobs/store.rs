//! Import jobs in Postgres: visible from every instance.

use anyhow::Context;
use deadpool_postgres::Pool;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::import::{Keeper, Snapshot};

pub struct JobStore {
    pool: Pool,
}

/// A job about to be entered.
pub struct NewJob {
    pub id: Uuid,
    pub name: Option<String>,
    pub owner: String,
    pub is_dry_run: bool,
    pub reading: Value,
    pub bytes: u64,
}

/// A job as its owner sees it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ImportJob)]
pub struct Job {
    pub id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip)]
    pub owner: String,
    /// `queued`, `running`, `done` or `failed`.
    pub state: String,
    pub dry_run: bool,
    pub rows: i64,
    pub accepted: i64,
    pub rejected: i64,
    /// Rows a second.
    pub rate: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// Seconds that are left, if the rest goes as fast.
    pub eta: Option<i64>,
    pub bytes: i64,
    pub bytes_read: i64,
    /// How the file is read: its format, and what each column becomes.
    #[schema(value_type = Object)]
    pub reading: Value,
    /// The first rejected rows, with their lines and reasons.
    #[schema(value_type = Vec<Object>)]
    pub rejects: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// Of a dry run: what the first rows would be stored as.
    #[schema(value_type = Option<Vec<Object>>)]
    pub first_events: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    pub as_of: Timestamp,
}

impl JobStore {
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    pub async fn add(&self, job: &NewJob) -> anyhow::Result<()> {
        let bytes = i64::try_from(job.bytes)?;
        self.client()
            .await?
            .execute(
                include_str!("add_import.sql"),
                &[&job.id, &job.name, &job.owner, &job.is_dry_run, &job.reading, &bytes],
            )
            .await
            .context("enter the import")?;
        Ok(())
    }

    pub async fn find(&self, id: Uuid) -> anyhow::Result<Option<Job>> {
        let row = self.client().await?.query_opt(include_str!("find_import.sql"), &[&id]).await;
        Ok(row.context("find the import")?.as_ref().map(job))
    }

    pub async fn note(
        &self,
        id: Uuid,
        state: &str,
        now: &Snapshot,
        detail: Option<&str>,
    ) -> anyhow::Result<()> {
        let [read, accepted, rejected, rate] = numbers(now)?;
        let eta = now.eta.map(i64::try_from).transpose()?;
        self.client()
            .await?
            .execute(
                include_str!("note_import.sql"),
                &[&id, &state, &read, &accepted, &rejected, &rate, &eta, &detail],
            )
            .await
            .context("note how far the import is")?;
        Ok(())
    }

    pub async fn end(&self, id: Uuid, ending: &Ending) -> anyhow::Result<()> {
        let [read, accepted, rejected, rate] = numbers(&ending.now)?;
        let Ending { state, detail, rejects, first_events, .. } = ending;
        self.client()
            .await?
            .execute(
                include_str!("end_import.sql"),
                &[&id, state, &read, &accepted, &rejected, &rate, detail, rejects, first_events],
            )
            .await
            .context("note how the import ended")?;
        Ok(())
    }

    async fn client(&self) -> anyhow::Result<deadpool_postgres::Client> {
        self.pool.get().await.context("connect to Postgres as DATABASE_URL says")
    }
}

/// How a job ended.
pub struct Ending {
    pub state: &'static str,
    pub now: Snapshot,
    pub detail: Option<String>,
    pub rejects: Value,
    pub first_events: Option<Value>,
}

impl Ending {
    pub fn done(now: Snapshot, keeper: &Keeper, first_events: Option<Value>) -> Self {
        let rejects = serde_json::to_value(&keeper.checkpoint().first_rejects).unwrap_or_default();
        Self { state: "done", now, detail: None, rejects, first_events }
    }

    pub fn failed(now: Snapshot, detail: String) -> Self {
        let rejects = Value::Array(Vec::new());
        Self { state: "failed", now, detail: Some(detail), rejects, first_events: None }
    }
}

fn numbers(now: &Snapshot) -> anyhow::Result<[i64; 4]> {
    let [read, accepted, rejected, rate] =
        [now.bytes_read, now.accepted, now.rejected, now.rate].map(i64::try_from);
    Ok([read?, accepted?, rejected?, rate?])
}

fn job(row: &Row) -> Job {
    let (accepted, rejected): (i64, i64) = (row.get("accepted"), row.get("rejected"));
    Job {
        id: row.get("id"),
        name: row.get("name"),
        owner: row.get("owner"),
        state: row.get("state"),
        dry_run: row.get("dry_run"),
        rows: accepted + rejected,
        accepted,
        rejected,
        rate: row.get("rate"),
        eta: row.get("eta"),
        bytes: row.get("bytes"),
        bytes_read: row.get("bytes_read"),
        reading: row.get("reading"),
        rejects: row.get("rejects"),
        first_events: row.get("first_events"),
        detail: row.get("detail"),
        created_at: row.get("created_at"),
        finished_at: row.get("finished_at"),
        as_of: row.get("as_of"),
    }
}
