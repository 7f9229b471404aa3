//! The history: every notification of the topic is a row, once, whenever Postgres comes.

use common::notification::Notification;
use serde_json::Value;

use crate::world::{World, eventually, likes, now_ms};

/// The rows, as the topic would have said them.
async fn rows(world: &World) -> Vec<Value> {
    let rows = world.rows().await;
    let told = rows.iter().map(|row| {
        let text = |name: &str| row.get::<_, Option<String>>(name);
        let data: Value = row.get("data");
        for (column, member) in [
            ("rule", "rule"),
            ("severity", "severity"),
            ("status", "status"),
            ("text", "text"),
            ("object_type", "objectType"),
            ("object_id", "objectId"),
            ("user_id", "userId"),
        ] {
            assert_eq!(text(column).as_deref(), data[member].as_str(), "{column}");
        }
        for column in ["observed", "expected", "score"] {
            assert_eq!(row.get::<_, Option<f64>>(column), data[column].as_f64(), "{column}");
        }
        let time: jiff::Timestamp = row.get("occurred_at");
        serde_json::json!({
            "specversion": "1.0", "id": text("id"), "source": "/tallyman/alerter",
            "type": format!("tallyman.alert.{}", text("rule").unwrap()),
            "subject": text("subject"), "time": format!("{time:.3}"), "data": data
        })
    });
    told.collect()
}

fn as_json(told: &[Notification]) -> Vec<Value> {
    let mut told: Vec<_> = told.iter().map(|it| serde_json::to_value(it).unwrap()).collect();
    told.sort_by_key(|it| it["id"].to_string());
    told
}

async fn some_milestones(world: &World) {
    for post in 0..30 {
        world.send(&likes(&post.to_string(), now_ms() - 5_000, 1_000, 110)).await;
    }
    world.wait_consumed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_equals_the_topic_across_a_crash() {
    let world = World::new().await;
    let alerter = world.start().await;
    some_milestones(&world).await;
    alerter.crash().await;
    let alerter = world.start().await;
    some_milestones(&world).await;
    eventually("all are in the table", async || (world.rows().await.len() >= 60).then_some(()))
        .await;
    alerter.stop().await;
    world.settle().await;
    let told = as_json(&world.told().await);
    assert_eq!(told.len(), 60);
    assert_eq!(rows(&world).await, told);
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_do_not_wait_for_postgres_and_the_history_does() {
    let world = World::unmigrated(2).await;
    let alerter = world.start().await;
    some_milestones(&world).await;
    eventually("all is told", async || (world.told().await.len() >= 60).then_some(())).await;
    assert_eq!(alerter.metric("alerter_history_rows_total"), 0.0);
    world.migrate().await;
    eventually("all are in the table", async || (world.rows().await.len() >= 60).then_some(()))
        .await;
    assert_eq!(rows(&world).await, as_json(&world.told().await));
    assert_eq!(alerter.metric("alerter_history_refused_total"), 0.0);
    alerter.stop().await;
}
