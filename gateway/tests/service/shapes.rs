//! Every way to put events into a body.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::installation::{Answer, Installation, answer, json_of};

fn ids(answer: &Answer) -> Vec<&str> {
    let results = answer.json["results"].as_array().unwrap();
    results.iter().map(|result| result["eventId"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_event_lies_in_kafka_under_its_user_with_its_headers() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let body = r#"{"userId":7,"postId":123,"type":"like","eventId":"e1","time":1767323045678}"#;
    let answer = gateway.submit(body).await;
    assert_eq!(answer.status, 202);
    let accepted = json!({
        "accepted": 1, "rejected": 0, "retry": 0,
        "results": [{"index": 0, "eventId": "e1", "status": "accepted"}],
    });
    assert_eq!(answer.json, accepted);
    let records = tallyman.records().await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].key.as_deref(), Some(&b"7"[..]));
    let header = |name| records[0].headers.text(name);
    assert_eq!(header("event_id"), Some("e1"));
    assert_eq!(header("content-type"), Some("application/json"));
    assert_eq!(header("surface"), Some("http"));
    let canonical = json!({
        "eventId": "e1", "type": "like", "userId": "7", "objectType": "post", "objectId": "123",
        "occurredAt": "2026-01-02T03:04:05.678Z", "source": "http", "properties": {}, "context": {},
    });
    assert_eq!(json_of(&records[0]), canonical);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_may_be_an_array_or_wrapped_or_lines_and_keeps_its_order() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let event = |id: &str| format!(r#"{{"userId":"u","type":"like","eventId":"{id}"}}"#);
    let (a, b) = (event("a"), event("b"));
    let indented = a.replace('{', "{\n  ").replace(',', ",\n  ").replace('}', "\n}\n");
    for (content_type, body, expected) in [
        ("application/json", format!("[{a},\n{b}]"), 2),
        ("application/json", format!(r#"{{"sentAt":"now","events":[{a},{b}]}}"#), 2),
        ("application/x-ndjson", format!("{a}\n{b}"), 2),
        ("application/jsonl; charset=utf-8", format!("{a}\r\n\r\n{b}\r\n"), 2),
        ("application/x-www-form-urlencoded", format!("{a}\n{b}\n"), 2),
        ("text/plain", format!("\u{feff} {a} \n"), 1),
        ("application/json", indented, 1),
        ("application/x-ndjson", a.clone(), 1),
    ] {
        let request = gateway.request("/api/events").header("content-type", content_type);
        let answer = answer(request.body(body.clone())).await;
        assert_eq!(answer.status, 202, "{body}");
        assert_eq!(ids(&answer), &["a", "b"][..expected], "{body}");
    }
    let records = tallyman.records().await;
    let order: Vec<_> = records.iter().map(|it| json_of(it)["eventId"].clone()).collect();
    let expected = "abababababaaa".chars().map(|id| Value::from(id.to_string()));
    assert_eq!(order, expected.collect::<Vec<_>>(), "one user, one partition, one order");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_flat_forms_are_taken_on_their_paths_with_and_without_the_slash() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let product = r#"{"event_name":"view","client_id":5,"product_id":9,"event_datetime":"2026-01-02 03:04:05","sid":"s","ts":1,"r":2,"price":"9.90"}"#;
    let content = r#"[{"event_name":"view","content_id":"c1","userId":"u1","event_datetime":"2026-01-02 03:04:05","sid":"s"}]"#;
    for (paths, body) in [
        (["/product_events/", "/product_events"], product),
        (["/api-fast/view-event", "/api-fast/view-event/"], content),
        (["/api/events", "/api/events/"], product),
    ] {
        let first = gateway.submit_to(paths[0], body).await;
        let again = gateway.submit_to(paths[1], body).await;
        assert_eq!((first.status, again.status), (202, 202), "{paths:?}");
        assert_eq!(ids(&first), ids(&again), "a re-send is the same event");
        assert_eq!(ids(&first)[0].len(), 64, "a hash, since it has a time of its own");
    }
    let records = tallyman.records().await;
    let stored =
        records.iter().map(json_of).find(|event| event["objectType"] == "product").unwrap();
    assert_eq!(stored["properties"]["price"], "9.90");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_with_neither_id_nor_time_gets_an_id_that_the_answer_returns() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let answer = gateway.submit(r#"{"userId":"u1","postId":"p1","type":"like"}"#).await;
    let given = ids(&answer)[0];
    assert_eq!(given.parse::<Uuid>().unwrap().get_version_num(), 7);
    assert_eq!(tallyman.event_ids().await, [given]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_names_its_members_in_its_header_and_a_problem_by_its_line() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let table = "event_id,type,user_id,postId,ts,price\r\na,like,u,5,1767323045678,9.90\r\nb,like,,5,,\r\nc,like\r\n";
    let send = |table: &'static str| {
        gateway
            .request("/api/events")
            .header("content-type", "text/csv; header=present")
            .body(table)
    };
    let mixed = answer(send(table)).await;
    assert_eq!(mixed.status, 207, "{}", mixed.json);
    assert_eq!(mixed.reasons(), [("missing_user", "/1/userId"), ("cell_count", "/2")]);
    for (index, line) in [(1, "line 3: "), (2, "line 4: ")] {
        let detail = mixed.json["results"][index]["detail"].as_str().unwrap();
        assert!(detail.starts_with(line), "{detail}");
    }
    let records = tallyman.records().await;
    let event = json_of(&records[0]);
    assert_eq!(
        (&event["objectId"], &event["occurredAt"]),
        (&json!("5"), &json!("2026-01-02T03:04:05.678Z"))
    );
    let refused = answer(send("type,price\nlike,1\n")).await;
    assert_eq!((refused.status, &refused.json["code"]), (400, &json!("invalid_header")));
}
