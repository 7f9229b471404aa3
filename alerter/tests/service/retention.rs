//! The table of windows keeps what retention says, and takes nothing back that it has removed.

use alerter::aggregates::sinks::retention::{Remover, Retention};
use alerter::metrics::AlerterMetrics;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::world::{World, action, eventually, now_ms};

const DAY_MS: i64 = 86_400_000;

async fn world(days: u32) -> World {
    let mut world = World::new().await;
    world.set("aggregate-retention-days", days);
    world.set("lateness-seconds", 0);
    world.set("quiet-seconds", 1);
    world
}

/// Rows as the sink writes them, so many for each of these days ago.
async fn fill(world: &World, days: &str, rows: u32) {
    world
        .query(&format!(
            "insert into action_aggregates
             select start, start + interval '1 minute', 'test', 'type' || dimension, null, null, 1, 1, 0
               from unnest(array[{days}]) as day, generate_series(1, {rows}) as dimension,
                    date_trunc('minute', now() - day * interval '1 day') as start"
        ))
        .await;
}

/// How many days ago the windows in the table began → rows.
async fn ages(world: &World) -> Vec<(i32, i64)> {
    let rows = world
        .query(
            "select round(extract(epoch from now() - window_start) / 86400)::int, count(*)
               from action_aggregates group by 1 order by 1",
        )
        .await;
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn remover(world: &World, days: u32) -> Remover {
    Remover {
        pool: world.pool(),
        retention: Retention { days },
        metrics: AlerterMetrics::register(&prometheus::Registry::new()).unwrap(),
    }
}

fn liked(days_ago: i64, post: &str) -> Value {
    // Hours before that moment, so that its window is over.
    action("like", post, now_ms() - days_ago * DAY_MS - 2 * 3_600_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn old_windows_go_in_chunks_and_the_others_stay() {
    let world = world(30).await;
    fill(&world, "1, 29, 31, 500", 12_000).await;
    let alerter = world.start().await;
    eventually("the old ones are gone", async || {
        (ages(&world).await == [(1, 12_000), (29, 12_000)]).then_some(())
    })
    .await;
    assert_eq!(alerter.metric("alerter_aggregates_removed_total"), 24_000.0);
    alerter.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_correction_brings_nothing_back() {
    let world = world(30).await;
    let alerter = world.start().await;
    // Two dimensions of a window of 40 days ago, and one of today.
    let mut share = liked(40, "1");
    share["type"] = "share".into();
    world.send(&[liked(40, "1"), share, liked(0, "1")]).await;
    eventually("what is new is stored, what is old is not", async || {
        let expired = alerter.metric("alerter_aggregates_expired_total");
        (ages(&world).await == [(0, 1)] && expired == 2.0).then_some(())
    })
    .await;
    world.send(&[liked(40, "2"), liked(0, "2")]).await;
    let total = "select sum(count)::bigint from action_aggregates";
    eventually("the window of today is corrected", async || {
        (world.query(total).await[0].get::<_, Option<i64>>(0) == Some(2)).then_some(())
    })
    .await;
    eventually("that of then is told again", async || {
        (alerter.metric("alerter_aggregates_expired_total") == 3.0).then_some(())
    })
    .await;
    assert_eq!(ages(&world).await.iter().filter(|(age, _)| *age > 1).count(), 0);
    alerter.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_removes_at_a_time_and_the_next_goes_on() {
    let world = world(0).await;
    fill(&world, "100", 10_500).await;
    let now = Timestamp::now();
    let lock = "select pg_advisory_xact_lock(
                    hashtextextended('tallyman/aggregates/' || current_schema(), 0))";
    let pool = world.pool();
    let mut other = pool.get().await.unwrap();
    let transaction = other.transaction().await.unwrap();
    transaction.query_one(lock, &[]).await.unwrap();
    assert_eq!(remover(&world, 30).remove_expired(now).await.unwrap(), 0, "it is another's turn");
    transaction.rollback().await.unwrap();
    // A removal that ended in the middle: what is left is removed by whoever comes next.
    world.query("delete from action_aggregates where event_type < 'type5'").await;
    let left = ages(&world).await[0].1 as u64;
    assert_eq!(remover(&world, 30).remove_expired(now).await.unwrap(), left);
    assert_eq!(ages(&world).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_days_all_is_kept() {
    let world = world(0).await;
    fill(&world, "1, 5000", 10).await;
    let later = Timestamp::now() + SignedDuration::from_hours(24 * 10_000);
    assert_eq!(remover(&world, 0).remove_expired(later).await.unwrap(), 0);
    assert_eq!(ages(&world).await, [(1, 10), (5_000, 10)]);
}
