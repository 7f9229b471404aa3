//! Limits: shared by instances, alive without Redis, charged to the right one, told in headers.

use std::time::Duration;

use fred::prelude::ServerInterface;
use gateway::auth::Right;
use serde_json::json;
use tokio::time::timeout;

use crate::installation::{Answer, Gateway, Installation, answer, eventually};
use crate::redis::Redis;

const EVENT: &str = r#"{"userId":"u","type":"like"}"#;

/// Longer than a loaded machine makes Redis wait: else an instance would go by its own limit.
const PATIENT: [&str; 2] = ["--rate-limit-redis-ms-max", "20000"];

fn with<'a>(settings: &[&'a str]) -> Vec<&'a str> {
    [&PATIENT[..], settings].concat()
}

/// A request without any credential.
async fn ask(gateway: &Gateway) -> Answer {
    answer(gateway.client.get(gateway.url("/api/nothing"))).await
}

/// One that comes from a proxy on this machine on somebody's behalf.
async fn ask_for(gateway: &Gateway, client: &str) -> Answer {
    let request = gateway.client.get(gateway.url("/api/nothing"));
    answer(request.header("x-forwarded-for", client)).await
}

async fn submit_with(gateway: &Gateway, key: &str, body: impl Into<reqwest::Body>) -> Answer {
    answer(gateway.client.post(gateway.url("/api/events")).bearer_auth(key).body(body)).await
}

fn batch(events: usize) -> String {
    format!("[{}]", vec![EVENT; events].join(","))
}

async fn limited_key(tallyman: &Installation, limit: u32) -> String {
    key_with(tallyman, Right::Write, limit).await
}

