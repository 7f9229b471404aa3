//! The four ratchets of every partition, each read where it lies.

use std::collections::HashMap;

use common::kafka::{KafkaError, TopicPartition};
use common::keys;
use fred::prelude::HashesInterface;
use futures_util::future::try_join_all;
use tokio_postgres::Row;
use tracing::warn;

use super::Pipeline;
use crate::redis::NoAnswer;

/// What Postgres says of one partition.
#[derive(Debug, Clone)]
pub struct Source {
    pub number: i32,
    pub partition: TopicPartition,
    pub start: i64,
    pub ledger: i64,
    pub rollups: i64,
    pub statistics: i64,
}

/// What Kafka says of one partition.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// The offset behind its last record.
    pub end: i64,
    pub relayed: i64,
}

/// The counters' marks by the number of the source.
pub enum Counted {
    Live(HashMap<i32, i64>),
    Rebuilding,
    Away,
}

impl Source {
    pub fn of(row: &Row) -> Self {
        Self {
            number: row.get("source"),
            partition: TopicPartition { topic: row.get("topic"), partition: row.get("partition") },
            start: row.get("start_offset"),
            ledger: row.get("next_offset"),
            rollups: row.get("rollups"),
            statistics: row.get("statistics"),
        }
    }
}

impl Counted {
    /// None where nobody knows at the moment.
    pub fn mark(&self, source: &Source) -> Option<i64> {
        match self {
            Self::Live(marks) => Some(marks.get(&source.number).copied().unwrap_or(source.start)),
            Self::Rebuilding | Self::Away => None,
        }
    }

    pub fn state(&self) -> &'static str {
        match self {
            Self::Live(_) => "live",
            Self::Rebuilding => "rebuilding",
            Self::Away => "away",
        }
    }
}

impl Pipeline {
    pub(super) async fn counted(&self) -> Counted {
        let asked: Result<HashMap<String, String>, NoAnswer> =
            self.redis.ask(self.redis.client().hgetall(keys::COUNTERS)).await;
        let Ok(fields) = asked else { return Counted::Away };
        match fields.get("state").map(String::as_str) {
            Some("live") => {}
            // Nothing has been counted yet.
            None if fields.is_empty() => return Counted::Live(HashMap::new()),
            _ => return Counted::Rebuilding,
        }
        let mark =
            |(name, value): (&String, &String)| Some((name.parse().ok()?, value.parse().ok()?));
        Counted::Live(fields.iter().filter_map(mark).collect())
    }

    /// In the order of the sources; none when Kafka does not answer.
    pub(super) async fn ends(&self, sources: &[Source]) -> Option<Vec<Ends>> {
        let asked = try_join_all(sources.iter().map(|source| self.end_of(source))).await;
        asked.inspect_err(|error| warn!("offsets cannot be read: {error}")).ok()
    }

    async fn end_of(&self, source: &Source) -> Result<Ends, KafkaError> {
        let relayed = self.relayed(&source.partition, source.start).await?;
        let end = self.offsets.watermarks(&source.partition).await?.high;
        Ok(Ends { end, relayed })
    }

    pub(super) async fn relayed(
        &self,
        partition: &TopicPartition,
        start: i64,
    ) -> Result<i64, KafkaError> {
        Ok(self.offsets.committed(partition).await?.unwrap_or(start))
    }
}
