//! Statistics in Postgres: who did what to what and when, in numbers. A source only appends what it
//! adds; one folder for all sources brings it into the cells that are read.

mod cells;
mod fold;
mod rebuild;

use std::collections::BTreeSet;

use common::stats::{day_of_slot, delta};
use deadpool_postgres::Transaction;
use jiff::civil::Date;

pub use self::fold::{EVENTS_MAX, fold};
pub use self::rebuild::rebuild;
use super::digest::Coded;
use super::rollups::utc_day;
use crate::batch::Source;

/// Appends events of a source, whose mark moves to `mark`.
pub async fn append(
    on: &Transaction<'_>,
    source: &Source,
    events: &[Coded],
    mark: i64,
) -> Result<(), tokio_postgres::Error> {
    let groups =
        delta::group(events.iter().map(|it| (it.at_us, it.kind.cast_signed(), it.user, it.object)));
    let slots = || groups.keys().map(|(slot, _)| *slot);
    let (Some(slot_min), Some(slot_max)) = (slots().min(), slots().max()) else {
        return Ok(());
    };
    let events = i32::try_from(events.len()).expect("far fewer events are applied at a time");
    let facts = delta::pack(&groups);
    let statement = on.prepare_cached(include_str!("append_delta.sql")).await?;
    on.execute(&statement, &[&events, &slot_min, &slot_max, &facts]).await?;
    let days: BTreeSet<i32> = slots().map(day_of_slot).collect();
    let days: Vec<Date> = days.into_iter().map(utc_day).collect();
    let statement = on.prepare_cached(include_str!("touch_days.sql")).await?;
    on.execute(&statement, &[&source.number, &days, &mark]).await?;
    Ok(())
}
