//! A question about the statistics: which it is, what it rests on, and its answer.

use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::Serialize;

use super::StatsError;
use super::activity::Activity;
use super::dau::Dau;
use super::funnel::Funnel;
use super::retention::Retention;
use super::snapshot::Snapshot;
use super::top_events::TopEvents;
use super::top_objects::TopObjects;

#[derive(Debug)]
pub enum Question {
    Dau(Dau),
    Retention(Retention),
    TopEvents(TopEvents),
    TopObjects(TopObjects),
    Activity(Activity),
    Funnel(Funnel),
}

/// An answer says by when everything that was judged is in it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dated<T> {
    #[serde(flatten)]
    answer: T,
    as_of: Timestamp,
}

/// The answer as JSON.
pub fn dated(as_of: Timestamp, answer: impl Serialize) -> Vec<u8> {
    serde_json::to_vec(&Dated { answer, as_of }).expect("texts and numbers are JSON")
}

impl Question {
    /// By its name; `now` is where ranges end that are not given. None has another name.
    pub fn read(name: &str, query: &str, now: Timestamp) -> Result<Option<Self>, StatsError> {
        Ok(Some(match name {
            "dau" => Self::Dau(Dau::read(query, now)?),
            "retention" => Self::Retention(Retention::read(query, now)?),
            "top-events" => Self::TopEvents(TopEvents::read(query, now)?),
            "top-objects" => Self::TopObjects(TopObjects::read(query, now)?),
            "activity" => Self::Activity(Activity::read(query, now)?),
            "funnel" => Self::Funnel(Funnel::read(query, now)?),
            _ => return Ok(None),
        }))
    }

    /// The UTC days whose events may change the answer.
    pub fn utc_days(&self) -> (Date, Date) {
        match self {
            Self::Dau(it) => it.period.utc_days(),
            // Who came before the range is in no cohort of it.
            Self::Retention(it) => (date(1, 1, 1), it.period.utc_days().1),
            Self::TopEvents(it) => it.period.utc_days(),
            Self::TopObjects(it) => it.period.utc_days(),
            Self::Activity(it) => it.period.utc_days(),
            Self::Funnel(it) => {
                let last = it.last().to_zoned(TimeZone::UTC).date();
                (it.period.utc_days().0, last.saturating_add(1.day()))
            }
        }
    }

    pub async fn answer(&self, snapshot: &Snapshot<'_>) -> Result<Vec<u8>, StatsError> {
        let as_of = snapshot.as_of;
        Ok(match self {
            Self::Dau(it) => dated(as_of, it.answer(snapshot).await?),
            Self::Retention(it) => dated(as_of, it.answer(snapshot).await?),
            Self::TopEvents(it) => dated(as_of, it.answer(snapshot).await?),
            Self::TopObjects(it) => dated(as_of, it.answer(snapshot).await?),
            Self::Activity(it) => dated(as_of, it.answer(snapshot).await?),
            Self::Funnel(it) => dated(as_of, it.answer(snapshot).await?),
        })
    }
}
