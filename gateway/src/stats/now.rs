//! The objects to which most of one type was done, as the counters in Redis have them this moment.

use std::cmp::Reverse;

use common::keys;
use fred::prelude::{HashesInterface, SortedSetsInterface};

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

/// None while the counters are not there, or are being rebuilt.
pub async fn top(
    redis: &Impatient,
    object_type: &str,
    event_type: &str,
    limit: usize,
) -> Result<Option<Vec<Counted>>, NoAnswer> {
    let state: Option<String> = redis.ask(redis.client().hget(keys::COUNTERS, "state")).await?;
    if state.as_deref() != Some("live") {
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
