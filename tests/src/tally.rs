//! Reads what all the places hold.

use std::collections::BTreeMap;

use anyhow::Context;
use serde_json::Value;

use crate::installation::{Installation, PARTITIONS};
use crate::postgres;
use crate::state::State;

impl Installation {
    /// Everything there is, at this moment.
    pub async fn tally(&self) -> anyhow::Result<State> {
        let mut state = State::default();
        self.read_input(&mut state).await?;
        read_tables(&self.postgres().await?, &mut state).await?;
        self.read_stream(&mut state).await?;
        let redis = self.redis().await?;
        state.redis_numbers = redis.numbers().await?;
        state.redis_sets = redis.sorted_sets().await?;
        Ok(state)
    }

    async fn read_input(&self, state: &mut State) -> anyhow::Result<()> {
        let offsets = self.group_offsets("processor")?;
        for partition in 0..PARTITIONS {
            let marks = offsets.watermarks(&self.partition("user-actions", partition)).await?;
            state.records += marks.high - marks.low;
        }
        Ok(())
    }

    async fn read_stream(&self, state: &mut State) -> anyhow::Result<()> {
        for record in self.read("unique-actions").await? {
            let action = record.json()?;
            let n = number(&action["properties"]).with_context(|| format!("no n: {action}"))?;
            *state.stream.entry(n).or_default() += 1;
            let id = action["eventId"].as_str().context("no eventId")?;
            state.stream_ids.insert(id.to_owned());
        }
        Ok(())
    }
}

fn number(properties: &Value) -> Option<u64> {
    properties["n"].as_u64()
}

async fn read_tables(postgres: &postgres::Connection, state: &mut State) -> anyhow::Result<()> {
    for row in postgres.rows("select (properties->>'n')::bigint, event_id from events").await? {
        let n: Option<i64> = row.get(0);
        let n = n.with_context(|| format!("row {} has no n", row.get::<_, String>(1)))?;
        *state.rows.entry(n as u64).or_default() += 1;
    }
    let ids = "select count(distinct event_id) from events";
    state.distinct_ids = postgres.number(ids).await? as u64;
    state.keys = postgres.number("select count(*) from event_keys").await?;
    state.dead_letters = postgres.number("select count(*) from dead_letters").await?;
    let counts = postgres.rows("select object_id, event_type, count from object_counts").await?;
    let counts = counts.iter().map(|row| ((row.get(0), row.get(1)), row.get::<_, i64>(2) as u64));
    state.rollups = counts.collect();
    let active = postgres.rows("select day::text, users from daily_active").await?;
    let active = active.iter().map(|row| (row.get(0), row.get::<_, i64>(1) as u64));
    state.daily_active = active.collect::<BTreeMap<_, _>>();
    let sums = postgres
        .rows(
            "select coalesce(sum(consumed), 0)::bigint, coalesce(sum(stored), 0)::bigint,
                    coalesce(sum(duplicate), 0)::bigint, coalesce(sum(dead_lettered), 0)::bigint
               from accounting",
        )
        .await?;
    let sums = sums.first().context("a sum is one row")?;
    state.consumed = sums.get(0);
    state.stored = sums.get(1);
    state.duplicate = sums.get(2);
    state.dead_lettered = sums.get(3);
    Ok(())
}