async fn key_with(tallyman: &Installation, right: Right, limit: u32) -> String {
    let key = tallyman.store().create("limited", right).await.unwrap();
    let id = key.id;
    tallyman
        .execute(&format!("update api_keys set limit_per_min = {limit} where id = '{id}'"))
        .await;
    key.secret
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_share_one_budget_to_the_last_unit() {
    let tallyman = Installation::new().await;
    let settings = with(&["--rate-limit-ip-per-min", "50"]);
    let gateways = [tallyman.start(&settings).await, tallyman.start(&settings).await];
    let mut statuses = Vec::new();
    for _ in 0..40 {
        let (one, other) = tokio::join!(ask(&gateways[0]), ask(&gateways[1]));
        statuses.extend([one.status, other.status]);
    }
    let taken = statuses.iter().filter(|status| **status == 404).count();
    assert_eq!((taken, statuses.iter().filter(|it| **it == 429).count()), (50, 30));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_gateway_leaves_unused_is_less_than_a_lease() {
    let tallyman = Installation::new().await;
    let settings = with(&["--rate-limit-ip-per-min", "100"]);
    let (one, other) = (tallyman.start(&settings).await, tallyman.start(&settings).await);
    assert_eq!(ask(&one).await.status, 404);
    let mut taken = 1;
    while ask(&other).await.status == 404 {
        taken += 1;
    }
    assert!((91..=100).contains(&taken), "{taken}");
    let mut left = 0;
    while ask(&one).await.status == 404 {
        left += 1;
    }
    assert_eq!(taken + left, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_how_much_is_left_and_a_refusal_when_to_come_back() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&with(&["--rate-limit-ip-per-min", "2"])).await;
    for remaining in ["1", "0"] {
        let taken = ask(&gateway).await;
        assert_eq!(taken.status, 404);
        assert_eq!(taken.header("ratelimit-policy"), "\"ip\";q=2;w=60");
        assert_eq!(taken.header("ratelimit-limit"), "2");
        assert_eq!(taken.header("ratelimit-remaining"), remaining);
        let reset = taken.header("ratelimit-reset");
        assert!((1..=60).contains(&reset.parse().unwrap()), "{reset}");
        assert_eq!(taken.header("ratelimit"), format!("\"ip\";r={remaining};t={reset}"));
    }
    let refused = ask(&gateway).await;
    assert_eq!((refused.status, &refused.json["code"]), (429, &json!("rate_limited")));
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert_eq!(refused.header("ratelimit-remaining"), "0");
    let seconds = refused.header("retry-after");
    assert!((1..=60).contains(&seconds.parse().unwrap()), "{seconds}");
    let detail = refused.json["detail"].as_str().unwrap();
    assert!(detail.contains("API key") && detail.contains(&format!("in {seconds} s")), "{detail}");
    let metrics = gateway.get("/metrics").await.1;
    assert!(metrics.contains("gateway_requests_limited_total{limit=\"ip\"} 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_no_limit_but_its_own() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&with(&["--rate-limit-ip-per-min", "1"])).await;
    for _ in 0..5 {
        let taken = gateway.submit(EVENT).await;
        assert_eq!((taken.status, taken.header("ratelimit-limit")), (202, ""));
    }
    let key = limited_key(&tallyman, 3).await;
    for remaining in ["2", "1", "0"] {
        let taken = submit_with(&gateway, &key, EVENT).await;
        assert_eq!((taken.status, taken.header("ratelimit-remaining")), (202, remaining));
        assert_eq!(taken.header("ratelimit-policy"), "\"key\";q=3;w=60");
    }
    let refused = submit_with(&gateway, &key, EVENT).await;
    assert_eq!((refused.status, &refused.json["code"]), (429, &json!("rate_limited")));
    assert_eq!(gateway.submit(EVENT).await.status, 202);
    assert_eq!(tallyman.records().await.len(), 9);
    assert_eq!(ask(&gateway).await.status, 404, "none of them was charged to the address");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_limit_refuses_is_not_done() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let key = key_with(&tallyman, Right::Admin, 1).await;
    let make = || {
        let request = gateway.client.post(gateway.url("/api/keys")).header("x-api-key", &key);
        answer(request.body(r#"{"name":"made","rights":"write"}"#))
    };
    let made = make().await;
    assert_eq!((made.status, made.header("ratelimit-remaining").is_empty()), (201, false));
    assert_eq!(make().await.status, 429);
    let keys = tallyman.store().list().await.unwrap();
    assert_eq!(keys.iter().filter(|it| it.name == "made").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_the_body_is_a_key() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&with(&["--rate-limit-ip-per-min", "1"])).await;
    let send = |key: &str| {
        let body = json!({"api_key": key, "events": [{"event_type": "like", "user_id": "u"}]});
        answer(gateway.client.post(gateway.url("/2/httpapi")).json(&body))
    };
    for _ in 0..3 {
        let taken = send(&gateway.write_key).await;
        assert_eq!((taken.status, taken.header("ratelimit")), (200, ""));
    }
    let key = limited_key(&tallyman, 1).await;
    assert_eq!(send(&key).await.status, 200);
    assert_eq!(send(&key).await.status, 429);
    assert_eq!(send("wrong").await.status, 401);
    assert_eq!(send("wrong").await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_counts_once() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&with(&[])).await;
    let key = key_with(&tallyman, Right::Read, 1).await;
    let listen = || {
        let request = gateway.client.get(gateway.url("/api/events/live"));
        request.header("accept", "text/event-stream").bearer_auth(&key).send()
    };
    let mut open = listen().await.unwrap();
    assert_eq!(
        (open.status().as_u16(), &open.headers()["ratelimit-remaining"]),
        (200, &"0".parse().unwrap())
    );
    assert_eq!(gateway.submit(EVENT).await.status, 202);
    assert!(open.chunk().await.unwrap().is_some());
    assert_eq!(listen().await.unwrap().status(), 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_charged_to_the_address_they_come_from() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&with(&["--rate-limit-ip-per-min", "3"])).await;
    for number in 0..3 {
        assert_eq!(submit_with(&gateway, &format!("wrong-{number}"), EVENT).await.status, 401);
    }
    assert_eq!(submit_with(&gateway, "wrong", EVENT).await.status, 429);
    assert_eq!(ask(&gateway).await.status, 429);
    assert_eq!(gateway.submit(EVENT).await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_metrics_and_documents_are_free_and_0_is_no_limit() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&with(&["--rate-limit-ip-per-min", "1"])).await;
    assert_eq!(ask(&gateway).await.status, 404);
    assert_eq!(ask(&gateway).await.status, 429);
    for path in ["/livez", "/readyz?verbose", "/metrics", "/", "/docs", "/docs/errors/not_found"] {
        let free = answer(gateway.client.get(gateway.url(path))).await;
        assert!(free.status != 429 && free.header("ratelimit").is_empty(), "{path}");
    }
    let unlimited = tallyman.start(&["--rate-limit-ip-per-min", "0"]).await;
    for _ in 0..3 {
        let free = ask(&unlimited).await;
        assert_eq!((free.status, free.header("ratelimit")), (404, ""));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_trusted_proxy_says_on_whose_behalf_it_asks() {
    let tallyman = Installation::new().await;
    let limit = ["--rate-limit-ip-per-min", "1"];
    let direct = tallyman.start(&with(&limit)).await;
    assert_eq!(ask_for(&direct, "203.0.113.1").await.status, 404);
    assert_eq!(ask_for(&direct, "203.0.113.2").await.status, 429, "the header is anybody's");

    let proxied = [&limit[..], &["--trusted-proxies", "10.0.0.0/8,127.0.0.1"]].concat();
    let behind = tallyman.start(&with(&proxied)).await;
    for (client, status) in [
        ("203.0.113.1", 404),
        ("9.9.9.9, 203.0.113.1", 429),
        ("203.0.113.2, 10.0.0.1", 404),
        ("2001:db8::1", 404),
        ("2001:db8::ffff", 429),
        ("2001:db8:0:1::1", 404),
    ] {
        assert_eq!(ask_for(&behind, client).await.status, status, "{client}");
    }
    assert_eq!(ask_for(&behind, "nonsense").await.status, 429, "that is the proxy itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_events_are_counted_a_batch_is_taken_or_refused_as_a_whole() {
    let tallyman = Installation::new().await;
    let settings = with(&["--rate-limit-unit", "events"]);
    let (gateway, other) = (tallyman.start(&settings).await, tallyman.start(&settings).await);
    let key = limited_key(&tallyman, 10).await;
    let taken = submit_with(&gateway, &key, batch(7)).await;
    assert_eq!((taken.status, taken.header("ratelimit-remaining")), (202, "3"));
    assert_eq!(taken.header("ratelimit-policy"), "\"key\";q=10;w=60;qu=\"events\"");
    for instance in [&gateway, &other] {
        let refused = submit_with(instance, &key, batch(4)).await;
        assert_eq!((refused.status, &refused.json["code"]), (429, &json!("rate_limited")));
        assert_eq!(refused.header("ratelimit-remaining"), "3", "a refusal costs nothing");
    }
    assert_eq!(submit_with(&gateway, &key, batch(2)).await.status, 202);
    assert_eq!(submit_with(&other, &key, EVENT).await.status, 202);
    let refused = submit_with(&gateway, &key, EVENT).await;
    assert_eq!((refused.status, refused.header("ratelimit-remaining")), (429, "0"));
    let unreadable = submit_with(&gateway, &key, "no json").await;
    assert_eq!(unreadable.status, 429, "nothing is left for whatever it is");
    assert_eq!(tallyman.records().await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_larger_than_the_limit_is_told_to_be_split() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&with(&["--rate-limit-unit", "events"])).await;
    let key = limited_key(&tallyman, 10).await;
    let never = submit_with(&gateway, &key, batch(11)).await;
    assert_eq!((never.status, &never.json["code"]), (413, &json!("batch_exceeds_limit")));
    assert!(never.header("retry-after").is_empty());
    assert!(never.json["detail"].as_str().unwrap().contains("batches of 10"));
    assert_eq!(submit_with(&gateway, &key, "no json").await.status, 400);
    let taken = submit_with(&gateway, &key, batch(8)).await;
    assert_eq!((taken.status, taken.header("ratelimit-remaining")), (202, "0"), "each cost one");
    assert_eq!(tallyman.records().await.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_instance_goes_by_the_limit_alone_and_nobody_waits() {
    let redis = Redis::start().await;
    let tallyman = Installation::new().await.with_redis(redis.url());
    let gateway = tallyman.start(&["--rate-limit-ip-per-min", "40"]).await;
    assert_eq!(ask(&gateway).await.status, 404);
    redis.signal("-STOP").await;
    let mut taken = 1;
    let asking = async {
        while ask(&gateway).await.status == 404 {
            taken += 1;
        }
    };
    // Redis never answers: who waited for it would not be here soon.
    timeout(Duration::from_secs(30), asking).await.expect("nobody waits for Redis");
    assert_eq!(taken, 40);
    let says = |text: &'static str| {
        let gateway = &gateway;
        async move { gateway.get("/readyz?verbose").await.1.contains(text) }
    };
    eventually("it is reported", || says("limits count per instance")).await;
    assert_eq!(gateway.get("/readyz").await.0, 200, "it can do its work");
    assert_eq!(gateway.submit(EVENT).await.status, 202);
    redis.signal("-CONT").await;

    redis.kill().await;
    let other = tallyman.start(&["--rate-limit-ip-per-min", "3"]).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(ask(&other).await.status);
    }
    assert_eq!(statuses, [404, 404, 404, 429]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_spent_without_redis_counts_when_it_is_back() {
    let redis = Redis::start().await;
    let tallyman = Installation::new().await.with_redis(redis.url());
    let settings = with(&["--rate-limit-ip-per-min", "20"]);
    redis.kill().await;
    let gateway = tallyman.start(&settings).await;
    for _ in 0..11 {
        assert_eq!(ask(&gateway).await.status, 404);
    }
    redis.start_again().await;
    let is_back = || async { gateway.get("/readyz?verbose").await.1.contains("\"redis\":\"ok\"") };
    eventually("Redis is back", is_back).await;
    // The lease at hand was given without Redis; the next one reports it.
    let mut taken = 11;
    let other = tallyman.start(&settings).await;
    while ask(&gateway).await.status == 404 {
        taken += 1;
    }
    assert_eq!((taken, ask(&other).await.status), (20, 429));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_addresses_fills_neither_redis_nor_the_limits_of_others() {
    let tallyman = Installation::new().await;
    let settings = ["--rate-limit-clients-max", "100", "--rate-limit-ip-per-min", "5"];
    let proxied = [&settings[..], &["--trusted-proxies", "127.0.0.1"]].concat();
    let gateway = tallyman.start(&with(&proxied)).await;
    for _ in 0..5 {
        assert_eq!(ask_for(&gateway, "203.0.113.1").await.status, 404);
    }
    for number in 0..1_000 {
        let client = format!("198.51.{}.{}", number / 250, number % 250);
        assert_eq!(ask_for(&gateway, &client).await.status, 404);
        if number % 50 == 0 {
            assert_eq!(ask_for(&gateway, "203.0.113.1").await.status, 429, "it is not forgotten");
        }
    }
    let budgets: u64 = tallyman.redis().await.dbsize().await.unwrap();
    assert!((50..=100).contains(&budgets), "{budgets}");
}
