//! What was seen a moment ago: from it follow how long a record has waited, and rates (pure).

use std::collections::{HashMap, VecDeque};

use common::kafka::TopicPartition;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

/// How every record ended, from the first on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RecordVerdicts)]
pub struct Verdicts {
    pub consumed: i64,
    pub stored: i64,
    pub duplicate: i64,
    pub dead_lettered: i64,
    pub erased: i64,
}

/// The same a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rates {
    consumed: f64,
    stored: f64,
    duplicate: f64,
    dead_lettered: f64,
    erased: f64,
}

/// The ends of the partitions at one moment.
pub type Reach = HashMap<TopicPartition, i64>;

struct Sample {
    at: Timestamp,
    ends: Reach,
    verdicts: Verdicts,
}

/// The last samples, the newest first.
#[derive(Default)]
pub struct Past(VecDeque<Sample>);

/// Rates are over so long, or less in the beginning.
const SPAN: SignedDuration = SignedDuration::from_secs(10);

/// A shorter time gives no rate worth showing.
const SPAN_MIN: SignedDuration = SignedDuration::from_millis(500);

impl Past {
    const SAMPLES_MAX: usize = 120;

    pub fn remember(&mut self, at: Timestamp, ends: Reach, verdicts: Verdicts) {
        self.0.truncate(Self::SAMPLES_MAX - 1);
        self.0.push_front(Sample { at, ends, verdicts });
    }

    /// How long the record at this offset has been there at most; none if it was there before all of
    /// this.
    pub fn age(
        &self,
        partition: &TopicPartition,
        offset: i64,
        now: Timestamp,
    ) -> Option<SignedDuration> {
        let before =
            self.0.iter().find(|it| it.ends.get(partition).is_some_and(|end| *end <= offset));
        before.map(|it| now.duration_since(it.at))
    }

    pub fn rates(&self, verdicts: Verdicts, now: Timestamp) -> Option<Rates> {
        let age = |it: &&Sample| now.duration_since(it.at);
        let then = self.0.iter().find(|it| age(it) >= SPAN).or(self.0.back())?;
        let span = age(&then);
        let then = then.verdicts;
        let rate = |now: i64, then: i64| (now - then).max(0) as f64 / span.as_secs_f64();
        (span >= SPAN_MIN).then(|| Rates {
            consumed: rate(verdicts.consumed, then.consumed),
            stored: rate(verdicts.stored, then.stored),
            duplicate: rate(verdicts.duplicate, then.duplicate),
            dead_lettered: rate(verdicts.dead_lettered, then.dead_lettered),
            erased: rate(verdicts.erased, then.erased),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn partition() -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: 0 }
    }

    fn past(samples: &[(i64, i64)]) -> Past {
        let mut past = Past::default();
        for (second, end) in samples {
            let verdicts = Verdicts { consumed: *end, ..Verdicts::default() };
            past.remember(at(*second), [(partition(), *end)].into(), verdicts);
        }
        past
    }

    #[test]
    fn a_record_is_younger_than_the_last_time_it_was_not_there() {
        let past = past(&[(10, 5), (11, 5), (12, 9)]);
        assert_eq!(past.age(&partition(), 5, at(14)), Some(SignedDuration::from_secs(3)));
        assert_eq!(past.age(&partition(), 9, at(14)), Some(SignedDuration::from_secs(2)));
        assert_eq!(past.age(&partition(), 4, at(14)), None);
    }

    #[test]
    fn a_rate_is_over_the_last_ten_seconds() {
        let past = past(&[(0, 0), (20, 100), (29, 500)]);
        let now = Verdicts { consumed: 600, ..Verdicts::default() };
        assert_eq!(past.rates(now, at(30)).unwrap().consumed, 50.0);
        assert_eq!(Past::default().rates(now, at(30)), None);
    }

    #[test]
    fn the_past_is_bounded() {
        let samples: Vec<_> = (0..1_000).map(|second| (second, second)).collect();
        let past = past(&samples);
        assert_eq!(past.0.len(), Past::SAMPLES_MAX);
        assert_eq!(past.0.front().unwrap().at, at(999));
    }
}
