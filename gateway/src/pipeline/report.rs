//! How far behind each ratchet is, how every record ended, and how many a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::kafka::{RangeReader, TopicPartition};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio_postgres::Row;
use utoipa::ToSchema;

use super::marks::{Counted, Ends, Source};
use super::past::{Past, Rates, Verdicts};
use super::{Last, Pipeline};
use crate::stats::StatsError;

/// However many look, the servers are asked so often.
const FRESH: Duration = Duration::from_millis(500);

/// A record that cannot be read within this has no age.
const READ_PATIENCE: Duration = Duration::from_secs(3);

/// The pipeline as it stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PipelineReport)]
pub struct Report {
    ratchets: Vec<Ratchet>,
    verdicts: Verdicts,
    /// A second, over the last ten seconds; missing when nobody asked before.
    rates: Option<Rates>,
    /// `live`, `rebuilding` or `away`.
    counters: &'static str,
    /// `live` or `away`.
    kafka: &'static str,
    sources: Vec<SourceReport>,
    #[schema(value_type = String, format = DateTime)]
    as_of: Timestamp,
}

/// What is still ahead of one step, over all partitions.
#[derive(Debug, Serialize, ToSchema)]
struct Ratchet {
    /// `ledger`, `rollups`, `statistics`, `counters` or `relay`.
    name: &'static str,
    /// Missing while Kafka or Redis cannot be asked.
    records: Option<i64>,
    /// How long the record that has waited longest has been there, at most; 0 when none waits.
    seconds: Option<f64>,
}

/// One partition with its marks: the offset each step takes next.
#[derive(Debug, Serialize, ToSchema)]
struct SourceReport {
    topic: String,
    partition: i32,
    end: Option<i64>,
    ledger: i64,
    rollups: i64,
    statistics: i64,
    counters: Option<i64>,
    relay: Option<i64>,
}

impl SourceReport {
    fn new(source: Source, counted: &Counted, ends: Option<Ends>) -> Self {
        Self {
            counters: counted.mark(&source),
            topic: source.partition.topic,
            partition: source.partition.partition,
            end: ends.map(|it| it.end),
            ledger: source.ledger,
            rollups: source.rollups,
            statistics: source.statistics,
            relay: ends.map(|it| it.relayed),
        }
    }

    fn source(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.partition }
    }
}

type Mark = fn(&SourceReport) -> Option<i64>;

const RATCHETS: [(&str, Mark); 5] = [
    ("ledger", |it| Some(it.ledger)),
    ("rollups", |it| Some(it.rollups)),
    ("statistics", |it| Some(it.statistics)),
    ("counters", |it| it.counters),
    ("relay", |it| it.relay),
];

impl Pipeline {
    pub async fn report(&self) -> Result<Arc<Report>, StatsError> {
        let mut last = self.last.lock().await;
        if let Some((at, report)) = &last.report
            && at.elapsed() < FRESH
        {
            return Ok(report.clone());
        }
        let report = Arc::new(self.make_report(&mut last).await?);
        last.report = Some((Instant::now(), report.clone()));
        Ok(report)
    }

    async fn make_report(&self, last: &mut Last) -> Result<Report, StatsError> {
        let (sources, verdicts) = self.judged().await?;
        // Behind the marks, so that no step seems to be ahead of the log.
        let (counted, ends) = tokio::join!(self.counted(), self.ends(&sources));
        let now = Timestamp::now();
        let kafka = if ends.is_some() { "live" } else { "away" };
        let mut ends = ends.unwrap_or_default().into_iter();
        let sources: Vec<_> =
            sources.into_iter().map(|it| SourceReport::new(it, &counted, ends.next())).collect();
        let rates = last.past.rates(verdicts, now);
        let reach = sources.iter().filter_map(|it| Some((it.source(), it.end?))).collect();
        last.past.remember(now, reach, verdicts);
        let mut ratchets = Vec::with_capacity(RATCHETS.len());
        for (name, mark) in RATCHETS {
            let (records, seconds) = self.lag(&sources, mark, &last.past, now).await;
            ratchets.push(Ratchet { name, records, seconds });
        }
        let counters = counted.state();
        Ok(Report { ratchets, verdicts, rates, counters, kafka, sources, as_of: now })
    }

    async fn judged(&self) -> Result<(Vec<Source>, Verdicts), StatsError> {
        let mut client = self.pool.get().await?;
        let on = self.snapshot(&mut client).await?;
        let sources = on.prepare_cached(include_str!("read_sources.sql")).await?;
        let sources = on.query(&sources, &[]).await?.iter().map(Source::of).collect();
        let verdicts = on.prepare_cached(include_str!("read_verdicts.sql")).await?;
        let verdicts = verdicts_of(&on.query_one(&verdicts, &[]).await?);
        on.commit().await?;
        Ok((sources, verdicts))
    }

    /// Records ahead of a step, and the age of the one that waits longest.
    async fn lag(
        &self,
        sources: &[SourceReport],
        mark: Mark,
        past: &Past,
        now: Timestamp,
    ) -> (Option<i64>, Option<f64>) {
        let behind: Option<Vec<_>> = sources
            .iter()
            .map(|it| {
                let mark = mark(it)?;
                Some((it, mark, (it.end? - mark).max(0)))
            })
            .collect();
        let Some(mut behind) = behind else { return (None, None) };
        let records = behind.iter().map(|(_, _, records)| records).sum();
        behind.retain(|(_, _, records)| *records > 0);
        let mut oldest = SignedDuration::ZERO;
        // Where the past does not say it, the log does; the partition with most ahead stands for all.
        let mut unknown: Option<(&SourceReport, i64, i64)> = None;
        for (source, mark, records) in behind {
            match past.age(&source.source(), mark, now) {
                Some(age) => oldest = oldest.max(age),
                None if unknown.is_none_or(|it| it.2 < records) => {
                    unknown = Some((source, mark, records));
                }
                None => {}
            }
        }
        if let Some((source, mark, _)) = unknown {
            let Some(at) = self.appended_at(&source.source(), mark).await else {
                return (Some(records), None);
            };
            oldest = oldest.max(now.duration_since(at));
        }
        (Some(records), Some(oldest.as_secs_f64()))
    }

    /// When the record at an offset, or the next that there is, came into the log.
    async fn appended_at(&self, partition: &TopicPartition, offset: i64) -> Option<Timestamp> {
        let read = async {
            let mut reader = RangeReader::open(&self.kafka, partition, offset..offset + 1).ok()?;
            reader.next().await.ok()??.first().map(|it| it.timestamp_ms)
        };
        let ms = tokio::time::timeout(READ_PATIENCE, read).await.ok()??;
        Timestamp::from_millisecond(ms).ok()
    }
}

fn verdicts_of(row: &Row) -> Verdicts {
    Verdicts {
        consumed: row.get("consumed"),
        stored: row.get("stored"),
        duplicate: row.get("duplicate"),
        dead_lettered: row.get("dead_lettered"),
        erased: row.get("erased"),
    }
}
