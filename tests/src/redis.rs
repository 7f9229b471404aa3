//! What the tests read from Redis: every public counter, as a dashboard sees it.

use std::collections::BTreeMap;

use common::config::RedisConfig;
use fred::prelude::*;
use fred::types::scan::ScanType;
use futures_util::TryStreamExt;
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

    pub async fn increment(&self, key: &str) -> anyhow::Result<u64> {
        Ok(self.client.incr(key).await?)
    }

    pub async fn flush_database(&self) -> anyhow::Result<()> {
        Ok(self.client.custom(fred::cmd!("FLUSHDB"), Vec::<String>::new()).await?)
    }

    /// Everything in all databases of the server.
    pub async fn flush_all(&self) -> anyhow::Result<()> {
        Ok(self.client.custom(fred::cmd!("FLUSHALL"), Vec::<String>::new()).await?)
    }

    pub async fn number(&self, key: &str) -> anyhow::Result<Option<i64>> {
        Ok(self.client.get(key).await?)
    }

    /// One field of a hash, as a number.
    pub async fn hash_number(&self, key: &str, field: &str) -> anyhow::Result<Option<i64>> {
        Ok(self.client.hget(key, field).await?)
    }

    pub async fn hash_text(&self, key: &str, field: &str) -> anyhow::Result<Option<String>> {
        Ok(self.client.hget(key, field).await?)
    }

    /// Every plain number outside `tm:`.
    pub async fn numbers(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut numbers = BTreeMap::new();
        let keys = self.keys(ScanType::String).await?;
        for chunk in keys.chunks(1_000) {
            let values: Vec<Option<u64>> = self.client.mget(chunk.to_vec()).await?;
            let pairs = chunk.iter().cloned().zip(values);
            numbers.extend(pairs.filter_map(|(key, value)| Some((key, value?))));
        }
        Ok(numbers)
    }

    /// Every sorted set outside `tm:`, with its members' scores.
    pub async fn sorted_sets(&self) -> anyhow::Result<BTreeMap<String, BTreeMap<String, u64>>> {
        let mut sets = BTreeMap::new();
        for key in self.keys(ScanType::ZSet).await? {
            let members: Vec<(String, f64)> =
                self.client.zrange(&key, 0, -1, None, false, None, true).await?;
            let scores = members.into_iter().map(|(member, score)| (member, score as u64));
            sets.insert(key, scores.collect());
        }
        Ok(sets)
    }

    async fn keys(&self, kind: ScanType) -> anyhow::Result<Vec<String>> {
        let found = self.client.scan_buffered("*", Some(1_000), Some(kind));
        let keys: Vec<Key> = found.try_collect().await?;
        let mut names: Vec<_> = keys.into_iter().filter_map(Key::into_string).collect();
        names.retain(|name| !name.starts_with("tm:"));
        names.sort();
        names.dedup(); // SCAN may name a key twice.
        Ok(names)
    }
}
