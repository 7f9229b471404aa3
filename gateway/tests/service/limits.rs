//! Each limit at its edge: what just fits is taken, one more is not.

use std::time::Duration;

use reqwest::Body;
use serde_json::json;

use crate::installation::{Installation, answer};
use crate::raw::Raw;

const MIB: usize = 1 << 20;

/// An event of exactly so many bytes.
fn event_of(bytes: usize) -> String {
    let bare = r#"{"userId":"u","type":"like","eventId":"e","p":""}"#.len();
    format!(r#"{{"userId":"u","type":"like","eventId":"e","p":"{}"}}"#, "x".repeat(bytes - bare))
}

/// A batch of exactly so many bytes.
fn batch_of(bytes: usize) -> String {
    const EVENT: usize = 500_000;
    let mut batch = String::from("[");
    while batch.len() + 2 * EVENT < bytes {
        batch += &event_of(EVENT);
        batch.push(',');
    }
    let rest = bytes - batch.len() - 1;
    batch + &event_of(rest) + "]"
}

/// Sends without a `Content-Length`.
fn chunked(body: &str) -> Body {
    let pieces: Vec<_> =
        body.as_bytes().chunks(100_000).map(|it| Ok::<_, std::io::Error>(it.to_vec())).collect();
    Body::wrap_stream(futures_util::stream::iter(pieces))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_may_have_a_mebibyte() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    assert_eq!(gateway.submit(event_of(MIB)).await.status, 202);
    let larger = gateway.submit(event_of(MIB + 1)).await;
    assert_eq!((larger.status, larger.reasons()), (422, vec![("too_large", "")]));
    let mixed = gateway.submit(format!("[{},{}]", event_of(MIB), event_of(MIB + 1))).await;
    assert_eq!((mixed.status, mixed.reasons()), (207, vec![("too_large", "/1")]));
    assert_eq!(tallyman.records().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_may_have_five_mebibytes_with_or_without_a_length() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    for (bytes, status) in [(5 * MIB, 202), (5 * MIB + 1, 413)] {
        let with_length = gateway.submit(batch_of(bytes)).await;
        let without = gateway.submit(chunked(&batch_of(bytes))).await;
        assert_eq!((with_length.status, without.status), (status, status), "{bytes} bytes");
        if status == 413 {
            assert_eq!(with_length.json["code"], "body_too_large");
            assert_eq!(without.json["code"], "body_too_large");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_may_have_two_thousand_events() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let event = r#"{"userId":"u","type":"like"}"#;
    let batch = |events: usize| vec![event; events];
    for body in [
        |batch: Vec<&str>| format!("[{}]", batch.join(",")),
        |batch: Vec<&str>| format!(r#"{{"events":[{}]}}"#, batch.join(",")),
        |batch: Vec<&str>| batch.join("\n"),
    ] {
        let fits = gateway.submit(body(batch(2_000))).await;
        assert_eq!((fits.status, &fits.json["accepted"]), (202, &json!(2_000)));
        let more = gateway.submit(body(batch(2_001))).await;
        assert_eq!((more.status, &more.json["code"]), (413, &json!("too_many_events")));
        assert!(more.json["detail"].as_str().unwrap().contains("2001 events"));
    }
    assert_eq!(tallyman.records().await.len(), 6_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn above_the_budget_the_answer_is_503_and_below_it_all_is_well_again() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&["--gateway-inflight-bytes", "100000"]).await;
    let metrics = || async { gateway.get("/metrics").await.1 };
    let mut slow = Raw::connect(&gateway).await;
    slow.send_head(&gateway, &["content-length: 90000"]).await;
    slow.send(&event_of(90_000)[..80_000]).await;
    crate::installation::eventually("its bytes are charged", || async {
        metrics().await.contains("gateway_inflight_bytes 80000")
    })
    .await;

    for body in [Body::from(event_of(30_000)), chunked(&event_of(30_000))] {
        let refused = gateway.submit(body).await;
        assert_eq!((refused.status, &refused.json["code"]), (503, &json!("overloaded")));
        assert_eq!(refused.header("retry-after"), "1");
    }
    assert_eq!(gateway.submit(event_of(10_000)).await.status, 202, "it fits beside the slow one");

    slow.send(&event_of(90_000)[80_000..]).await;
    assert!(slow.receive_until("accepted").await.starts_with("HTTP/1.1 202"));
    assert_eq!(gateway.submit(event_of(30_000)).await.status, 202);
    assert_eq!(gateway.submit(event_of(200_000)).await.status, 202, "larger than all: alone");
    assert!(metrics().await.contains("gateway_inflight_bytes 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_bring_their_key_within_them_leave_room_for_others() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&["--gateway-inflight-bytes", "100000"]).await;
    let mut slow = Raw::connect(&gateway).await;
    slow.send("POST /v1/batch HTTP/1.1\r\nhost: x\r\ncontent-length: 90000\r\n\r\n").await;
    slow.send(&"x".repeat(50_000)).await;
    crate::installation::eventually("its bytes are charged", || async {
        gateway.get("/metrics").await.1.contains("gateway_inflight_bytes 50000")
    })
    .await;
    let batch = format!(r#"{{"writeKey":"{}","batch":[]}}"#, gateway.write_key);
    let send = || answer(gateway.client.post(gateway.url("/v1/batch")).body(batch.clone()));
    let refused = send().await;
    assert_eq!((refused.status, &refused.json["code"]), (503, &json!("overloaded")));
    assert_eq!(gateway.submit(event_of(40_000)).await.status, 202, "its key came before it");
    slow.send(&"x".repeat(40_000)).await;
    slow.receive_until("invalid_json").await;
    assert_eq!(send().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_given_up() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&["--gateway-body-seconds", "1"]).await;
    let mut slow = Raw::connect(&gateway).await;
    slow.send_head(&gateway, &["content-length: 100"]).await;
    slow.send("{").await;
    let answer = tokio::time::timeout(Duration::from_secs(20), slow.receive_until("body_timeout"));
    let answer = answer.await.expect("given up after one second");
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("retry-after: 1"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_before_sending_is_refused_without_sending() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let mut polite = Raw::connect(&gateway).await;
    polite.send_head(&gateway, &["content-length: 6000000", "expect: 100-continue"]).await;
    let answer = polite.receive_until("body_too_large").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    let mut polite = Raw::connect(&gateway).await;
    polite.send_head(&gateway, &["content-length: 100", "expect: 100-continue"]).await;
    assert!(polite.receive_until("\r\n\r\n").await.starts_with("HTTP/1.1 100"));
    polite.send(&event_of(100)).await;
    assert!(polite.receive_until("accepted").await.starts_with("HTTP/1.1 202"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_on_after_a_refusal() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let mut connection = Raw::connect(&gateway).await;
    // More than the server reads before it looks at the key.
    let wrong = "POST /api/events HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n";
    connection.send(&format!("{wrong}{}", event_of(300_000))).await;
    assert!(connection.receive_until("missing_credential\",\"detail").await.contains("401"));
    connection.send_head(&gateway, &["content-length: 100"]).await;
    connection.send(&event_of(100)).await;
    assert!(connection.receive_until("\"accepted\":1").await.contains("202 Accepted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_beyond_all_measure_are_refused() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let request = gateway.request("/api/events").header("x-large", "x".repeat(40_000));
    assert_eq!(answer(request.body(event_of(100))).await.status, 431);
}
