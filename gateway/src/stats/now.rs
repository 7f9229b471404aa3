//! The objects to which most of one type was done, as the counters in Redis have them this moment.

use std::cmp::Reverse;
use std::collections::HashMap;

use common::keys;
use deadpool_postgres::Pool;
use fred::prelude::{HashesInterface, SortedSetsInterface};

use jiff::Timestamp;

use super::StatsError;
use super::snapshot::Counted;
use super::top_objects::TopObjects;
use crate::redis::{Impatient, NoAnswer};

/// Only where Redis counts just what is asked for: one type of events on one type of objects.
pub fn is_counted(question: &TopObjects) -> Option<(&str, &str)> {
    let filter = &question.filter;
    if !question.is_now || filter.user_id.is_some() || filter.source.is_some() {
        return None;
    }
    Some((filter.object_type.as_deref()?, filter.event_type.as_deref()?))
}

/// How far Postgres is: the counters must be no less.
pub struct Standing {
    generation: i64,
    /// By when everything that was judged is in the statistics, and so in the counters.
    pub as_of: Timestamp,
    marks: Vec<(i32, i64)>,
}

impl Standing {
    pub async fn read(pool: &Pool) -> Result<Self, StatsError> {
        let client = pool.get().await?;
        let statement = client.prepare_cached(include_str!("read_standing.sql")).await?;
        let row = client.query_one(&statement, &[]).await?;
        let (sources, marks): (Vec<i32>, Vec<i64>) = (row.get(2), row.get(3));
        let marks = sources.into_iter().zip(marks).collect();
        Ok(Self { generation: row.get(0), as_of: row.get(1), marks })
    }

    /// `anchor` is the hash `tm:counters`.
    fn is_reached_by(&self, anchor: &HashMap<String, String>) -> bool {
        let epoch = anchor.get("epoch").and_then(|it| it.split_once('-'));
        let generation = epoch.and_then(|(generation, _)| generation.parse().ok());
        let mark = |source: &i32| anchor.get(&source.to_string())?.parse::<i64>().ok();
        anchor.get("state").is_some_and(|it| it == "live")
            && generation == Some(self.generation)
            && self.marks.iter().all(|(source, least)| mark(source).is_some_and(|it| it >= *least))
    }
}

/// None while the counters are not there, are being rebuilt, or trail behind.
pub async fn top(
    redis: &Impatient,
    standing: &Standing,
    object_type: &str,
    event_type: &str,
    limit: usize,
) -> Result<Option<Vec<Counted>>, NoAnswer> {
    let anchor = redis.ask(redis.client().hgetall(keys::COUNTERS)).await?;
    if !standing.is_reached_by(&anchor) {
        return Ok(None);
    }
    let key = keys::top(object_type, event_type);
    let last = i64::try_from(limit).unwrap_or(i64::MAX) - 1;
    let members: Vec<(String, f64)> =
        redis.ask(redis.client().zrevrange(key, 0, last, true)).await?;
    let space = keys::member(object_type, "");
    let counted = |(member, count): (String, f64)| Counted {
        object_type: object_type.to_owned(),
        object_id: member.strip_prefix(&space).unwrap_or(&member).to_owned(),
        count: count as u64,
    };
    let mut counted: Vec<_> = members.into_iter().map(counted).collect();
    // Redis has equal ones in the opposite order.
    counted.sort_by(|a, b| (Reverse(a.count), &a.object_id).cmp(&(Reverse(b.count), &b.object_id)));
    Ok(Some(counted))
}
