//! The processor against real Kafka, Postgres and Redis.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod installation;
mod statistics;
mod upgrade;

use std::process::ExitCode;
use std::time::Duration;

use common::kafka::{GroupOffsets, TopicPartition};
use fred::prelude::{HashesInterface, KeysInterface, SortedSetsInterface};
use fred::types::scripts::Script;
use installation::{Installation, client, eventually, like};
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

#[tokio::test(flavor = "multi_thread")]
async fn copies_in_two_partitions_at_the_same_moment_are_one_row() {
    let tallyman = Installation::new().await;
    let processor = tallyman.start().await;
    let likes: Vec<_> = (0..3_000).map(|n| like(&format!("e{n}"), "p1")).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| tallyman.send(0, &likes));
        scope.spawn(|| tallyman.send(1, &likes));
    });
    tallyman.drained(6_000).await;
    assert_eq!(tallyman.rows().await, 3_000);
    assert_eq!(tallyman.likes("p1").await, 3_000);
    let mut unique = tallyman.unique_ids();
    unique.dedup();
    assert_eq!(unique.len(), 3_000);
    assert_eq!(tallyman.read_all("unique-actions", "origin").len(), 3_000);
    tallyman.audit().await;
    processor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_postgres_refuses_is_a_dead_letter_and_its_copy_is_judged_in_its_place() {
    let tallyman = Installation::new().await;
    tallyman.execute("alter table events add check (not properties ? 'poison')").await;
    let processor = tallyman.start().await;
    let poison =
        r#"{"eventId":"e1","userId":"u1","postId":"p1","type":"like","poison":1}"#.to_owned();
    let batch = [like("e0", "p1"), poison, like("e1", "p1"), like("e2", "p1")];
    tallyman.send(0, &batch);
    tallyman.drained(4).await;
    assert_eq!(tallyman.rows().await, 3);
    assert_eq!(tallyman.likes("p1").await, 3);
    let refused = "select count(*) from dead_letters where error_code = 'row_refused'";
    assert_eq!(tallyman.number(refused).await, 1);
    let letters = tallyman.read_all("user-actions.dlq", "error_code");
    assert_eq!(letters.len(), 1);
    assert_eq!((&*letters[0].0, &*letters[0].1), (&*batch[1], "row_refused"));
    tallyman.audit().await;
    processor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_foreign_type_refuses_its_own_sums_alone_and_the_audit_says_so() {
    let tallyman = Installation::new().await;
    let processor = tallyman.start().await;
    tallyman.send(0, &[like("e0", "p2")]);
    tallyman.drained(1).await;
    let refused = || processor.metric("processor_counters_refused_total");
    eventually("the counters are live", async || tallyman.likes("p2").await == 1).await;
    let _: () = tallyman.redis.hset("post:p1:likes", ("no", "counter")).await.unwrap();
    let _: () = tallyman.redis.set("top_posts:shares", "no set", None, None, false).await.unwrap();
    let share = |id: &str, post: &str| like(id, post).replace("like", "share");
    let batch = [like("e1", "p1"), like("e2", "p2"), share("e3", "p1"), share("e4", "p2")];
    tallyman.send(0, &batch);
    tallyman.drained(5).await;
    eventually("what is not refused is counted", async || tallyman.likes("p2").await == 2).await;
    let score: Option<f64> = tallyman.redis.zscore("top_posts", "post:p2").await.unwrap();
    let shares: Option<i64> = tallyman.redis.get("post:p2:shares").await.unwrap();
    assert_eq!((score, shares), (Some(2.0), Some(1)));
    // The metric comes after Redis has answered.
    eventually("the refused sums are told", async || refused() >= 3.0).await;
    assert_eq!(refused(), 3.0, "a counter, and the two members of a sorted set");
    assert_eq!(tallyman.audited().await, ExitCode::FAILURE);
    processor.stop().await;
}

/// Postgres can forget what was inserted into a range while it was summarised: migration 0017.
#[tokio::test(flavor = "multi_thread")]
async fn no_index_of_ranges_is_asked_for_what_must_be_whole() {
    let tallyman = Installation::new().await;
    let processor = tallyman.start().await;
    let by_ranges = "select count(*) from pg_index as i join pg_class as c on c.oid = i.indexrelid
                       join pg_am as method on method.oid = c.relam
                       join pg_attribute as a on a.attrelid = i.indexrelid
                      where c.relnamespace = current_schema()::regnamespace
                        and method.amname = 'brin' and a.attname <> 'occurred_at'";
    assert_eq!(tallyman.number(by_ranges).await, 0);
    let analysed = "select count(*) from pg_attribute join pg_inherits on attrelid = inhrelid
                     where inhparent = 'events'::regclass
                       and attname in ('properties', 'context') and attstattarget <> 0";
    assert_eq!(tallyman.number(analysed).await, 0);
    processor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_at_any_moment_cost_nothing() {
    let tallyman = Installation::new().await;
    let processor = tallyman.start().await;
    let likes: Vec<_> = (0..20_000).map(|n| like(&format!("e{}", n % 16_000), "p1")).collect();
    tallyman.send(0, &likes[..10_000]);
    tallyman.send(1, &likes[10_000..]);
    // Sessions of this installation are told by the schema in which they work. Autovacuum works there
    // too, but it is a superuser's and has no name here.
    let cut = "select count(pg_terminate_backend(pid))
                 from pg_locks join pg_stat_activity using (pid)
                where relation = 'consumer_ledger'::regclass
                  and usename = current_user and pid <> pg_backend_pid()";
    let consumed = "select (coalesce(sum(consumed), 0))::bigint from consumer_ledger";
    let mut cuts = 0;
    while cuts < 12 && tallyman.number(consumed).await < 20_000 {
        cuts += tallyman.number(cut).await;
    }
    assert!(cuts > 0, "everything was judged before a session could be cut");
    tallyman.drained(20_000).await;
    assert_eq!(tallyman.rows().await, 16_000);
    assert_eq!(tallyman.likes("p1").await, 16_000);
    assert_eq!(tallyman.unique_ids().len(), 16_000);
    tallyman.audit().await;
    processor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_owner_is_refused_and_takes_the_partition_again() {
    let tallyman = Installation::new().await;
    let processor = tallyman.start().await;
    tallyman.send(0, &[like("e1", "p1")]);
    tallyman.drained(1).await;
    tallyman.execute("update consumer_ledger set owner_epoch = owner_epoch + 5").await;
    tallyman.send(0, &[like("e1", "p1"), like("e2", "p1")]);
    tallyman.drained(3).await;
    assert_eq!(tallyman.rows().await, 2);
    let epoch = "select owner_epoch from consumer_ledger where partition = 0";
    assert_eq!(tallyman.number(epoch).await, 7, "taken, usurped by five, taken again");
    tallyman.audit().await;
    processor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_topic_halts_its_partitions_loudly() {
    let tallyman = Installation::new().await;
    let processor = tallyman.start().await;
    tallyman.send(0, &[like("e1", "p1")]);
    tallyman.drained(1).await;
    processor.stop().await;
    let topic = tallyman.topic("user-actions");
    let (admin, options) = tallyman.admin();
    admin.delete_topics(&[&topic], &options).await.unwrap();
    let recreate = || async {
        let new = NewTopic::new(&topic, 2, TopicReplication::Fixed(1))
            .set("message.timestamp.type", "LogAppendTime");
        admin.create_topics(&[new], &options).await.unwrap()[0].is_ok()
    };
    eventually("the topic can be created anew", recreate).await;
    let processor = tallyman.start().await;
    tallyman.send(0, &[like("e2", "p1"), like("e3", "p1")]);
    eventually("the daemon says that it halts", || async {
        !processor.context.readiness.is_ready()
    })
    .await;
    assert_eq!(tallyman.rows().await, 1, "nothing is judged on another topic's ledger");
    processor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_group_offset_is_found_again_in_the_output_topics() {
    let tallyman = Installation::new().await;
    let processor = tallyman.start().await;
    tallyman.send(0, &[like("e1", "p1"), "no event".to_owned(), like("e2", "p1")]);
    tallyman.drained(3).await;
    processor.stop().await;
    let (admin, options) = tallyman.admin();
    let group = tallyman.config.consumer_group.as_str();
    let deleted = || async { admin.delete_groups(&[group], &options).await.unwrap()[0].is_ok() };
    eventually("the group is empty and can be deleted", deleted).await;
    let processor = tallyman.start().await;
    tallyman.send(0, &[like("e2", "p1"), like("e3", "p1")]);
    tallyman.drained(5).await;
    assert_eq!(tallyman.unique_ids(), ["e1", "e2", "e3"]);
    assert_eq!(tallyman.read_all("user-actions.dlq", "error_code").len(), 1);
    processor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_script_that_comes_late_twice_or_too_early_changes_nothing() {
    let tallyman = Installation::new().await;
    let anchor = [("epoch", "1-1"), ("state", "live")];
    let _: () = tallyman.redis.hset("tm:counters", anchor.to_vec()).await.unwrap();
    let script = Script::from_lua(include_str!("../../src/follow/count.lua"));
    let count = async |epoch: &str, from: i64, to: i64| -> String {
        let keys = ["tm:counters", "top_posts", "post:p1:likes"];
        let action = ":likes".len().to_string();
        let args = [epoch, "7", "0", &from.to_string(), &to.to_string(), "1", &action, "5"];
        let args: Vec<String> = args.map(str::to_owned).to_vec();
        let answer: (String, i64) =
            script.evalsha_with_reload(&tallyman.redis, keys.to_vec(), args).await.unwrap();
        answer.0
    };
    assert_eq!(count("1-1", 0, 10).await, "applied");
    for (epoch, from, to, answer) in
        [("1-1", 0, 10, "done"), ("1-1", 20, 30, "gap"), ("0-9", 10, 20, "stale")]
    {
        assert_eq!(count(epoch, from, to).await, answer);
        assert_eq!(tallyman.likes("p1").await, 5, "after {answer}");
    }
    assert_eq!(count("1-1", 10, 20).await, "applied");
    assert_eq!(tallyman.likes("p1").await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_redis_is_rebuilt_and_counts_on() {
    let tallyman = Installation::new().await;
    let processor = tallyman.start().await;
    tallyman.send(0, &[like("e1", "p1"), like("e2", "p1")]);
    tallyman.drained(2).await;
    eventually("both are counted", || async { tallyman.likes("p1").await == 2 }).await;
    tallyman.flush_redis().await;
    tallyman.send(1, &[like("e2", "p1"), like("e3", "p1")]);
    eventually("the counter is back", || async { tallyman.likes("p1").await == 3 }).await;
    tallyman.audit().await;
    processor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aborted_transactions_of_a_producer_are_neither_counted_nor_lag() {
    let tallyman = Installation::new().await;
    let processor = tallyman.start().await;
    let producer: BaseProducer =
        client(&tallyman.config).set("transactional.id", tallyman.topic("x")).create().unwrap();
    producer.init_transactions(Duration::from_secs(10)).unwrap();
    for (id, commit) in [("e1", true), ("e2", false), ("e3", true)] {
        producer.begin_transaction().unwrap();
        let (topic, value) = (tallyman.topic("user-actions"), like(id, "p1"));
        let record = BaseRecord::<(), _>::to(&topic).partition(0).payload(&value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(Duration::from_secs(10)).unwrap();
        match commit {
            true => producer.commit_transaction(Duration::from_secs(10)).unwrap(),
            false => producer.abort_transaction(Duration::from_secs(10)).unwrap(),
        }
    }
    tallyman.drained(2).await;
    let source = TopicPartition { topic: tallyman.topic("user-actions"), partition: 0 };
    let offsets =
        GroupOffsets::of(&tallyman.config.kafka, &tallyman.config.consumer_group).unwrap();
    let high = offsets.watermarks(&source).await.unwrap().high;
    assert_eq!(high, 6, "three records and three control records");
    let next = "select next_offset from consumer_ledger where partition = 0";
    eventually("the ledger passes the last control record", || async {
        tallyman.number(next).await == high
    })
    .await;
    assert_eq!(tallyman.unique_ids(), ["e1", "e3"]);
    tallyman.audit().await;
    processor.stop().await;
    // Who comes next begins behind the control record, too, and is not taken for somebody else.
    let epoch = "select owner_epoch from consumer_ledger where partition = 0";
    let before = tallyman.number(epoch).await;
    let processor = tallyman.start().await;
    eventually("it is taken again", async || tallyman.number(epoch).await > before).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(tallyman.number(epoch).await, before + 1);
    processor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_any_name_and_length_stop_no_partition() {
    let tallyman = Installation::new().await;
    let processor = tallyman.start().await;
    let long: String = (0..200).map(|_| uuid::Uuid::new_v4().simple().to_string()).collect();
    tallyman.send_with_header(0, b"caf\xe9=1", &like("e1", "p1"));
    tallyman.send_with_header(0, format!("error_code={long}").as_bytes(), &like("e2", "p1"));
    tallyman.send(0, &[like("e3", "p1")]);
    tallyman.drained(3).await;
    assert_eq!(tallyman.unique_ids(), ["e1", "e3"]);
    let letters = tallyman.read_all("user-actions.dlq", "error_code");
    assert_eq!(letters.len(), 1);
    assert_eq!((&*letters[0].0, &*letters[0].1), (&*like("e2", "p1"), "refused"));
    tallyman.audit().await;
    processor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_postgres_makes_every_cache_void() {
    let tallyman = Installation::new().await;
    let processor = tallyman.start().await;
    tallyman.send(0, &[like("e1", "p1")]);
    tallyman.drained(1).await;
    processor.stop().await;
    tallyman.execute("update generation set timeline = 'FFFFFFFF'").await;
    let processor = tallyman.start().await;
    tallyman.send(0, &[like("e1", "p1"), like("e2", "p1")]);
    tallyman.drained(3).await;
    assert_eq!(tallyman.number("select n from generation").await, 2);
    eventually("the counters are counted anew", || async { tallyman.likes("p1").await == 2 }).await;
    let epoch: Option<String> = tallyman.redis.hget("tm:counters", "epoch").await.unwrap();
    assert!(epoch.is_some_and(|epoch| epoch.starts_with("2-")));
    tallyman.audit().await;
    processor.stop().await;
}
