//! Windows: what each sink holds in the end is what a naive computation says, whoever dies when.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use common::topic;
use serde_json::Value;

use crate::world::{World, action, eventually, now_ms};

/// Window and dimensions → count and users.
type Windows = BTreeMap<String, (u64, u64)>;

/// What a naive computation says of windows of one size; with objects, those are told apart.
fn naive(actions: &[Value], seconds: i64, by_object: bool) -> Windows {
    let mut windows: BTreeMap<String, (u64, BTreeSet<String>)> = BTreeMap::new();
    for action in actions {
        let at: jiff::Timestamp = action["occurredAt"].as_str().unwrap().parse().unwrap();
        let start = at.as_second().div_euclid(seconds) * seconds;
        let time = |second| format!("{:.3}", jiff::Timestamp::from_second(second).unwrap());
        let mut key = vec![time(start), time(start + seconds)];
        let members = ["source", "type", "objectType", "objectId"];
        let named = members.iter().take(if by_object { 4 } else { 3 });
        key.extend(named.filter_map(|it| action[*it].as_str()).map(str::to_owned));
        let window = windows.entry(serde_json::to_string(&key).unwrap()).or_default();
        window.0 += 1;
        window.1.insert(action["userId"].to_string());
    }
    windows.into_iter().map(|(key, (count, users))| (key, (count, users.len() as u64))).collect()
}

/// Actions of an hour that ended long ago, in no order, some without an object.
fn history(seed: u64, length: u64) -> Vec<Value> {
    let begin = (now_ms() - 7_200_000) / 3_600_000 * 3_600_000;
    let mut state = seed * 2 + 1;
    let mut random = move |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let actions = (0..length).map(|_| {
        let event_type = ["like", "view", "share"][random(3) as usize];
        let post = random(20).to_string();
        let mut action = action(event_type, &post, begin + random(3_600_000) as i64);
        action["userId"] = format!("u{}", random(300)).into();
        action["source"] = ["http", "app"][random(2) as usize].into();
        if random(5) == 0 {
            let members = action.as_object_mut().unwrap();
            members.remove("objectType");
            members.remove("objectId");
        }
        action
    });
    actions.collect()
}

/// A world whose windows close soon after the last action.
async fn world(partitions: i32, sinks: &str) -> World {
    let mut world = World::with_partitions(partitions).await;
    world.set("aggregate-sinks", sinks);
    world.set("lateness-seconds", 0);
    world.set("quiet-seconds", 1);
    world
}

/// The last word of each window in the topic; each word says more than the one before.
async fn in_topic(world: &World, topic: &topic::Topic) -> Windows {
    let mut windows = Windows::new();
    for record in world.records(topic).await {
        let key = String::from_utf8(record.key.unwrap()).unwrap();
        let value: Value = serde_json::from_slice(&record.value.unwrap()).unwrap();
        let parts = ["windowStart", "windowEnd", "source", "type", "objectType", "objectId"];
        let parts: Vec<_> = parts.iter().filter_map(|it| value[*it].as_str()).collect();
        assert_eq!(key, serde_json::to_string(&parts).unwrap());
        let (count, users) = (value["count"].as_u64().unwrap(), value["users"].as_u64().unwrap());
        let before = windows.insert(key, (count, users));
        assert!(before.is_none_or(|before| before.0 < count), "{before:?} {value}");
    }
    windows
}

async fn in_table(world: &World) -> Windows {
    let rows = world
        .query(
            "select array_to_json(array_remove(array[
                        to_char(window_start at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
                        to_char(window_end at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
                        source, event_type, object_type, object_id], null))::text, count, users
               from action_aggregates",
        )
        .await;
    let window = |row: &tokio_postgres::Row| {
        let (count, users): (i64, i64) = (row.get(1), row.get(2));
        (row.get(0), (count as u64, users as u64))
    };
    let windows: Windows = rows.iter().map(window).collect();
    assert_eq!(windows.len(), rows.len());
    windows
}

