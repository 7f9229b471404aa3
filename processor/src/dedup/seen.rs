//! The markers in Redis: a marker is written only after the row is committed, so a hit means stored.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use common::event::EventKey;
use fred::prelude::{Client, Value};
use fred::types::scripts::Script;
use futures_util::future::join_all;
use hashbrown::HashSet;
use tokio::time::timeout;
use tracing::debug;

use super::bloom::Place;
use crate::config::DedupConfig;

/// How Redis answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    InTime,
    Late,
    Failed,
}

/// Hash buckets of 16-byte fields: small enough to stay listpacks (21 B a key, measured, against
/// 113–129 for string keys with a lifetime).
pub struct Seen {
    redis: Client,
    find: Script,
    learn: Script,
    patience: Duration,
    lifetime_seconds: i64,
}

impl Seen {
    /// Keys of one script call: it blocks Redis for about a quarter of a millisecond.
    const CHUNK: usize = 512;

    pub fn new(redis: Client, config: DedupConfig) -> Self {
        Self {
            redis,
            find: Script::from_lua(include_str!("find_seen.lua")),
            learn: Script::from_lua(include_str!("learn_seen.lua")),
            patience: Duration::from_millis(config.dedup_redis_ms_max),
            lifetime_seconds: i64::from(config.dedup_window_days + 1) * 86_400,
        }
    }

    /// Which of the keys have a marker. What was not answered in time counts as not found.
    pub async fn find(
        &self,
        generation: i64,
        suspects: &[(EventKey, Place)],
    ) -> (HashSet<EventKey>, Answer) {
        let chunks = chunks(suspects);
        let calls = chunks.iter().map(|(place, keys)| self.find_chunk(generation, *place, keys));
        let Ok(answers) = timeout(self.patience, join_all(calls)).await else {
            return (HashSet::new(), Answer::Late);
        };
        let mut found = HashSet::new();
        let mut answer = Answer::InTime;
        for chunk in answers {
            match chunk {
                Ok(keys) => found.extend(keys),
                Err(error) => {
                    debug!(%error, "redis did not say what it has seen");
                    answer = Answer::Failed;
                }
            }
        }
        (found, answer)
    }

    /// Writes markers; one that cannot be written only costs a look-up later.
    pub async fn learn(&self, generation: i64, places: &[(EventKey, Place)]) {
        for (place, keys) in chunks(places) {
            let args = vec![concatenated(&keys), Value::Integer(self.lifetime_seconds)];
            let space = namespace(generation, place);
            let learnt: Result<(), _> =
                self.learn.evalsha_with_reload(&self.redis, vec![space], args).await;
            if let Err(error) = learnt {
                return debug!(%error, "redis did not learn a batch of ids");
            }
        }
    }

    async fn find_chunk(
        &self,
        generation: i64,
        place: Place,
        keys: &[EventKey],
    ) -> Result<Vec<EventKey>, fred::error::Error> {
        let args = vec![concatenated(keys)];
        let space = namespace(generation, place);
        let hits: Vec<i64> = self.find.evalsha_with_reload(&self.redis, vec![space], args).await?;
        let at = |hit: &i64| keys.get(usize::try_from(hit - 1).ok()?).copied();
        Ok(hits.iter().filter_map(at).collect())
    }
}

fn namespace(generation: i64, place: Place) -> String {
    format!("tm:seen:{generation}:{}:{}", place.day, place.layer)
}

/// One argument for all: see the scripts.
fn concatenated(keys: &[EventKey]) -> Value {
    Value::Bytes(Bytes::from(keys.iter().flat_map(EventKey::as_bytes).collect::<Vec<u8>>()))
}

/// Keys by the namespace they lie in, in pieces of one script call.
fn chunks(places: &[(EventKey, Place)]) -> Vec<(Place, Vec<EventKey>)> {
    let mut by_place: BTreeMap<Place, Vec<EventKey>> = BTreeMap::new();
    for (key, place) in places {
        by_place.entry(*place).or_default().push(*key);
    }
    let cut = |(place, keys): (Place, Vec<EventKey>)| {
        keys.chunks(Seen::CHUNK).map(|chunk| (place, chunk.to_vec())).collect::<Vec<_>>()
    };
    by_place.into_iter().flat_map(cut).collect()
}
