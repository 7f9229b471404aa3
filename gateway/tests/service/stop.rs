//! The daemon stops along the flow: nothing it answered is lost, nothing it took stays unanswered.

use std::time::Duration;

use crate::installation::{Installation, eventually};
use crate::raw::Raw;

const EVENT: &str = r#"{"userId":"u","type":"like","eventId":"e"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn open_requests_are_finished_and_new_connections_refused() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&["--gateway-drain-delay-ms", "200"]).await;
    let mut open = Raw::connect(&gateway).await;
    open.send_head(&gateway, &[&format!("content-length: {}", EVENT.len())]).await;
    open.send(&EVENT[..10]).await;
    eventually("the request is being read", || async {
        gateway.get("/metrics").await.1.contains("gateway_inflight_bytes 10")
    })
    .await;
    let address = gateway.address;
    gateway.context.shutdown.cancel();
    eventually("it says that it stops", || async { gateway.get("/readyz").await.0 == 503 }).await;
    let refused = || async { tokio::net::TcpStream::connect(address).await.is_err() };
    eventually("new connections are refused", refused).await;
    open.send(&EVENT[10..]).await;
    let answer = open.receive_until("accepted").await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    gateway.stop().await.unwrap();
    assert_eq!(tallyman.event_ids().await, ["e"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_finishes_does_not_keep_it_from_stopping_in_good_order() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&["--grace-seconds", "8"]).await;
    let mut stuck = Raw::connect(&gateway).await;
    stuck.send_head(&gateway, &["content-length: 100"]).await;
    stuck.send("{").await;
    let _idle = Raw::connect(&gateway).await;
    eventually("the request is being read", || async {
        gateway.get("/metrics").await.1.contains("gateway_inflight_bytes 1\n")
    })
    .await;
    let stopped = tokio::time::timeout(Duration::from_secs(8), gateway.stop()).await;
    stopped.expect("within the grace period").unwrap();
    assert_eq!(stuck.receive_until("HTTP").await, "", "cut off without an answer");
}
