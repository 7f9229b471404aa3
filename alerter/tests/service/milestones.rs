//! Milestones: each once for all time, whatever the order and however often it is restarted.

use std::collections::BTreeMap;

use common::notification::{Rule, Severity, Status};
use serde_json::json;

use crate::world::{World, action, likes, now_ms};

const POSTS: [&str; 5] = ["1", "2", "3", "4", "5"];

/// What must have been told when each of the posts has so many likes and half as many views.
fn expected(likes: u64) -> BTreeMap<(String, u64), usize> {
    let mut expected = BTreeMap::new();
    for post in POSTS {
        for (event_type, count) in [("like", likes), ("view", likes / 2)] {
            for milestone in [10, 100, 1_000].into_iter().filter(|it| *it <= count) {
                expected.insert((format!("post/{post}/{event_type}"), milestone), 1);
            }
        }
    }
    expected
}

/// A part of the workload: of each post some likes and half as many views, their times shuffled
/// over an hour.
fn actions(likes: u64) -> Vec<serde_json::Value> {
    let begin = now_ms() - 3_600_000;
    let mut actions = Vec::new();
    for it in 0..likes as i64 {
        for post in POSTS {
            let at_ms = begin + it * 7_919_000 % 3_600_000;
            actions.push(action("like", post, at_ms));
            if it % 2 == 0 {
                actions.push(action("view", post, at_ms));
            }
        }
    }
    actions
}

#[tokio::test(flavor = "multi_thread")]
async fn each_milestone_is_told_once_across_stops_and_crashes() {
    let world = World::new().await;
    let mut sent = 0;
    for round in 0..6 {
        let alerter = world.start().await;
        world.send(&actions(40)).await;
        sent += 40;
        match round % 3 {
            0 => world.wait_consumed().await,
            1 => alerter.stop().await,
            // In the midst of it: it may have begun a transaction, or not.
            _ => alerter.crash().await,
        }
    }
    let last = world.start().await;
    world.wait_consumed().await;
    last.stop().await;
    world.settle().await;
    assert_eq!(world.milestones().await, expected(sent));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_milestone_says_who_owns_the_post_and_when_it_was_reached() {
    let world = World::new().await;
    let alerter = world.start().await;
    let begin = now_ms() - 60_000;
    let created = |post: &str, user: &str| {
        let mut created = action("publish", post, begin);
        created["userId"] = user.into();
        created
    };
    let mut named = action("view", "named", begin);
    named["properties"] = json!({"ownerId": "owner"});
    world.send(&[created("created", "author"), created("named", "author"), named]).await;
    for post in ["created", "named", "orphan"] {
        world.send(&likes(post, begin, 10, 10)).await;
    }
    world.wait_consumed().await;
    alerter.stop().await;
    world.settle().await;
    let told = world.told_by(Rule::Milestone).await;
    let owner_of = |post: &str| {
        let of_post = told.iter().find(|it| it.subject == format!("post/{post}")).unwrap();
        of_post.data.user_id.clone()
    };
    assert_eq!(owner_of("created").as_deref(), Some("author"));
    assert_eq!(owner_of("named").as_deref(), Some("owner"));
    assert_eq!(owner_of("orphan"), None);
    assert_eq!(told.len(), 3);
    for it in &told {
        assert_eq!((it.data.severity, it.data.status), (Severity::Info, Status::Info));
        assert_eq!(it.time.as_millisecond(), begin + 9);
        assert_eq!(it.data.window, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_action_is_counted_and_passed_over() {
    let world = World::with_partitions(1).await;
    let alerter = world.start().await;
    for bytes in [None, Some(&b""[..]), Some(b"{}"), Some(b"\xff\xfe"), Some(b"[1,2]")] {
        world.send_bytes(0, bytes).await;
    }
    let mut timeless = action("like", "1", 0);
    timeless["occurredAt"] = "yesterday".into();
    world.send(&[timeless]).await;
    world.send(&likes("1", now_ms(), 10, 10)).await;
    world.wait_told(Rule::Milestone, "post/1").await;
    assert_eq!(alerter.metric("alerter_records_unreadable_total"), 6.0);
    alerter.stop().await;
}
