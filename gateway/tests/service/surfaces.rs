//! The SDKs of others: their bodies as they send them, the answers they go by.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::installation::{Answer, Gateway, Installation, answer, json_of};

/// A submission whose key lies in the body alone.
async fn post(gateway: &Gateway, path: &str, body: impl Into<reqwest::Body>) -> Answer {
    answer(gateway.client.post(gateway.url(path)).body(body)).await
}

/// The canonical events in `user-actions`, by their id.
async fn stored(tallyman: &Installation) -> Vec<Value> {
    let records = tallyman.records().await;
    let events = records.iter().filter(|it| it.headers.text("error_code").is_none());
    let mut events: Vec<_> = events.map(json_of).collect();
    events.sort_by_key(|event| event["eventId"].to_string());
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_the_segment_spec_becomes_an_event() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let call = |n: u32, members: Value| {
        let mut call = json!({"messageId": format!("m{n}"), "userId": "u", "timestamp": "2026-01-02T03:04:05.678Z"});
        call.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        call
    };
    let library = json!({"library": {"name": "analytics-node", "version": "3"}, "sessionId": 7});
    let batch = json!({
        "writeKey": gateway.write_key,
        "batch": [
            call(1, json!({"type": "track", "event": "Post Liked", "properties": {"postId": "p1"}, "context": library})),
            call(2, json!({"type": "identify", "traits": {"plan": "pro"}, "anonymousId": "a"})),
            call(3, json!({"type": "page", "name": "Home", "properties": {"title": "x"}, "integrations": {}})),
            call(4, json!({"type": "group", "groupId": "g", "traits": {}})),
            call(5, json!({"type": "alias", "previousId": "old"})),
            call(6, json!({"type": "screen", "name": "S", "userId": null, "anonymousId": "a"})),
        ],
    });
    let answer = post(&gateway, "/v1/batch", batch.to_string()).await;
    assert_eq!((answer.status, &answer.json), (200, &json!({"success": true})));
    let events = stored(&tallyman).await;
    let types: Vec<_> = events.iter().map(|it| it["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["Post Liked", "$identify", "$page", "$group", "$alias", "$screen"]);
    let expected = json!({
        "eventId": "m1", "type": "Post Liked", "userId": "u", "objectType": "post", "objectId": "p1",
        "occurredAt": "2026-01-02T03:04:05.678Z", "source": "analytics-node", "sessionId": "7",
        "properties": {"postId": "p1"}, "context": library,
    });
    assert_eq!(events[0], expected);
    assert_eq!(events[1]["properties"], json!({"plan": "pro"}));
    assert_eq!(events[1]["context"], json!({"anonymousId": "a"}));
    assert_eq!(events[2]["properties"], json!({"name": "Home", "title": "x"}));
    assert_eq!(events[3]["properties"], json!({"groupId": "g"}));
    assert_eq!(events[4]["properties"], json!({"previousId": "old"}));
    assert_eq!(events[5]["userId"], "a");
    let record = &tallyman.records().await[0];
    assert_eq!(record.headers.text("surface"), Some("segment"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_call_is_of_the_kind_its_path_says() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    for (path, kind) in [
        ("/v1/track", "like"),
        ("/v1/t/", "like"),
        ("/v1/identify/", "$identify"),
        ("/v1/i", "$identify"),
        ("/v1/p", "$page"),
        ("/v1/s", "$screen"),
        ("/v1/g", "$group"),
        ("/v1/alias", "$alias"),
    ] {
        let id = Uuid::new_v4();
        let body =
            json!({"event": "like", "userId": "u", "messageId": id, "writeKey": gateway.write_key});
        let answer = post(&gateway, path, body.to_string()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.json);
        let events = stored(&tallyman).await;
        let event = events.iter().find(|event| event["eventId"] == id.to_string()).unwrap();
        assert_eq!(event["type"], kind, "{path}");
        assert!(!event.to_string().contains(&gateway.write_key), "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bodies_of_posthog_are_taken_as_its_sdks_wrap_them() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let key = &gateway.write_key;
    let event = |id: &Uuid| {
        json!({"event": "like", "distinct_id": "u", "uuid": id, "timestamp": "2026-01-02T03:04:05.678000+00:00",
               "properties": {"postId": "p1", "$lib": "posthog-python", "token": key}})
    };
    let ids: Vec<_> = (0..5).map(|_| Uuid::now_v7()).collect();
    let batch = json!({"api_key": key, "batch": [event(&ids[0])], "historical_migration": false});
    for (path, body) in [
        ("/batch/", batch.to_string()),
        ("/capture", event(&ids[1]).to_string()),
        ("/i/v0/e/", json!([event(&ids[2])]).to_string()),
        ("/e/?ip=1", format!("data={}", urlencoded(&event(&ids[3]).to_string()))),
        ("/e/?compression=gzip-js", event(&ids[4]).to_string()),
    ] {
        let bytes = if path.contains("gzip") { gzip(&body).await } else { body.into_bytes() };
        let request = gateway.client.post(gateway.url(path)).header("content-type", "text/plain");
        let answer = answer(request.body(bytes)).await;
        assert_eq!((answer.status, &answer.json), (200, &json!({"status": "Ok"})), "{path}");
    }
    let events = stored(&tallyman).await;
    assert_eq!(events.len(), 5);
    let expected = json!({
        "eventId": ids[0].to_string(), "type": "like", "userId": "u", "objectType": "post", "objectId": "p1",
        "occurredAt": "2026-01-02T03:04:05.678Z", "source": "posthog",
        "properties": {"postId": "p1", "$lib": "posthog-python"},
        "context": {"library": {"name": "posthog-python"}},
    });
    assert_eq!(events[0], expected);
}

fn urlencoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

async fn gzip(text: &str) -> Vec<u8> {
    use tokio::io::AsyncReadExt as _;
    let mut encoder = async_compression::tokio::bufread::GzipEncoder::new(text.as_bytes());
    let mut bytes = Vec::new();
    encoder.read_to_end(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn posthog_v1_hears_of_each_event() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let (good, bad) = (Uuid::now_v7().to_string(), Uuid::now_v7().to_string());
    let body = json!({"created_at": "2026-11-21T00:00:00Z", "batch": [
        {"event": "like", "distinct_id": "u", "uuid": good, "session_id": "s", "options": {"a": 1}},
        {"event": "like", "uuid": bad},
    ]});
    let request = gateway.client.post(gateway.url("/i/v1/analytics/events"));
    let answer = answer(request.bearer_auth(&gateway.write_key).body(body.to_string())).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json["results"][&good], json!({"result": "ok"}));
    assert_eq!(answer.json["results"][&bad]["result"], "drop");
    let told = answer.json["results"][&bad]["details"].as_str().unwrap();
    assert!(told.starts_with("missing_user"), "{told}");
    let events = stored(&tallyman).await;
    assert_eq!((&events[0]["sessionId"], events.len()), (&json!("s"), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn amplitude_is_answered_by_the_code_in_the_body() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let event = json!({"event_type": "like", "user_id": "u", "device_id": "d", "insert_id": "amp-1",
        "time": 1767323045678_i64, "event_properties": {"postId": 5}, "session_id": -1, "event_id": 0});
    let by_device =
        json!({"event_type": "like", "device_id": "d", "insert_id": "amp-2", "session_id": 9});
    let body = json!({"api_key": gateway.write_key, "events": [event, by_device], "options": {}})
        .to_string();
    for path in ["/2/httpapi", "/2/httpapi/", "/batch"] {
        let answer = post(&gateway, path, body.clone()).await;
        assert_eq!((answer.status, &answer.json["code"]), (200, &json!(200)), "{path}");
        assert_eq!(answer.json["events_ingested"], 2);
        assert_eq!(answer.json["payload_size_bytes"], body.len());
        assert!(answer.json["server_upload_time"].is_u64());
    }
    let events = stored(&tallyman).await;
    let expected = json!({
        "eventId": "amp-1", "type": "like", "userId": "u", "objectType": "post", "objectId": "5",
        "occurredAt": "2026-01-02T03:04:05.678Z", "source": "amplitude", "properties": {"postId": 5},
        "context": {"device_id": "d", "event_id": 0},
    });
    assert_eq!(events[0], expected);
    assert_eq!((&events[3]["userId"], &events[3]["sessionId"]), (&json!("d"), &json!("9")));

    for (body, code) in [
        (json!({"events": []}), 401),
        (json!({"api_key": "wrong", "events": []}), 401),
        (json!({"api_key": gateway.write_key}), 400),
    ] {
        let refused = post(&gateway, "/2/httpapi", body.to_string()).await;
        assert_eq!((refused.status, &refused.json["code"]), (code, &json!(code)), "{body}");
        assert!(refused.json["error"].is_string());
    }
    let many = json!({"api_key": gateway.write_key, "events": vec![json!({}); 2_001]}).to_string();
    for path in ["/2/httpapi", "/batch"] {
        let refused = post(&gateway, path, many.clone()).await;
        assert_eq!((refused.status, &refused.json["code"]), (413, &json!(413)), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_event_is_not_refused_but_kept_for_the_dead_letters() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let key = &gateway.write_key;
    let bad = r#"{"type":"track", "userId":"u","messageId":"bad"}"#;
    let good = r#"{"type":"track","event":"like","userId":"u","messageId":"good"}"#;
    let segment = format!(r#"{{"writeKey":"{key}","batch":[{bad},{good},7]}}"#);
    let posthog =
        format!(r#"{{"api_key":"{key}","batch":[{{"event":"e","distinct_id":"u","uuid":"x"}}]}}"#);
    let amplitude = format!(r#"{{"api_key":"{key}","events":[{{"event_type":"e"}}]}}"#);
    // Alone, an event has the key within it: that is not kept.
    let call = format!(r#"{{"userId":"u", "writeKey":"{key}"}}"#);
    let capture =
        format!(r#"{{"event":"e","properties":{{"n":1,"token":"{key}"}},"api_key":"{key}"}}"#);
    let sent = [
        ("/v1/batch", segment),
        ("/batch/", posthog),
        ("/2/httpapi", amplitude),
        ("/v1/track", call),
        ("/capture/", capture),
    ];
    for (path, body) in sent {
        assert_eq!(post(&gateway, path, body).await.status, 200, "{path}");
    }
    let records = tallyman.records().await;
    let mut told: Vec<_> = records
        .iter()
        .filter_map(|it| Some((it.headers.text("error_code")?, it.value.as_deref().unwrap())))
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            ("invalid_member", &br#"{"event":"e","distinct_id":"u","uuid":"x"}"#[..]),
            ("missing_type", bad.as_bytes()),
            ("missing_type", br#"{"userId":"u", "writeKey":""}"#),
            ("missing_user", br#"{"event":"e","properties":{"n":1,"token":""},"api_key":""}"#),
            ("missing_user", br#"{"event_type":"e"}"#),
            ("not_an_object", b"7"),
        ]
    );
    assert_eq!(stored(&tallyman).await.len(), 1);
    assert!(
        records.iter().all(|it| it.headers.text("error_code").is_none()
            || it.headers.text("error_detail").is_some())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_event_can_survive_is_refused_with_a_code_and_a_message() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let key = &gateway.write_key;
    let many = format!(r#"{{"writeKey":"{key}","batch":[{}1]}}"#, "1,".repeat(2_000));
    for (path, body, status, code) in [
        ("/v1/batch", r#"{"batch":[]}"#.to_owned(), 401, "missing_credential"),
        ("/v1/batch", r#"{"batch":[],"writeKey":"wrong"}"#.to_owned(), 401, "unknown_credential"),
        ("/v1/batch", "{".to_owned(), 400, "invalid_json"),
        ("/batch/", String::new(), 400, "empty_body"),
        ("/v1/batch", many, 413, "too_many_events"),
    ] {
        let answer = post(&gateway, path, body).await;
        assert_eq!((answer.status, answer.json["code"].as_str()), (status, Some(code)), "{path}");
        assert!(answer.json["message"].is_string() && answer.json["detail"].is_string());
    }
    let empty = format!(r#"{{"batch":[],"writeKey":"{key}"}}"#);
    assert_eq!(post(&gateway, "/v1/batch", empty).await.status, 200, "nothing was lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_credential_of_a_header_outranks_the_body_and_the_body_the_query() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let key = &gateway.write_key;
    let body = |key: &str| format!(r#"{{"batch":[],"writeKey":"{key}"}}"#);
    let in_header = gateway.request("/v1/batch").body(body("wrong"));
    assert_eq!(answer(in_header).await.status, 200);
    let in_query = format!("/v1/batch?api_key={key}");
    assert_eq!(post(&gateway, &in_query, body("wrong")).await.status, 401);
    assert_eq!(post(&gateway, &in_query, body("")).await.status, 200);
    assert_eq!(post(&gateway, "/v1/batch?api_key=wrong", body(key)).await.status, 200);
    let basic = gateway.client.post(gateway.url("/v1/batch")).basic_auth(key, Some(""));
    assert_eq!(answer(basic.body(r#"{"batch":[]}"#)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_corrected_and_the_time_that_was_sent_is_kept() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let call = |id: &str| json!({"type": "track", "event": "e", "userId": "u", "messageId": id, "timestamp": "2020-01-01T00:00:00Z"});
    let mut chosen = call("b");
    chosen["originalTimestamp"] = "2020-01-01T00:00:00Z".into();
    let batch = json!({"writeKey": gateway.write_key, "sentAt": "2020-01-01T00:01:00Z",
                       "batch": [call("a"), chosen]});
    let before = jiff::Timestamp::now();
    assert_eq!(post(&gateway, "/v1/batch", batch.to_string()).await.status, 200);
    let events = stored(&tallyman).await;
    let at: jiff::Timestamp = events[0]["occurredAt"].as_str().unwrap().parse().unwrap();
    let minute = jiff::SignedDuration::from_secs(60);
    let early = before.duration_since(at + minute).abs();
    assert!(early < minute, "a minute before it came, by our clock: {at}");
    assert_eq!(events[0]["context"]["original_timestamp"], "2020-01-01T00:00:00Z");
    assert_eq!(events[1]["occurredAt"], "2020-01-01T00:00:00.000Z", "its caller chose the time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_event_is_the_same_in_all_three_modes() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let structured = json!({"specversion": "1.0", "id": "ce-1", "source": "/shop", "type": "like",
        "subject": "post/5", "time": "2026-01-02T03:04:05Z", "traceid": "t", "data": {"userId": "u"}});
    let binary = gateway
        .request("/api/events")
        .header("ce-specversion", "1.0")
        .header("ce-id", "ce-1")
        .header("ce-source", "/shop")
        .header("ce-type", "like")
        .header("ce-subject", "post/5")
        .header("ce-time", "2026-01-02T03:04:05Z")
        .header("ce-traceid", "t")
        .body(r#"{"userId":"u"}"#);
    let of_type = |content_type, body: String| {
        gateway.request("/api/events").header("content-type", content_type).body(body)
    };
    let batch = json!([structured]).to_string();
    for request in [
        binary,
        of_type("application/cloudevents+json; charset=utf-8", structured.to_string()),
        of_type("application/cloudevents-batch+json", batch),
        of_type("application/json", structured.to_string()),
    ] {
        let answer = answer(request).await;
        assert_eq!((answer.status, &answer.json["results"][0]["eventId"]), (202, &json!("ce-1")));
    }
    let records = tallyman.records().await;
    assert_eq!(records.len(), 4);
    for record in &records {
        assert_eq!(record.headers.text("surface"), Some("cloudevents"));
        let expected = json!({
            "eventId": "ce-1", "type": "like", "userId": "u", "objectType": "post", "objectId": "5",
            "occurredAt": "2026-01-02T03:04:05.000Z", "source": "/shop", "properties": {"userId": "u"},
            "context": {"specversion": "1.0", "subject": "post/5", "traceid": "t"},
        });
        assert_eq!(json_of(record), expected);
    }
    let nameless =
        of_type("application/cloudevents+json", r#"{"specversion":"1.0","id":"x"}"#.into());
    let refused = answer(nameless).await;
    assert_eq!((refused.status, &refused.json["code"]), (422, &json!("invalid_member")));
}

#[tokio::test(flavor = "multi_thread")]
async fn validation_gives_the_same_verdicts_and_stores_nothing() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let good = r#"{"userId":"u","type":"like","eventId":"good","postId":1,"time":1767323045678}"#;
    let bad = r#"{"userId":"u","eventId":"bad"}"#;
    for (body, status) in [
        (good.to_owned(), 200),
        (format!("[{good},{bad}]"), 207),
        (bad.to_owned(), 422),
        ("{".to_owned(), 400),
    ] {
        let validated = gateway.submit_to("/api/events/validate", body.clone()).await;
        assert_eq!(validated.status, status, "{body}");
        let submitted = gateway.submit(body).await;
        if status == 207 {
            assert_eq!(validated.json["results"][1], submitted.json["results"][1]);
        }
        assert_eq!(validated.json["code"], submitted.json["code"]);
    }
    let validated = gateway.submit_to("/api/events/validate", good).await;
    let event = &validated.json["results"][0]["event"];
    assert_eq!(
        (&event["objectId"], &event["occurredAt"]),
        (&json!("1"), &json!("2026-01-02T03:04:05.678Z"))
    );
    assert_eq!(tallyman.event_ids().await, ["good", "good"], "those that were submitted");
    let nobody = post(&gateway, "/api/events/validate", good).await;
    assert_eq!(nobody.status, 401);
}
