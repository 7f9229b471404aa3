//! Spikes: a sharp rise against a post's own past, judged by event time, told once.

use common::notification::{Notification, Rule, Severity, Status};
use serde_json::Value;

use crate::world::{World, eventually, likes, now_ms};

const MINUTE_MS: i64 = 60_000;

/// The start of the minute that lies so many before the present one.
fn minutes_ago(minutes: i64) -> i64 {
    (now_ms() / MINUTE_MS - minutes) * MINUTE_MS
}

/// The story of a post, one number of likes for each window from `start_ms` on.
fn story(post: &str, start_ms: i64, window_ms: i64, counts: &[usize]) -> Vec<Value> {
    let windows = counts.iter().enumerate();
    windows
        .flat_map(|(window, count)| {
            likes(post, start_ms + window as i64 * window_ms, window_ms, *count)
        })
        .collect()
}

/// Twenty windows of at most three likes.
const CALM: [usize; 20] = [1, 0, 3, 2, 1, 1, 2, 0, 3, 3, 1, 2, 0, 1, 3, 2, 2, 1, 3, 1];

fn with_rise(rise: &[usize]) -> Vec<usize> {
    [&CALM, rise].concat()
}

async fn spikes_of(world: &World, post: &str) -> Vec<Notification> {
    let mut told = world.told_by(Rule::Spike).await;
    told.retain(|it| it.subject == format!("post/{post}"));
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rise_is_told_once_and_steady_or_new_posts_are_not() {
    let world = World::with_partitions(1).await;
    let alerter = world.start().await;
    let start_ms = minutes_ago(30);
    let mut actions = story("rising", start_ms, MINUTE_MS, &with_rise(&[64, 70, 90, 40, 60]));
    actions.extend(story("steady", start_ms, MINUTE_MS, &[70; 25]));
    actions.extend(story("new", start_ms + 20 * MINUTE_MS, MINUTE_MS, &[60, 80, 70, 75, 80]));
    actions.sort_by_key(|it| it["occurredAt"].to_string());
    world.send(&actions).await;
    world.wait_told(Rule::Spike, "post/rising").await;
    // A last rise, later in the same partition: what lies before it has been judged.
    world.send(&story("last", start_ms, MINUTE_MS, &with_rise(&[0, 0, 0, 0, 0, 0, 0, 60]))).await;
    world.wait_told(Rule::Spike, "post/last").await;
    alerter.stop().await;
    world.settle().await;
    let spikes = spikes_of(&world, "rising").await;
    assert_eq!(spikes.len(), 1, "{spikes:#?}");
    let data = &spikes[0].data;
    let window = data.window.unwrap();
    assert_eq!(window.start.as_millisecond(), start_ms + 20 * MINUTE_MS);
    assert_eq!(window.end.as_millisecond(), start_ms + 21 * MINUTE_MS);
    assert_eq!((data.severity, data.status), (Severity::Warning, Status::Firing));
    assert_eq!(data.observed, 64.0);
    assert!(data.expected > 1.0 && data.expected < 3.0, "{data:?}");
    assert!(data.score.unwrap() > 6.0, "{data:?}");
    assert_eq!(spikes_of(&world, "steady").await, []);
    assert_eq!(spikes_of(&world, "new").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_falls_silent_closes_its_windows_by_the_wall_clock() {
    let mut world = World::with_partitions(1).await;
    world.set("window-seconds", 2);
    world.set("lateness-seconds", 1);
    world.set("quiet-seconds", 1);
    let alerter = world.start().await;
    let window_ms = 2_000;
    let last_ms = now_ms() / window_ms * window_ms;
    let start_ms = last_ms - 20 * window_ms;
    world.send(&story("quiet", start_ms, window_ms, &CALM)).await;
    // All at the very start of the window: nothing after them moves event time past its end.
    world.send(&likes("quiet", last_ms, 1, 60)).await;
    let told = world.wait_told(Rule::Spike, "post/quiet").await;
    let end_ms = told.data.window.unwrap().end.as_millisecond();
    assert_eq!(end_ms, last_ms + window_ms);
    assert!(now_ms() < end_ms + 1_000 + 15_000, "{} ms late", now_ms() - end_ms);
    assert!(now_ms() >= end_ms + 1_000, "told before the lateness had passed");
    alerter.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_replayed_into_a_quiet_stream_is_judged_by_its_own_time() {
    let mut world = World::with_partitions(1).await;
    world.set("quiet-seconds", 1);
    let alerter = world.start().await;
    // The wall clock is followed from the moment this late rise is told.
    world.send(&story("first", minutes_ago(40), MINUTE_MS, &with_rise(&[60]))).await;
    world.wait_told(Rule::Spike, "post/first").await;
    // Three days: one steady, then a rise in the middle of the second, the rest calm again.
    let start_ms = minutes_ago(20 * 1_440);
    let mut counts = vec![2; 3 * 1_440];
    counts[2_000] = 80;
    counts[2_001] = 90;
    world.send(&story("old", start_ms, MINUTE_MS, &counts)).await;
    world.wait_told(Rule::Spike, "post/old").await;
    world.send(&story("last", minutes_ago(40), MINUTE_MS, &with_rise(&[60]))).await;
    world.wait_told(Rule::Spike, "post/last").await;
    alerter.stop().await;
    world.settle().await;
    let spikes = spikes_of(&world, "old").await;
    assert_eq!(spikes.len(), 1, "{spikes:#?}");
    assert_eq!(spikes[0].data.observed, 80.0);
    let begin = spikes[0].data.window.unwrap().start.as_millisecond();
    assert_eq!(begin, start_ms + 2_000 * MINUTE_MS);
}

#[tokio::test(flavor = "multi_thread")]
async fn late_likes_make_a_closed_window_fire_once_more_complete() {
    let mut world = World::with_partitions(1).await;
    world.set("quiet-seconds", 1);
    let alerter = world.start().await;
    let start_ms = minutes_ago(40);
    // Twelve likes are no spike; the window is over, and has been judged, when the rest comes.
    world.send(&story("late", start_ms, MINUTE_MS, &with_rise(&[12, 1, 1]))).await;
    world.send(&story("other", start_ms, MINUTE_MS, &with_rise(&[0, 0, 0, 60, 0, 0]))).await;
    world.wait_told(Rule::Spike, "post/other").await;
    assert_eq!(spikes_of(&world, "late").await, []);
    for _ in 0..4 {
        world.send(&likes("late", start_ms + 20 * MINUTE_MS, MINUTE_MS, 12)).await;
    }
    let told = world.wait_told(Rule::Spike, "post/late").await;
    assert_eq!(told.data.observed, 60.0);
    // More of them correct it further, and say nothing new.
    world.send(&likes("late", start_ms + 20 * MINUTE_MS, MINUTE_MS, 50)).await;
    world.send(&story("last", start_ms, MINUTE_MS, &with_rise(&[60]))).await;
    world.wait_told(Rule::Spike, "post/last").await;
    assert!(alerter.metric("alerter_events_late_total") >= 98.0);
    alerter.stop().await;
    world.settle().await;
    assert_eq!(spikes_of(&world, "late").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_of_a_post_outlives_a_crash_and_so_does_what_was_told() {
    let mut world = World::with_partitions(1).await;
    world.set("quiet-seconds", 1);
    let start_ms = minutes_ago(40);
    let alerter = world.start().await;
    world.send(&story("1", start_ms, MINUTE_MS, &CALM)).await;
    world.wait_consumed().await;
    alerter.crash().await;

    let alerter = world.start().await;
    world.send(&likes("1", start_ms + 20 * MINUTE_MS, MINUTE_MS, 60)).await;
    world.wait_told(Rule::Spike, "post/1").await;
    alerter.crash().await;

    let alerter = world.start().await;
    world.send(&likes("1", start_ms + 21 * MINUTE_MS, MINUTE_MS, 60)).await;
    world.send(&story("last", start_ms, MINUTE_MS, &with_rise(&[0, 60]))).await;
    world.wait_told(Rule::Spike, "post/last").await;
    eventually("the windows are judged", async || {
        (alerter.metric("alerter_windows_judged_total") >= 3.0).then_some(())
    })
    .await;
    alerter.stop().await;
    world.settle().await;
    assert_eq!(spikes_of(&world, "1").await.len(), 1);
}
