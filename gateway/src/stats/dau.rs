//! Active users by day, week or month.

use jiff::Timestamp;
use serde::Serialize;

use super::StatsError;
use super::calendar::{Buckets, Period, RANGE, Unit};
use super::params::{FILTERS, Filter, Params, unusable};
use super::scope::Scope;
use super::snapshot::Snapshot;
use super::tally::Tallies;

#[derive(Debug)]
pub struct Dau {
    pub period: Period,
    unit: Unit,
    filter: Filter,
}

#[derive(Debug, Serialize)]
pub struct Series {
    series: Vec<Active>,
}

#[derive(Debug, Serialize)]
struct Active {
    /// The first day of the unit.
    day: String,
    users: u64,
}

impl Dau {
    pub fn read(query: &str, now: Timestamp) -> Result<Self, StatsError> {
        let params = Params::read(query, &[&RANGE, &["unit"], &FILTERS])?;
        let unit = params.one_of("unit", Unit::Day)?;
        if matches!(unit, Unit::Minute | Unit::Hour) {
            return Err(unusable("`unit` can be `day`, `week` or `month`; `activity` knows hours"));
        }
        let period = Period::read(&params, unit, now)?;
        Buckets::of(&period, unit)?;
        Ok(Self { period, unit, filter: Filter::read(&params)? })
    }

    pub async fn answer(&self, snapshot: &Snapshot<'_>) -> Result<Series, StatsError> {
        let buckets = Buckets::of(&self.period, self.unit)?;
        let scope = Scope::resolve(snapshot, &self.filter, None).await?;
        let tallies = Tallies::read(snapshot, &scope, &buckets).await?;
        let active = |(at, bucket): (usize, &super::calendar::Bucket)| Active {
            day: bucket.start.date().to_string(),
            users: tallies.get(at, 0).map_or(0, |it| it.users.len()),
        };
        Ok(Series { series: buckets.iter().enumerate().map(active).collect() })
    }
}
