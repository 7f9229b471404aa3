//! Safe retries: one key, one answer, one set of names, on all instances and whatever Redis forgets.

use fred::prelude::{ClientLike, HashesInterface, KeysInterface, ServerInterface};
use gateway::auth::Right;
use serde_json::json;

use crate::installation::{Answer, Gateway, Installation, answer, eventually, flush};
use crate::raw::Raw;
use crate::redis::Redis;

/// Brings neither an id nor a time.
const NAMELESS: &str = r#"{"userId":"u","type":"like"}"#;
const TWO: &str = r#"[{"userId":"u","type":"like"},{"userId":"u","type":"like"}]"#;

/// Longer than a loaded machine makes Redis wait.
const PATIENT: [&str; 2] = ["--idempotency-redis-ms-max", "20000"];

async fn submit(gateway: &Gateway, key: &str, body: &'static str) -> Answer {
    submit_to(gateway, "/api/events", key, body).await
}

async fn submit_to(gateway: &Gateway, path: &str, key: &str, body: &'static str) -> Answer {
    answer(gateway.request(path).header("idempotency-key", key).body(body)).await
}

fn ids(answer: &Answer) -> Vec<&str> {
    let results = answer.json["results"].as_array().unwrap().iter();
    results.map(|it| it["eventId"].as_str().unwrap()).collect()
}

