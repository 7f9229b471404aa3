//! What is wrong with a request is said in one shape, whatever it is.

use serde_json::{Value, json};

use crate::installation::{Answer, Installation, answer};

fn assert_problem(answer: &Answer, status: u16, code: &str, instance: &str) {
    assert_eq!(answer.status, status, "{code}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = &answer.json;
    assert_eq!(problem["type"], format!("/docs/errors/{code}"));
    assert_eq!(problem["status"], status);
    assert_eq!(problem["code"], code);
    assert_eq!(problem["instance"], instance);
    assert_eq!(problem["requestId"], answer.header("x-request-id"));
    for text in ["title", "detail", "message"] {
        assert!(problem[text].as_str().is_some_and(|it| it.len() > 5), "{code}: {text}");
    }
    assert_eq!(problem["errors"][0]["code"], code);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_not_there_not_allowed_or_not_readable_is_a_problem() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let (client, url) = (&gateway.client, |path: &str| gateway.url(path));

    let nowhere = answer(client.post(url("/nowhere?api_key=secret")).body("{}")).await;
    assert_problem(&nowhere, 404, "not_found", "/nowhere");
    for path in ["/api/stats/%FF", "/api/imports/%FF", "/docs/errors/%FF", "/page/%C3", "/%FF"] {
        assert_problem(&answer(client.get(url(path))).await, 404, "not_found", path);
    }
    let get = answer(client.get(url("/api/events/validate"))).await;
    assert_problem(&get, 405, "method_not_allowed", "/api/events/validate");
    assert_eq!(get.header("allow"), "POST");
    let post = answer(client.post(url("/livez"))).await;
    assert_problem(&post, 405, "method_not_allowed", "/livez");
    let anonymous = answer(client.post(url("/api/events")).body("{}")).await;
    assert_problem(&anonymous, 401, "missing_credential", "/api/events");
    for unreadable in ["multipart/form-data; boundary=x", "image/png", "text/html"] {
        let request = gateway.request("/api/events").header("content-type", unreadable);
        let refused = answer(request.body("{}")).await;
        assert_problem(&refused, 415, "unsupported_media_type", "/api/events");
        assert!(refused.header("accept").contains("application/json"));
    }
    let large = gateway.submit("x".repeat(6 << 20)).await;
    assert_problem(&large, 413, "body_too_large", "/api/events");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_is_echoed_or_made() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let request = gateway.request("/api/events").header("x-request-id", "mine-1");
    let echoed = answer(request.body("nonsense")).await;
    assert_eq!(echoed.header("x-request-id"), "mine-1");
    assert_eq!(echoed.json["requestId"], "mine-1");
    let body = r#"{"userId":"u","type":"like"}"#;
    let (first, second) = (gateway.submit(body).await, gateway.submit(body).await);
    assert_eq!(first.header("x-request-id").len(), 36);
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_metrics_need_no_key_and_the_events_add_up() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    assert_eq!(gateway.get("/livez").await.0, 200);
    crate::installation::eventually("Kafka was looked at", || async {
        let (status, text) = gateway.get("/readyz?verbose").await;
        let said: Value = serde_json::from_str(&text).unwrap();
        status == 200 && said["kafka"] == "ok" && said["postgres"] == "ok"
    })
    .await;
    gateway.submit(r#"[{"userId":"u","type":"like"},{"userId":"u","type":"like"},1]"#).await;
    let metrics = gateway.get("/metrics").await.1;
    for line in [
        r#"gateway_events_received_total{verdict="accepted"} 2"#,
        r#"gateway_events_received_total{verdict="rejected"} 1"#,
        r#"gateway_events_rejected_total{code="not_an_object"} 1"#,
        r#"gateway_responses_total{status="207"} 1"#,
        r#"gateway_credentials_checked_total{outcome="allowed"} 1"#,
        "gateway_submission_duration_seconds_count 1",
        "gateway_body_bytes_total 61",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bytes_make_the_gateway_answer_500() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let mut bytes: Vec<u8> =
        br#"[{"userId":"u","type":"like","events":[1,{"a":"\u00e9"}]}]"#.to_vec();
    for step in 0..400_usize {
        let at = (step * 7) % bytes.len();
        bytes[at] = bytes[at].wrapping_add((step % 251) as u8 + 1);
        for content_type in ["application/json", "application/x-ndjson"] {
            let request = gateway.request("/api/events").header("content-type", content_type);
            let answer = answer(request.body(bytes.clone())).await;
            let expected = [202, 207, 400, 422];
            assert!(expected.contains(&answer.status), "{} for {bytes:?}", answer.status);
        }
        bytes[at] = bytes[at].wrapping_sub((step % 251) as u8 + 1);
    }
    let ok = gateway.submit(r#"{"userId":"u","type":"like"}"#).await;
    assert_eq!((ok.status, &ok.json["rejected"]), (202, &json!(0)));
}