/// Waits until the windows are as expected; shows how they differ if they never are.
async fn becomes(expected: &Windows, mut look: impl AsyncFnMut() -> Windows) {
    let begun = Instant::now();
    loop {
        let found = look().await;
        if found == *expected {
            return;
        }
        if begun.elapsed() > Duration::from_secs(60) {
            let mut wrong: Vec<_> = expected
                .iter()
                .filter(|(key, it)| found.get(*key) != Some(it))
                .map(|(key, it)| format!("{key}: expected {it:?}, found {:?}", found.get(key)))
                .collect();
            wrong.extend(found.keys().filter(|it| !expected.contains_key(*it)).cloned());
            panic!(
                "{} windows are wrong, such as {:#?}",
                wrong.len(),
                &wrong[..wrong.len().min(5)]
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_in_the_topic_are_those_of_a_naive_computation() {
    let world = world(3, "kafka").await;
    let alerter = world.start().await;
    let actions = history(1, 3_000);
    for part in actions.chunks(1_000) {
        world.send(part).await;
    }
    let expected = naive(&actions, 60, false);
    becomes(&expected, async || in_topic(&world, &topic::AGGREGATES).await).await;

    let late = history(2, 200);
    world.send(&late).await;
    let expected = naive(&[actions, late].concat(), 60, false);
    becomes(&expected, async || in_topic(&world, &topic::AGGREGATES).await).await;
    assert!(alerter.metric("alerter_aggregates_corrected_total") > 100.0);
    assert!(!world.exists(&topic::AGGREGATES_WITHIN).await);
    alerter.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sinks_are_right_across_stops_and_crashes() {
    let world = world(2, "kafka,postgres").await;
    let mut actions = Vec::new();
    for round in 0..6 {
        let alerter = world.start().await;
        let more = history(round, 400);
        world.send(&more).await;
        actions.extend(more);
        if round % 2 == 0 {
            // Somewhere in the middle of it.
            eventually("something is told", async || {
                (alerter.metric("alerter_partials_consumed_total") > 0.0).then_some(())
            })
            .await;
            alerter.crash().await;
        } else {
            alerter.stop().await;
        }
    }
    let alerter = world.start().await;
    let expected = naive(&actions, 60, false);
    becomes(&expected, async || in_topic(&world, &topic::AGGREGATES).await).await;
    becomes(&expected, async || in_table(&world).await).await;
    alerter.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_sinks_there_is_nothing() {
    let world = world(2, "none").await;
    let alerter = world.start().await;
    world.send(&history(1, 200)).await;
    world.wait_consumed().await;
    alerter.stop().await;
    for topic in [&topic::AGGREGATES, &topic::AGGREGATES_WITHIN, &topic::PARTIALS, &topic::TOTALS] {
        assert!(!world.exists(topic).await, "{}", topic.name);
    }
    assert_eq!(in_table(&world).await, Windows::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_may_be_switched_and_nothing_is_lost_or_told_twice() {
    let mut world = world(2, "kafka,postgres").await;
    let mut actions = Vec::new();
    for (round, sinks) in
        ["kafka,postgres", "postgres", "kafka", "kafka,postgres"].iter().enumerate()
    {
        world.set("aggregate-sinks", sinks);
        let alerter = world.start().await;
        let more = history(round as u64, 300);
        world.send(&more).await;
        actions.extend(more);
        world.wait_consumed().await;
        // Not all of it is in the sinks of this round: those of the next go on with it.
        alerter.stop().await;
    }
    let alerter = world.start().await;
    let expected = naive(&actions, 60, false);
    becomes(&expected, async || in_table(&world).await).await;
    alerter.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_of_several_sizes_and_of_single_objects() {
    let mut world = world(4, "kafka,postgres").await;
    world.set("aggregate-window-seconds", "60,300,3600");
    world.set("aggregate-by", "type,object");
    let alerter = world.start().await;
    let actions = history(7, 1_500);
    world.send(&actions).await;
    let mut expected = Windows::new();
    for seconds in [60, 300, 3_600] {
        expected.extend(naive(&actions, seconds, false));
        expected.extend(naive(&actions, seconds, true));
    }
    becomes(&expected, async || in_topic(&world, &topic::AGGREGATES).await).await;
    becomes(&expected, async || in_table(&world).await).await;
    alerter.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_beyond_count_are_estimated_with_a_stated_error() {
    let world = world(3, "kafka,postgres").await;
    let alerter = world.start().await;
    let begin = (now_ms() - 7_200_000) / 60_000 * 60_000;
    let of = |users: std::ops::Range<usize>, event_type: &'static str| {
        users.map(move |user| {
            let mut action = action(event_type, &(user % 50).to_string(), begin);
            action["userId"] = format!("user-{user}").into();
            action
        })
    };
    let actions: Vec<_> = of(0..500, "few").chain(of(0..5_000, "many")).collect();
    world.send(&actions).await;
    world.send(&actions).await;
    let rows = eventually("both windows are complete", async || {
        let rows = world
            .query("select count, users, users_error from action_aggregates order by event_type")
            .await;
        let counts: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        (counts == [1_000, 10_000]).then_some(rows)
    })
    .await;
    let told: Vec<(i64, f64)> = rows.iter().map(|row| (row.get(1), row.get(2))).collect();
    assert_eq!(told[0], (500, 0.0), "few are counted exactly");
    let (users, error) = told[1];
    assert!(error > 0.0);
    assert!((users as f64 - 5_000.0).abs() < 3.0 * error * 5_000.0, "{users} ± {error}");
    alerter.stop().await;
}

/// The lines of all files; their names must not claim an offset twice.
fn in_files(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut claimed: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some(name) = name.strip_suffix(".ndjson.zst").filter(|it| !it.starts_with('.')) else {
            continue;
        };
        let (partition, offsets) = name.rsplit_once('.').unwrap();
        let (from, to) = offsets.split_once('-').unwrap();
        let range = (from.parse().unwrap(), to.parse().unwrap());
        claimed.entry(partition.to_owned()).or_default().push(range);
        let text = zstd::decode_all(&*std::fs::read(&path).unwrap()).unwrap();
        lines.extend(String::from_utf8(text).unwrap().lines().map(str::to_owned));
    }
    for ranges in claimed.values_mut() {
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|two| two[0].1 <= two[1].0), "{ranges:?}");
    }
    lines.sort_unstable();
    lines
}

async fn lines_of(world: &World, topic: &topic::Topic) -> Vec<String> {
    let records = world.records(topic).await.into_iter();
    let mut lines: Vec<_> =
        records.map(|it| String::from_utf8(it.value.unwrap().into()).unwrap()).collect();
    lines.sort_unstable();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn files_hold_each_record_once_across_stops_and_crashes() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = world(2, "files").await;
    world.set("aggregate-files", directory.path().display());
    world.set("aggregate-file-seconds", 1);
    let mut actions = Vec::new();
    for round in 0..4 {
        let alerter = world.start().await;
        let more = history(round, 300);
        world.send(&more).await;
        actions.extend(more);
        eventually("a file is written", async || {
            (alerter.metric("alerter_aggregates_stored_total") > 0.0).then_some(())
        })
        .await;
        if round % 2 == 0 {
            alerter.crash().await;
        } else {
            alerter.stop().await;
        }
    }
    let alerter = world.start().await;
    let expected = naive(&actions, 60, false);
    becomes(&expected, async || in_topic(&world, &topic::AGGREGATES_WITHIN).await).await;
    let lines = lines_of(&world, &topic::AGGREGATES_WITHIN).await;
    eventually("the files have all of it", async || {
        (in_files(directory.path()).len() >= lines.len()).then_some(())
    })
    .await;
    assert_eq!(in_files(directory.path()), lines);
    assert!(!world.exists(&topic::AGGREGATES).await, "nobody asked for the public topic");
    alerter.stop().await;
}
