//! The types of events by how often they happened.

use std::cmp::Reverse;

use jiff::Timestamp;
use serde::Serialize;

use super::StatsError;
use super::calendar::{Buckets, Period, RANGE, Unit};
use super::params::{FILTERS, Filter, Params};
use super::scope::{By, Scope};
use super::snapshot::Snapshot;
use super::tally::Tallies;
use super::{LIMIT_DEFAULT, LIMIT_MAX};

#[derive(Debug)]
pub struct TopEvents {
    pub period: Period,
    limit: usize,
    filter: Filter,
}

#[derive(Debug, Serialize)]
pub struct Top {
    items: Vec<Item>,
}

#[derive(Debug, Serialize)]
struct Item {
    r#type: String,
    count: u64,
    users: u64,
}

impl TopEvents {
    pub fn read(query: &str, now: Timestamp) -> Result<Self, StatsError> {
        let params = Params::read(query, &[&RANGE, &["limit"], &FILTERS])?;
        Ok(Self {
            period: Period::read(&params, Unit::Day, now)?,
            limit: params.count("limit", LIMIT_DEFAULT, LIMIT_MAX)?,
            filter: Filter::read(&params)?,
        })
    }

    pub async fn answer(&self, snapshot: &Snapshot<'_>) -> Result<Top, StatsError> {
        let buckets = Buckets::one(&self.period);
        let scope = Scope::resolve(snapshot, &self.filter, Some(By::Type)).await?;
        let tallies = Tallies::read(snapshot, &scope, &buckets).await?;
        let mut items: Vec<Item> = tallies
            .0
            .into_iter()
            .map(|((_, group), tally)| Item {
                r#type: scope.groups[group].clone(),
                count: tally.count,
                users: tally.users.len(),
            })
            .collect();
        // Stable: equal counts stay in the order of their names.
        items.sort_by_key(|it| Reverse(it.count));
        items.truncate(self.limit);
        Ok(Top { items })
    }
}
