//! The benchmark's own connection to Postgres.

use anyhow::Context;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

/// A connection that ends with its owner.
pub struct Connection {
    pub client: Client,
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

    /// The one number that a query answers.
    pub async fn number(&self, query: &str) -> anyhow::Result<i64> {
        Ok(self.client.query_one(query, &[]).await?.try_get(0)?)
    }

    /// Before a measurement, so that none pays for what was written before it.
    pub async fn checkpoint(&self) {
        if let Err(refused) = self.client.batch_execute("checkpoint").await {
            eprintln!(
                "measuring without a checkpoint before it: `grant pg_checkpoint` to the role ({})",
                refused.as_db_error().map_or("no answer", |it| it.message())
            );
        }
    }
}
