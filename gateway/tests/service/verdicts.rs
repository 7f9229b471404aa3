//! One verdict per event, and the status of their mixture.

use serde_json::json;

use crate::installation::{Installation, answer};

const GOOD: &str = r#"{"userId":"u","type":"like","eventId":"good"}"#;
const NO_TYPE: &str = r#"{"userId":"u","eventId":"bad"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_mixture_is_answered_207_and_only_the_good_are_stored() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let answer = gateway.submit(format!(r#"[{GOOD},{NO_TYPE},7,{GOOD}]"#)).await;
    assert_eq!(answer.status, 207);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!((&answer.json["accepted"], &answer.json["rejected"]), (&json!(2), &json!(2)));
    let results = answer.json["results"].as_array().unwrap();
    assert_eq!(results[0], json!({"index": 0, "eventId": "good", "status": "accepted"}));
    assert_eq!(results[1]["eventId"], "bad", "named as it was sent");
    assert_eq!(results[2]["index"], 2);
    assert_eq!(answer.reasons(), [("missing_type", "/1/type"), ("not_an_object", "/2")]);
    assert_eq!(tallyman.event_ids().await, ["good", "good"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_are_rejected_the_answer_is_a_problem_with_the_same_members() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let answer = gateway.submit(format!(r#"{{"events":[{NO_TYPE},{{"type":"like"}}]}}"#)).await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.json["code"], "events_rejected");
    assert_eq!((&answer.json["accepted"], &answer.json["rejected"]), (&json!(0), &json!(2)));
    assert_eq!(answer.json["errors"][1]["pointer"], "/events/1/userId");
    let reasons = [("missing_type", "/events/0/type"), ("missing_user", "/events/1/userId")];
    assert_eq!(answer.reasons(), reasons);

    let single = gateway.submit(NO_TYPE).await;
    assert_eq!((single.status, &single.json["code"]), (422, &json!("missing_type")));
    assert_eq!(single.reasons(), [("missing_type", "/type")]);
    assert_eq!(tallyman.records().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_accepted_can_be_left_out_of_the_results() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let body = format!("[{GOOD},{NO_TYPE}]");
    let errors = gateway.submit_to("/api/events?results=errors", body.clone()).await;
    assert_eq!(errors.status, 207);
    assert_eq!(errors.json["accepted"], 1);
    assert_eq!(errors.json["results"].as_array().unwrap().len(), 1);
    assert_eq!(errors.reasons(), [("missing_type", "/1/type")]);
    let all = gateway.submit_to("/api/events?results=all", body.clone()).await;
    assert_eq!(all.json["results"].as_array().unwrap().len(), 2);
    let other = gateway.submit_to("/api/events?results=few", body).await;
    assert_eq!((other.status, &other.json["code"]), (400, &json!("invalid_query")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_line_is_one_rejected_event() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let mut body = format!("{GOOD}\n{{\"userId\":\n[]\n").into_bytes();
    body.extend_from_slice(b"{\"userId\":\"\xff\"}\n");
    body.extend_from_slice(GOOD.as_bytes());
    let request = gateway.request("/api/events").header("content-type", "application/x-ndjson");
    let answer = answer(request.body(body)).await;
    assert_eq!(answer.status, 207);
    assert_eq!(answer.json["accepted"], 2);
    let reasons = [("invalid_json", "/1"), ("not_an_object", "/2"), ("invalid_utf8", "/3")];
    assert_eq!(answer.reasons(), reasons);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_even_one_event_is_the_request_s_fault() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    for (body, code) in [
        (&b""[..], "empty_body"),
        (b" \n", "empty_body"),
        (b"[]", "empty_batch"),
        (b"{\"events\":[]}", "empty_batch"),
        (b"{\"events\":{}}", "invalid_member"),
        (b"type=like&userId=u1", "invalid_json"),
        (b"{\"type\":\"like\"", "invalid_json"),
        (b"[{\"type\":\"like\"},", "invalid_json"),
        (b"{\"type\":\"\xff\"}", "invalid_utf8"),
        (b"[\"\xff\"]", "invalid_utf8"),
        (b"\x1f\x8b\x08", "invalid_json"),
    ] {
        let answer = gateway.submit(body).await;
        let shown = String::from_utf8_lossy(body);
        assert_eq!((answer.status, &answer.json["code"]), (400, &json!(code)), "{shown}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{shown}");
    }
    assert_eq!(tallyman.records().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_parser_refuses_is_named_with_its_place() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let event = |member: &str| format!(r#"{{"userId":"u","type":"like",{member}}}"#);
    let deep = |levels: usize| format!(r#""a":{}{}"#, "[".repeat(levels), "]".repeat(levels));
    for (member, code, pointer) in [
        (r#""a":{"b":"\u0000"}"#.to_owned(), "invalid_unicode", "/a/b"),
        (r#""a":[1e999]"#.to_owned(), "number_out_of_range", "/a/0"),
        (r#""time":"2999-01-01T00:00:00Z""#.to_owned(), "time_out_of_range", "/time"),
        (r#""time":"yesterday""#.to_owned(), "invalid_time", "/time"),
        (format!(r#""eventId":"{}""#, "x".repeat(257)), "id_too_long", "/eventId"),
        (deep(32), "too_deep", ""),
        (deep(1_000), "too_deep", ""),
    ] {
        let answer = gateway.submit(event(&member)).await;
        assert_eq!((answer.status, answer.reasons()), (422, vec![(code, pointer)]), "{member}");
        let answer = gateway.submit(format!("[{},{GOOD}]", event(&member))).await;
        let pointer = format!("/0{pointer}");
        assert_eq!((answer.status, answer.reasons()), (207, vec![(code, &*pointer)]), "{member}");
    }
    assert_eq!(gateway.submit(event(&deep(31))).await.status, 202, "32 levels are taken");
}
