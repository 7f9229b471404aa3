//! Lag, one event's way and dead letters over HTTP, from marks as the processor writes them.

use common::kafka::{GroupOffsets, TopicPartition};
use fred::prelude::HashesInterface;
use gateway::auth::Right;
use serde_json::{Value, json};

use crate::installation::{Answer, Gateway, Installation, answer};

async fn ask(tallyman: &Installation, gateway: &Gateway, right: Right, path: &str) -> Answer {
    let key = tallyman.store().create("asks", right).await.unwrap().secret;
    answer(gateway.client.get(gateway.url(path)).header("x-api-key", key)).await
}

fn ratchet<'a>(report: &'a Value, name: &str) -> &'a Value {
    let ratchets = report["ratchets"].as_array().unwrap();
    ratchets.iter().find(|it| it["name"] == name).unwrap()
}

/// A ledger over all partitions of `user-actions`, as far as `judged` says of each one's end.
async fn judge(tallyman: &Installation, judged: impl Fn(i64) -> i64) {
    let topic = tallyman.topic("user-actions");
    let offsets = GroupOffsets::of(&tallyman.kafka(), "test").unwrap();
    for partition in 0..offsets.partition_count(&topic).await.unwrap() {
        let source = TopicPartition { topic: topic.clone(), partition };
        let next = judged(offsets.watermarks(&source).await.unwrap().high);
        tallyman
            .execute(&format!(
                "insert into consumer_ledger (topic, partition, topic_id, start_offset, next_offset,
                                              consumed, stored)
                 values ('{topic}', {partition}, gen_random_uuid(), 0, {next}, {next}, {next})"
            ))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_of_a_step_is_what_lies_between_its_mark_and_the_end_of_the_log() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    for n in 0..5 {
        let event = json!({"type": "like", "userId": format!("u{n}")});
        assert_eq!(gateway.submit(event.to_string()).await.status, 202);
    }
    judge(&tallyman, |end| end).await;
    let report = ask(&tallyman, &gateway, Right::Read, "/api/pipeline").await;
    assert_eq!(report.status, 200, "{}", report.json);
    assert_eq!(report.json["verdicts"]["stored"], 5);
    assert_eq!(
        ratchet(&report.json, "ledger"),
        &json!({"name": "ledger", "records": 0, "seconds": 0.0})
    );
    for name in ["rollups", "statistics", "counters", "relay"] {
        let step = ratchet(&report.json, name);
        assert_eq!(step["records"], 5, "{step}");
        // The log knows since when they wait.
        assert!(step["seconds"].as_f64().unwrap() > 0.0, "{step}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_that_are_rebuilt_have_no_lag_that_is_known() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    judge(&tallyman, |end| end).await;
    let redis = tallyman.redis().await;
    let _: () = redis.hset("tm:counters", ("state", "building")).await.unwrap();
    let report = ask(&tallyman, &gateway, Right::Read, "/api/pipeline").await;
    assert_eq!(report.json["counters"], "rebuilding");
    assert_eq!(ratchet(&report.json, "counters")["records"], Value::Null);
    assert_eq!(ratchet(&report.json, "ledger")["records"], 0);
}

/// An event as the judge stores it, at offset 7 of source 1.
async fn store(tallyman: &Installation, event_id: &str) {
    tallyman
        .execute(&format!(
            "insert into consumer_ledger (topic, partition, topic_id, start_offset, next_offset)
             values ('t', 3, gen_random_uuid(), 0, 8);
             select ensure_event_leaves(1);
             insert into event_keys values ('{event_id}', current_date);
             insert into events values ('{event_id}', 'like', 'u1', 'post', '1', now(), now(), 'test', null,
                                        '{{}}', '{{}}', '{event_id}', (1::bigint << 44) | 7, current_date);
             insert into notifications (id, rule, severity, status, subject, observed, expected, text,
                                        occurred_at, data)
             values ('n1', 'milestone', 'info', 'info', 'post/1', 10, 10, 'Post 1 reached 10 likes', now(), '{{}}'),
                    ('n2', 'milestone', 'info', 'info', 'post/2', 10, 10, 'Another', now(), '{{}}')"
        ))
        .await;
}

fn step<'a>(trace: &'a Value, name: &str) -> &'a Value {
    let steps = trace["steps"].as_array().unwrap();
    &steps.iter().find(|it| it["name"] == name).unwrap()["done"]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_traced_as_far_as_each_mark_has_come() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let event_id = "0195a1f0-0000-7000-8000-000000000001";
    let path = format!("/api/events/{event_id}/trace");
    let before = ask(&tallyman, &gateway, Right::Read, &path).await;
    assert_eq!((before.status, step(&before.json, "stored")), (200, &json!(false)));
    assert_eq!(before.json["event"], Value::Null);

    store(&tallyman, event_id).await;
    let redis = tallyman.redis().await;
    let _: () = redis.hset("tm:counters", [("state", "live"), ("1", "7")]).await.unwrap();
    let stored = ask(&tallyman, &gateway, Right::Read, &path).await.json;
    assert_eq!(stored["origin"], "t/3/7");
    assert_eq!(
        (&stored["event"]["type"], &stored["event"]["objectId"]),
        (&json!("like"), &json!("1"))
    );
    assert_eq!((step(&stored, "stored"), step(&stored, "counted")), (&json!(true), &json!(false)));
    assert_eq!(stored["notifications"].as_array().unwrap().len(), 1);
    assert_eq!(stored["notifications"][0]["text"], "Post 1 reached 10 likes");

    // A mark is the offset that comes next.
    let _: () = redis.hset("tm:counters", ("1", "8")).await.unwrap();
    let counted = ask(&tallyman, &gateway, Right::Read, &path).await.json;
    assert_eq!(
        (step(&counted, "counted"), step(&counted, "rolledUp")),
        (&json!(true), &json!(false))
    );

    // Its counter and its user are there: only with both marks is it rolled up.
    for (marks, is_rolled_up) in [("statistics_marks", false), ("rollup_marks", true)] {
        tallyman.execute(&format!("insert into {marks} (source, next_offset) values (1, 8)")).await;
        let trace = ask(&tallyman, &gateway, Right::Read, &path).await.json;
        assert_eq!(step(&trace, "rolledUp"), is_rolled_up, "{marks}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_come_newest_first_in_pages_to_administrators_alone() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    tallyman
        .execute(
            "insert into dead_letters (src, topic, partition, record_offset, record_value, error_code,
                                       error_detail, received_at)
             select n, 't', 0, n, case n when 3 then '\\xff'::bytea when 2 then null else convert_to('é' || repeat('x', 5000), 'utf8') end,
                    case n when 1 then 'empty' else 'invalid_json' end, 'why', now()
               from generate_series(1, 3) as n",
        )
        .await;
    assert_eq!(ask(&tallyman, &gateway, Right::Read, "/api/dead-letters").await.status, 403);

    let first = ask(&tallyman, &gateway, Right::Admin, "/api/dead-letters?limit=2").await.json;
    let letters = first["deadLetters"].as_array().unwrap();
    assert_eq!(letters.iter().map(|it| &it["origin"]).collect::<Vec<_>>(), ["t/0/3", "t/0/2"]);
    assert_eq!(
        (&letters[0]["value"], &letters[1]["value"]),
        (&json!({"base64": "/w=="}), &Value::Null)
    );
    let next = format!("/api/dead-letters?limit=2&cursor={}", first["next"].as_str().unwrap());
    let second = ask(&tallyman, &gateway, Right::Admin, &next).await.json;
    let [last] = &second["deadLetters"].as_array().unwrap()[..] else { panic!("{second}") };
    assert_eq!((last["value"].as_str().unwrap().len(), &last["bytes"]), (4_096, &json!(5_002)));
    assert_eq!(second["next"], Value::Null);

    let of_code = ask(&tallyman, &gateway, Right::Admin, "/api/dead-letters?code=empty").await.json;
    assert_eq!(of_code["deadLetters"].as_array().unwrap().len(), 1);
    for query in ["cursor=x", "limit=0", "reason=empty"] {
        let refused =
            ask(&tallyman, &gateway, Right::Admin, &format!("/api/dead-letters?{query}")).await;
        assert_eq!(
            (refused.status, &refused.json["code"]),
            (400, &json!("invalid_query")),
            "{query}"
        );
    }
}
