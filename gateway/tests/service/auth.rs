//! Who may send: every place for a key, every reason to refuse one.

use std::time::{Duration, Instant};

use gateway::auth::Right;
use serde_json::{Value, json};

use crate::installation::{Answer, Gateway, Installation, answer, eventually};

const EVENT: &str = r#"{"userId":"u","type":"like"}"#;

/// A submission with this key in `X-API-Key`.
async fn submit_with(gateway: &Gateway, key: &str) -> Answer {
    answer(gateway.client.post(gateway.url("/api/events")).header("x-api-key", key).body(EVENT))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_taken_from_every_place_and_judged_the_same_in_each() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let store = tallyman.store();
    let read = store.create("reader", Right::Read).await.unwrap().secret;
    let admin = store.create("admin", Right::Admin).await.unwrap().secret;
    let unknown = format!("tm_w_{}", "0".repeat(48));
    for (key, status, code) in [
        (gateway.write_key.as_str(), 202, Value::Null),
        (&admin, 202, Value::Null),
        (&read, 403, json!("missing_right")),
        (&unknown, 401, json!("unknown_credential")),
        ("nonsense", 401, json!("unknown_credential")),
    ] {
        let url = gateway.url("/api/events");
        let post = || gateway.client.post(&url).body(EVENT);
        for request in [
            post().header("x-api-key", key),
            post().header("x-write-key", key),
            post().basic_auth(key, Some("")),
            post().bearer_auth(key),
            gateway.client.post(format!("{url}?results=all&api_key={key}")).body(EVENT),
        ] {
            let answer = answer(request).await;
            assert_eq!((answer.status, &answer.json["code"]), (status, &code), "{key}");
            assert_eq!(answer.headers.contains_key("www-authenticate"), status == 401, "{key}");
        }
    }
    let lacking = submit_with(&gateway, &read).await;
    let detail = lacking.json["detail"].as_str().unwrap();
    assert!(detail.contains("`write`") && detail.contains("`read`"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_or_with_a_token_nothing_is_taken() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let post = || gateway.client.post(gateway.url("/api/events")).body(EVENT);
    let anonymous = answer(post()).await;
    assert_eq!((anonymous.status, &anonymous.json["code"]), (401, &json!("missing_credential")));
    assert_eq!(anonymous.header("www-authenticate"), "Bearer realm=\"tallyman\"");
    let token = answer(post().bearer_auth("eyJh.eyJz.c2ln")).await;
    assert_eq!((token.status, &token.json["code"]), (401, &json!("tokens_not_configured")));
    assert_eq!(tallyman.records().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_works_at_once_and_a_revoked_one_for_five_seconds_at_most() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let store = tallyman.store();
    let key = store.create("passing", Right::Write).await.unwrap();
    assert_eq!(submit_with(&gateway, &key.secret).await.status, 202);
    store.revoke(key.id).await.unwrap();
    let revoked = Instant::now();
    eventually("the key is refused", || async {
        submit_with(&gateway, &key.secret).await.status == 401
    })
    .await;
    assert!(revoked.elapsed() < Duration::from_secs(5), "{:?}", revoked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_known_keys_go_on_and_others_are_not_called_wrong() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let unknown = format!("tm_w_{}", "0".repeat(48));
    assert_eq!(submit_with(&gateway, &unknown).await.status, 401);
    tallyman.lock_database().await;
    eventually("the gateway notices", || async {
        let (status, said) = gateway.get("/readyz?verbose").await;
        assert_eq!(status, 200, "it can do its work: {said}");
        serde_json::from_str::<Value>(&said).unwrap()["postgres"] != "ok"
    })
    .await;
    assert_eq!(gateway.submit(EVENT).await.status, 202);
    let other = submit_with(&gateway, &unknown).await;
    assert_eq!((other.status, other.header("retry-after")), (503, "1"));
    assert_eq!(other.json["code"], "credential_check_unavailable");

    tallyman.unlock_database().await;
    let key = tallyman.store().create("late", Right::Write).await.unwrap().secret;
    assert_eq!(submit_with(&gateway, &key).await.status, 202);
    assert_eq!(submit_with(&gateway, &unknown).await.status, 401);
    assert_eq!(gateway.get("/readyz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_looked_up_once_and_known_ones_never() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let lookups = || async {
        let metrics = gateway.get("/metrics").await.1;
        let line = metrics.lines().find(|it| it.starts_with("gateway_key_lookups_total ")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()
    };
    for _ in 0..50 {
        assert_eq!(gateway.submit(EVENT).await.status, 202);
    }
    assert_eq!(lookups().await, 0);
    for _ in 0..50 {
        assert_eq!(submit_with(&gateway, "wrong").await.status, 401);
    }
    let lookups = lookups().await;
    assert!((1..10).contains(&lookups), "once per refresh, not {lookups} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_of_a_key_is_noted_without_haste() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let unused = tallyman.store().create("unused", Right::Write).await.unwrap();
    assert_eq!(gateway.submit(EVENT).await.status, 202);
    gateway.stop().await.unwrap();
    let keys = tallyman.store().list().await.unwrap();
    let of = |name| keys.iter().find(|key| key.name == name).unwrap();
    assert!(
        of("test")
            .last_used_at
            .is_some_and(|at| at >= of("test").created_at - Duration::from_secs(1))
    );
    assert_eq!((of("unused").id, of("unused").last_used_at), (unused.id, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_no_credential_may_write_where_that_is_allowed() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&["--allow-anonymous-write"]).await;
    for path in ["/api/events", "/product_events/", "/api-fast/view-event"] {
        let anonymous = gateway.client.post(gateway.url(path)).body(EVENT);
        assert_eq!(answer(anonymous).await.status, 202, "{path}");
    }
    // Bodies their doors can read: a compatibility client may have its key there.
    for (path, body) in [
        ("/api/events/validate", EVENT),
        ("/v1/track", EVENT),
        ("/capture/", EVENT),
        ("/batch/", r#"{"batch":[{"event":"like","distinct_id":"u"}]}"#),
        ("/2/httpapi", r#"{"events":[{"event_type":"like","user_id":"u"}]}"#),
    ] {
        let anonymous = gateway.client.post(gateway.url(path)).body(body);
        assert_eq!(answer(anonymous).await.status, 401, "{path}");
    }
    let wrong = submit_with(&gateway, "wrong").await;
    assert_eq!((wrong.status, &wrong.json["code"]), (401, &json!("unknown_credential")));
}
