//! Partitions change hands: two alerters, one stopped, crashed or fenced, and nothing told twice.

use std::collections::BTreeMap;

use common::kafka::{GroupOffsets, TopicPartition, TransactionalProducer, ensure_topics};
use common::notification::Rule;
use common::topic;

use crate::world::{World, likes, now_ms};

const POSTS: usize = 20;

fn round() -> Vec<serde_json::Value> {
    let at_ms = now_ms();
    (0..POSTS).flat_map(|post| likes(&post.to_string(), at_ms, 10, 5)).collect()
}

/// What must have been told after so many rounds of five likes.
fn expected(rounds: u64) -> BTreeMap<(String, u64), usize> {
    let reached = move |it: &u64| *it <= rounds * 5;
    let all = (0..POSTS).flat_map(move |post| {
        let milestones = [10, 100, 1_000].into_iter().filter(reached);
        milestones.map(move |milestone| ((format!("post/{post}/like"), milestone), 1))
    });
    all.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_alerters_share_the_partitions_and_one_goes_on_alone() {
    let world = World::with_partitions(4).await;
    let first = world.start().await;
    world.send(&round()).await;
    let second = world.start().await;
    for _ in 0..9 {
        world.send(&round()).await;
    }
    first.wait_owns(2).await;
    second.wait_owns(2).await;
    for _ in 0..5 {
        world.send(&round()).await;
    }
    first.stop().await;
    for _ in 0..10 {
        world.send(&round()).await;
    }
    world.wait_consumed().await;
    second.wait_owns(4).await;
    second.stop().await;
    world.settle().await;
    assert_eq!(world.milestones().await, expected(25));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alerter_takes_over_what_a_crashed_one_left_half_done() {
    let world = World::with_partitions(4).await;
    let survivor = world.start().await;
    for _ in 0..3 {
        let other = world.start().await;
        other.wait_owns(2).await;
        for _ in 0..5 {
            world.send(&round()).await;
        }
        other.crash().await;
        world.send(&round()).await;
    }
    world.send(&round()).await;
    world.send(&round()).await;
    world.wait_consumed().await;
    survivor.stop().await;
    world.settle().await;
    assert_eq!(world.milestones().await, expected(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_fenced_forgets_what_it_knew_and_takes_the_partition_again() {
    let world = World::with_partitions(1).await;
    let alerter = world.start().await;
    world.send(&round()).await;
    world.wait_consumed().await;
    let source = TopicPartition { topic: world.topic(&topic::UNIQUE_ACTIONS), partition: 0 };
    let offsets = GroupOffsets::of(&world.kafka, world.group()).unwrap();
    let transactional_id = format!("{}/{source}", world.group());
    let rival = TransactionalProducer::fence(&world.kafka, &transactional_id, offsets).await;
    world.send(&round()).await;
    world.wait_consumed().await;
    let fenced = alerter.metric("alerter_transactions_failed_total");
    assert!(fenced >= 1.0, "nobody was fenced");
    assert!(rival.is_ok(), "the test took the identity");
    alerter.stop().await;
    world.settle().await;
    assert_eq!(world.milestones().await, expected(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_offsets_are_lost_counts_nothing_again() {
    let world = World::with_partitions(1).await;
    let alerter = world.start().await;
    for _ in 0..3 {
        world.send(&round()).await;
    }
    world.wait_consumed().await;
    alerter.stop().await;
    world.forget_offsets().await;
    let alerter = world.start().await;
    world.send(&round()).await;
    world.wait_consumed().await;
    for _ in 4..19 {
        world.send(&round()).await;
    }
    world.wait_consumed().await;
    alerter.stop().await;
    world.settle().await;
    assert_eq!(world.milestones().await, expected(19), "95 likes: the hundredth is not reached");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_offset_that_stays_undecided_holds_no_partition_back() {
    let world = World::with_partitions(1).await;
    let alerter = world.start().await;
    world.send(&round()).await;
    world.wait_consumed().await;
    alerter.stop().await;
    world.leave_offset_undecided().await;
    let alerter = world.start().await;
    for _ in 1..19 {
        world.send(&round()).await;
    }
    for post in 0..POSTS {
        world.wait_told(Rule::Milestone, &format!("post/{post}")).await;
    }
    world.decide_offset().await;
    world.wait_consumed().await;
    alerter.stop().await;
    world.settle().await;
    assert_eq!(world.milestones().await, expected(19), "95 likes: the hundredth is not reached");
}

#[tokio::test(flavor = "multi_thread")]
async fn unequal_partition_counts_are_refused_with_the_remedy() {
    let world = World::with_partitions(3).await;
    let other = common::config::KafkaConfig { kafka_partitions: 2, ..world.kafka.clone() };
    ensure_topics(&other, &[&topic::ALERTER_STATE]).await.unwrap();
    let context = common::daemon::Context::default();
    let refused = alerter::app::App::connect(world.config(), &context).await;
    let message = refused.err().expect("it is refused").to_string();
    assert!(message.contains("has 3 partitions"), "{message}");
    assert!(message.contains("tm.alerter-state has 2"), "{message}");
}
