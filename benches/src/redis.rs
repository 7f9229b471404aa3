//! The benchmark's own connection to Redis.

use common::config::RedisConfig;
use fred::prelude::*;
use tokio::task::JoinHandle;

/// A connection that ends with its owner.
pub struct Connection {
    client: Client,
    driver: JoinHandle<Result<(), Error>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    pub async fn open(redis_url: &str) -> anyhow::Result<Self> {
        let client = common::redis::client(&RedisConfig { redis_url: redis_url.into() })?;
        let driver = client.connect();
        let connection = Self { client, driver };
        connection.client.wait_for_connect().await?;
        Ok(connection)
    }

    pub async fn flush_database(&self) -> anyhow::Result<()> {
        Ok(self.client.custom(fred::cmd!("FLUSHDB"), Vec::<String>::new()).await?)
    }

    /// One field of a hash, as a number; 0 when there is none.
    pub async fn hash_number(&self, key: &str, field: &str) -> anyhow::Result<i64> {
        Ok(self.client.hget::<Option<i64>, _, _>(key, field).await?.unwrap_or(0))
    }
}
