//! In which life of Postgres we are: a change makes everything stale that rests on what it had said.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::Context;
use tokio_postgres::{Client, GenericClient};
use tracing::{info, warn};

/// The generation this process last saw; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Generation(Arc<AtomicI64>);

impl Generation {
    pub fn current(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Compares this connection's server with the recorded one; a change raises the generation.
    /// Called for every new connection.
    pub async fn observe(&self, client: &Client) -> anyhow::Result<()> {
        let row = client.query_one(include_str!("observe_generation.sql"), &[]).await;
        let row = row.context("read the generation of Postgres")?;
        let n = match (row.get::<_, Option<i64>>("n"), row.get::<_, bool>("same_server")) {
            (Some(n), true) => n,
            (recorded, _) => Self::raise_if_changed(client, recorded).await?,
        };
        self.learn(n);
        Ok(())
    }

    /// What Postgres says at this moment: another process may have raised it.
    pub async fn ask(&self, client: &impl GenericClient) -> anyhow::Result<i64> {
        let row = client.query_one("select n from generation", &[]).await;
        Ok(self.learn(row.context("read the generation of Postgres")?.get(0)))
    }

    /// As Postgres says, which may be less than before: a backup knows nothing of what came after it.
    fn learn(&self, n: i64) -> i64 {
        self.0.store(n, Ordering::SeqCst);
        n
    }

    /// Raises the generation because something of ours is ahead of Postgres: it has lost a tail.
    pub async fn raise(&self, client: &Client) -> anyhow::Result<()> {
        let row = client.query_one("update generation set n = n + 1 returning n", &[]).await?;
        let n: i64 = row.get(0);
        warn!(generation = n, "a follower was ahead of Postgres: all caches are void");
        self.learn(n);
        Ok(())
    }

    async fn raise_if_changed(client: &Client, recorded: Option<i64>) -> anyhow::Result<i64> {
        let row = client.query_one(include_str!("raise_generation.sql"), &[]).await?;
        let n: i64 = row.get(0);
        match recorded {
            None => info!(generation = n, "first start on this database"),
            Some(old) => {
                warn!(old, generation = n, "another server or timeline: all caches are void");
            }
        }
        Ok(n)
    }
}
