//! What happened by minute, hour or day, in all or told apart by type or source.

use jiff::Timestamp;
use serde::Serialize;

use super::StatsError;
use super::calendar::{Bucket, Buckets, Period, RANGE, Unit, rfc3339};
use super::minutes;
use super::params::{FILTERS, Filter, Params};
use super::scope::{By, Scope};
use super::snapshot::Snapshot;
use super::tally::Tallies;

#[derive(Debug)]
pub struct Activity {
    pub period: Period,
    unit: Unit,
    by: Option<By>,
    filter: Filter,
}

#[derive(Debug, Serialize)]
pub struct Series {
    series: Vec<Point>,
}

#[derive(Debug, Serialize)]
struct Point {
    start: String,
    count: u64,
    /// Absent by minute where there is too much to look at each event.
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
}

impl Activity {
    pub fn read(query: &str, now: Timestamp) -> Result<Self, StatsError> {
        let params = Params::read(query, &[&RANGE, &["unit", "by"], &FILTERS])?;
        let unit = params.one_of("unit", Unit::Hour)?;
        let period = Period::read(&params, unit, now)?;
        Buckets::of(&period, unit)?;
        let by = params.maybe_one_of("by")?;
        Ok(Self { period, unit, by, filter: Filter::read(&params)? })
    }

    pub async fn answer(&self, snapshot: &Snapshot<'_>) -> Result<Series, StatsError> {
        let buckets = Buckets::of(&self.period, self.unit)?;
        let scope = Scope::resolve(snapshot, &self.filter, self.by).await?;
        let (tallies, has_users) = match self.unit {
            Unit::Minute if !scope.needs_facts() => {
                minutes::read(snapshot, &scope, &buckets).await?
            }
            _ => (Tallies::read(snapshot, &scope, &buckets).await?, true),
        };
        let groups = match self.by {
            Some(_) => scope.groups.iter().map(Some).collect(),
            None => vec![None],
        };
        let mut series = Vec::new();
        for (at, bucket) in buckets.iter().enumerate() {
            for (group, name) in groups.iter().enumerate() {
                let tally = tallies.get(at, group);
                // Told apart, only what happened is told.
                if tally.is_none() && self.by.is_some() {
                    continue;
                }
                series.push(point(bucket, tally, has_users, *name));
            }
        }
        Ok(Series { series })
    }
}

fn point(
    bucket: &Bucket,
    tally: Option<&super::tally::Tally>,
    has_users: bool,
    name: Option<&String>,
) -> Point {
    Point {
        start: rfc3339(&bucket.start),
        count: tally.map_or(0, |it| it.count),
        users: has_users.then(|| tally.map_or(0, |it| it.users.len())),
        by: name.cloned(),
    }
}
