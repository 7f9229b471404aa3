//! The tests' own connection to Postgres: one for each look, since servers come and go under it.

use anyhow::Context;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls, Row};

/// A connection that ends with its owner.
pub struct Connection {
    client: Client,
    _driver: JoinSet<()>,
}

impl Connection {
    pub async fn open(database_url: &str) -> anyhow::Result<Self> {
        let (client, connection) =
            tokio_postgres::connect(database_url, NoTls).await.context("connect to Postgres")?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // A connection that breaks fails the next query, which says so.
            let _broken = connection.await;
        });
        Ok(Self { client, _driver: driver })
    }

    pub async fn run(&self, sql: &str) -> anyhow::Result<()> {
        self.client.batch_execute(sql).await.with_context(|| format!("run {sql}"))
    }

    pub async fn rows(&self, sql: &str) -> anyhow::Result<Vec<Row>> {
        self.client.query(sql, &[]).await.with_context(|| format!("query {sql}"))
    }

    /// The one number a query answers with; none counts as 0.
    pub async fn number(&self, sql: &str) -> anyhow::Result<i64> {
        let rows = self.rows(sql).await?;
        let row = rows.first().with_context(|| format!("no row from {sql}"))?;
        Ok(row.get::<_, Option<i64>>(0).unwrap_or(0))
    }
}
