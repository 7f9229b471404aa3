//! Parquet in a store that speaks S3: two who take themselves for the owner store each window once.

use alerter::aggregates::sinks::parquet::Parquet;
use alerter::delivery::subscriber::Place;
use alerter::metrics::AlerterMetrics;
use common::kafka::{Headers, Record, RecordBatch, TopicPartition, ensure_topics};
use common::topic;
use serde_json::json;

use crate::world::World;

/// An instance that may believe to have the partition.
struct Instance {
    place: Parquet,
    source: TopicPartition,
    metrics: AlerterMetrics,
}

impl Instance {
    async fn of(world: &World) -> Self {
        common::tls::choose();
        ensure_topics(&world.kafka, &[&topic::AGGREGATES]).await.unwrap();
        let metrics = AlerterMetrics::register(&prometheus::Registry::new()).unwrap();
        let place = format!("s3://tallyman/{}", world.group());
        let place = Parquet::new(world.kafka.clone(), &place, metrics.clone()).unwrap();
        let source = TopicPartition { topic: world.topic(&topic::AGGREGATES), partition: 1 };
        Self { place, source, metrics }
    }

    async fn position(&self) -> Option<i64> {
        self.place.take(&self.source).await.unwrap().1
    }

    fn stored(&self) -> u64 {
        self.metrics.aggregates_stored_total.with_label_values(&["parquet"]).get()
    }
}

/// Windows at these offsets, read from `from` to before `to`.
fn batch(from: i64, to: i64, offsets: &[i64]) -> RecordBatch {
    let record = |offset: &i64| Record {
        offset: *offset,
        timestamp_ms: 0,
        key: None,
        value: Some(
            json!({
                "windowStart": "2026-11-18T11:06:00.000Z", "windowEnd": "2026-11-18T11:07:00.000Z",
                "source": "http", "type": "like", "count": offset, "users": 1, "usersError": 0.0
            })
            .to_string()
            .into(),
        ),
        headers: Headers::default(),
    };
    RecordBatch { from, to, records: offsets.iter().map(record).collect() }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_owners_stores_and_the_other_learns_where_it_ended() {
    let world = World::new().await;
    let (first, second) = (Instance::of(&world).await, Instance::of(&world).await);
    let (mut one, position) = first.place.take(&first.source).await.unwrap();
    assert_eq!(position, None);
    let (mut other, _) = second.place.take(&second.source).await.unwrap();
    // Both begin behind the same offset; the log was shortened for the one that came later.
    first.place.store(&mut one, &batch(0, 10, &[3, 4, 9])).await.unwrap();
    let late = batch(4, 30, &[4, 9, 20]);
    let refused = second.place.store(&mut other, &late).await.unwrap_err();
    assert!(refused.to_string().contains("is there already"), "{refused:#}");
    assert_eq!(second.position().await, Some(10));
    assert_eq!((first.stored(), second.stored()), (3, 0));

    let (mut other, _) = second.place.take(&second.source).await.unwrap();
    second.place.store(&mut other, &batch(10, 30, &[20])).await.unwrap();
    assert!(first.place.store(&mut one, &batch(10, 21, &[20])).await.is_err());
    assert!(first.place.store(&mut one, &batch(10, 99, &[20, 98])).await.is_err());
    assert_eq!(first.position().await, Some(30));
    assert!(second.place.store(&mut other, &batch(20, 40, &[20, 39])).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_held_no_window_does_not_tear_the_owners_apart() {
    let world = World::new().await;
    let (first, second) = (Instance::of(&world).await, Instance::of(&world).await);
    let (mut one, _) = first.place.take(&first.source).await.unwrap();
    first.place.store(&mut one, &batch(0, 5, &[4])).await.unwrap();
    let (mut other, _) = second.place.take(&second.source).await.unwrap();
    // Nothing but the ends of transactions, and a record that is no window.
    first.place.store(&mut one, &batch(5, 50, &[])).await.unwrap();
    let mut unreadable = batch(50, 60, &[55]);
    unreadable.records[0].value = Some("{}".into());
    first.place.store(&mut one, &unreadable).await.unwrap();
    let refused = first.metrics.aggregates_refused_total.with_label_values(&["parquet"]);
    assert_eq!(refused.get(), 1);
    // The other has read all that at once, and more.
    second.place.store(&mut other, &batch(5, 80, &[70])).await.unwrap();
    assert!(first.place.store(&mut one, &batch(60, 71, &[70])).await.is_err());
    assert_eq!(first.position().await, Some(80));
}