async fn entry(tallyman: &Installation) -> String {
    let redis = tallyman.redis().await;
    let scan: (String, Vec<String>) = redis
        .custom(fred::cmd!("SCAN"), vec!["0", "MATCH", "tm:idempotency:*", "COUNT", "1000"])
        .await
        .unwrap();
    scan.1.into_iter().next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_gateway_answered_another_answers_again() {
    let tallyman = Installation::new().await;
    let (one, other) = (tallyman.start(&PATIENT).await, tallyman.start(&PATIENT).await);
    let key = one.write_key.clone();
    let first = submit(&one, "\"order 1\"", TWO).await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (202, ""));
    let again = |gateway: &Gateway| {
        gateway
            .client
            .post(gateway.url("/api/events/"))
            .header("x-api-key", &key)
            .header("idempotency-key", "\"order 1\"")
            .body(TWO)
    };
    for gateway in [&one, &other] {
        let replayed = answer(again(gateway)).await;
        assert_eq!((replayed.status, replayed.header("idempotent-replayed")), (202, "true"));
        assert_eq!(replayed.header("content-type"), "application/json");
        assert_eq!(replayed.json, first.json);
        assert!(!replayed.header("x-request-id").is_empty());
    }
    assert_eq!(tallyman.records().await.len(), 2, "nothing was published again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_holds_within_its_credential_and_path() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&PATIENT).await;
    let stranger = tallyman.store().create("other", Right::Write).await.unwrap().secret;
    let request = gateway.client.post(gateway.url("/api/events")).header("idempotency-key", "1");
    let theirs = answer(request.bearer_auth(stranger).body(NAMELESS)).await;
    let ours = submit(&gateway, "1", NAMELESS).await;
    let elsewhere = submit_to(&gateway, "/product_events", "1", NAMELESS).await;
    let keyless = gateway.submit(NAMELESS).await;
    let mut all: Vec<_> =
        [&theirs, &ours, &elsewhere, &keyless].into_iter().flat_map(ids).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 4);
    assert_eq!(tallyman.records().await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_used_for_something_else_is_refused() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&PATIENT).await;
    assert_eq!(submit(&gateway, "k", NAMELESS).await.status, 202);
    let other = submit(&gateway, "k", TWO).await;
    assert_eq!((other.status, &other.json["code"]), (422, &json!("idempotency_key_reused")));
    assert_eq!(other.header("content-type"), "application/problem+json");
    for unusable in ["", "two words", "\"open", &"x".repeat(256)] {
        let refused = submit(&gateway, unusable, NAMELESS).await;
        assert_eq!(
            (refused.status, &refused.json["code"]),
            (400, &json!("invalid_idempotency_key")),
            "{unusable}"
        );
    }
    assert_eq!(submit(&gateway, &"x".repeat(255), NAMELESS).await.status, 202);
    assert_eq!(tallyman.records().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_answered_again_as_it_was() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&PATIENT).await;
    let refused = submit(&gateway, "k", r#"[{"userId":"u"}]"#).await;
    let again = submit(&gateway, "k", r#"[{"userId":"u"}]"#).await;
    assert_eq!((refused.status, again.status), (422, 422));
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.header("content-type"), "application/problem+json");
    assert_eq!(again.json, refused.json);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_and_after_it_forgot_the_names_are_the_same() {
    let redis = Redis::start().await;
    let tallyman = Installation::new().await.with_redis(redis.url());
    let gateway = tallyman.start(&[]).await;
    let first = submit(&gateway, "k", TWO).await;
    assert_eq!(first.status, 202);
    flush(&tallyman.redis().await).await;
    let forgotten = submit(&gateway, "k", TWO).await;
    redis.signal("-STOP").await;
    let silent = submit(&gateway, "k", TWO).await;
    redis.signal("-CONT").await;
    redis.kill().await;
    let away = submit(&gateway, "k", TWO).await;
    for again in [&forgotten, &silent, &away] {
        assert_eq!((again.status, again.header("idempotent-replayed")), (202, ""));
        assert_eq!(ids(again), ids(&first));
    }
    let mut records = tallyman.event_ids().await;
    assert_eq!(records.len(), 8);
    records.dedup();
    let mut expected = ids(&first);
    expected.sort_unstable();
    assert_eq!(records, expected, "what counts is two events");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_is_not_worked_on_twice() {
    let tallyman = Installation::new().await;
    let settings = [&PATIENT[..], &["--gateway-linger-ms", "2000"]].concat();
    let (slow, other) = (tallyman.start(&settings).await, tallyman.start(&PATIENT).await);
    let key = slow.write_key.clone();
    let request = |gateway: &Gateway| {
        let post = gateway.client.post(gateway.url("/api/events")).header("x-api-key", &key);
        answer(post.header("idempotency-key", "k").body(TWO))
    };
    let working = request(&slow);
    let asking = async {
        let claimed = || async {
            let redis = tallyman.redis().await;
            let keys: u64 = redis.dbsize().await.unwrap();
            keys > 0
        };
        eventually("it is claimed", claimed).await;
        request(&other).await
    };
    let (first, meanwhile) = tokio::join!(working, asking);
    assert_eq!((meanwhile.status, &meanwhile.json["code"]), (409, &json!("request_in_flight")));
    assert_eq!(meanwhile.header("retry-after"), "1");
    assert_eq!(first.status, 202);
    let afterwards = request(&other).await;
    assert_eq!((afterwards.status, afterwards.header("idempotent-replayed")), (202, "true"));
    assert_eq!(afterwards.json, first.json);
    assert_eq!(tallyman.records().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_gateway_dies_before_it_stored_its_answer_the_retry_publishes_the_same_ids() {
    let tallyman = Installation::new().await;
    let (dead, heir) = (tallyman.start(&PATIENT).await, tallyman.start(&PATIENT).await);
    let key = dead.write_key.clone();
    let first = submit(&dead, "k", TWO).await;
    dead.stop().await.unwrap();
    // What Redis holds when the process ends between the broker's acknowledgement and `store.lua`.
    let redis = tallyman.redis().await;
    let entry = entry(&tallyman).await;
    let _: () = redis.hdel(&entry, "answer").await.unwrap();
    let _: () = redis.hset(&entry, ("owner", "the dead one")).await.unwrap();
    let _: () = redis.pexpire(&entry, 1_500, None).await.unwrap();

    let retry = || {
        let post = heir.client.post(heir.url("/api/events")).header("x-api-key", &key);
        answer(post.header("idempotency-key", "k").body(TWO))
    };
    assert_eq!(retry().await.status, 409, "nobody knows yet that it is dead");
    eventually("the claim has run out", || async { retry().await.status == 202 }).await;
    let again = retry().await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (202, "true"));
    assert_eq!(ids(&again), ids(&first));
    let mut records = tallyman.event_ids().await;
    assert_eq!(records.len(), 4, "published twice");
    records.dedup();
    assert_eq!(records.len(), 2, "under the same names");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_may_come_back_at_once() {
    let tallyman = Installation::new().await;
    // Long enough to hang up in, also on a loaded machine: an acknowledged request is answered.
    let settings = [&PATIENT[..], &["--gateway-linger-ms", "3000"]].concat();
    let gateway = tallyman.start(&settings).await;
    // Nobody outside sees when events are queued, and who hangs up before that sends two only.
    for key in ["a", "b", "c", "d", "e"] {
        if records_of_hanging_up_and_coming_back(&tallyman, &gateway, key).await == 4 {
            return;
        }
    }
    panic!("its events were never queued when it hung up");
}

/// Always of the same two names.
async fn records_of_hanging_up_and_coming_back(
    tallyman: &Installation,
    gateway: &Gateway,
    key: &str,
) -> usize {
    let redis = tallyman.redis().await;
    let entries = || async {
        let keys: u64 = redis.dbsize().await.unwrap();
        keys
    };
    let (stored, mut before) = (entries().await, tallyman.event_ids().await);
    let mut hasty = Raw::connect(gateway).await;
    let length = format!("content-length: {}", TWO.len());
    hasty.send_head(gateway, &[&format!("idempotency-key: {key}"), &length]).await;
    hasty.send(TWO).await;
    eventually("it is claimed", || async { entries().await == stored + 1 }).await;
    drop(hasty);
    eventually("the claim is given up", || async { entries().await == stored }).await;
    assert_eq!(submit(gateway, key, TWO).await.status, 202);
    // What the first left in the queue lies before it in the log: one user, one partition.
    let mut after = tallyman.event_ids().await;
    let records = after.len() - before.len();
    before.dedup();
    after.dedup();
    assert_eq!(after.len() - before.len(), 2, "under the same names");
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_long_is_not_kept_and_nothing_counts_twice() {
    let tallyman = Installation::new().await;
    let gateway =
        tallyman.start(&[&PATIENT[..], &["--idempotency-answer-kib-max", "0"]].concat()).await;
    let first = submit(&gateway, "k", TWO).await;
    let again = submit(&gateway, "k", TWO).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (202, ""));
    assert_eq!(ids(&again), ids(&first));
    let metrics = gateway.get("/metrics").await.1;
    assert!(
        metrics.contains("gateway_idempotent_answers_total{outcome=\"too_large\"} 2"),
        "{metrics}"
    );
}
