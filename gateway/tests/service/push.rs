//! Listening: who is shown what, how sockets resume, and how they end.

use common::kafka::{GroupOffsets, Headers, TopicPartition};
use common::topic;
use gateway::auth::Right;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Error;

use crate::installation::{Installation, answer, eventually};
use crate::listener::{Events, Heard, Kind, Listener, Writer, tally, web_socket};
use crate::raw::Raw;
use crate::signing::{Signer, in_seconds};

const LIVE: &str = "/api/events/live";
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn action(id: &str, user: &str, kind: &str) -> String {
    json!({"eventId": id, "type": kind, "userId": user, "objectType": "post", "objectId": "1",
           "source": "test", "properties": {}})
    .to_string()
}

fn alert(id: &str, owner: &str) -> String {
    json!({"specversion": "1.0", "id": id, "subject": "post/1",
           "data": {"rule": "milestone", "severity": "info", "userId": owner}})
    .to_string()
}

async fn key(tallyman: &Installation, right: Right) -> String {
    tallyman.store().create("test", right).await.unwrap().secret
}

/// The ids of the next so many messages.
async fn ids(listener: &mut Listener, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let message = listener.json().await;
        let id = message.get("eventId").or(message.get("id"));
        ids.push(id.unwrap_or(&message).as_str().expect("a message").to_owned());
    }
    ids
}

fn notifications(kind: Kind) -> &'static str {
    match kind {
        Kind::WebSocket => "/api/notifications/ws",
        Kind::Sse => "/api/notifications/stream",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_kinds_of_sockets_show_what_comes_from_now_on_with_a_cursor() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let read = key(&tallyman, Right::Read).await;
    let mut writer = Writer::of(&tallyman, &topic::NOTIFICATIONS).await;
    writer.write(&[("a", alert("before", "u"))]).await;
    for kind in Kind::BOTH {
        let mut listener = Listener::open(&gateway, kind, notifications(kind), &read).await;
        let id = format!("{kind:?}");
        writer.write(&[("a", alert(&id, "u"))]).await;
        let mut message = listener.json().await;
        let cursor = message.as_object_mut().unwrap().remove("cursor");
        assert!(cursor.is_some_and(|it| it.as_str().is_some_and(|it| !it.is_empty())));
        assert_eq!(message, serde_json::from_str::<Value>(&alert(&id, "u")).unwrap());
    }
    gateway.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn live_events_can_be_chosen_among_by_their_columns() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let admin = key(&tallyman, Right::Admin).await;
    let mut writer = Writer::of(&tallyman, &topic::UNIQUE_ACTIONS).await;
    for kind in Kind::BOTH {
        let path = format!("{LIVE}?type=like&userId=a%20b&objectType=post&objectId=1&source=test");
        let mut listener = Listener::open(&gateway, kind, &path, &admin).await;
        let wanted = format!("{kind:?}");
        let events = [("1", "u", "like"), ("2", "a b", "view"), (&*wanted, "a b", "like")];
        let events = events.map(|(id, user, kind)| ("k", action(id, user, kind)));
        writer.write(&events).await;
        assert_eq!(ids(&mut listener, 1).await, [wanted]);
    }
    gateway.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_shown_with_their_reason() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let read = key(&tallyman, Right::Read).await;
    let mut writer = Writer::of(&tallyman, &topic::DEAD_LETTERS).await;
    for kind in Kind::BOTH {
        let path = format!("{LIVE}?verdict=rejected&code=invalid_json");
        let mut listener = Listener::open(&gateway, kind, &path, &read).await;
        for code in ["too_deep", "invalid_json"] {
            let mut headers = Headers::default();
            headers.push("error_code", code);
            headers.push("error_detail", "why");
            headers.push("origin_topic", "user-actions");
            headers.push("origin_partition", "3");
            headers.push("origin_offset", "42");
            writer.write_with(&[("k", "{\"broken\":\n".to_owned())], &headers).await;
        }
        let shown = listener.json().await;
        assert_eq!(shown["verdict"], "rejected");
        assert_eq!(shown["code"], "invalid_json");
        assert_eq!(shown["detail"], "why");
        assert_eq!(shown["origin"], "user-actions/3/42");
        assert_eq!(shown["value"], "{\"broken\":\n");
    }
    gateway.stop().await.unwrap();
}

/// Four partitions are written in transactions while one listener comes and goes: from one kind of
/// socket to the other, from one gateway to another, and across a restart.
#[tokio::test(flavor = "multi_thread")]
async fn reconnects_and_restarts_lose_nothing_and_repeat_nothing() {
    const TRANSACTIONS: usize = 150;
    const EACH: usize = 20;
    let tallyman = Installation::new().await;
    // So small that most resumptions have to go back to Kafka.
    let settings = ["--gateway-push-ring-kbytes", "32"];
    let mut gateways = [tallyman.start(&settings).await, tallyman.start(&settings).await];
    let read = key(&tallyman, Right::Read).await;
    let mut writer = Writer::of(&tallyman, &topic::UNIQUE_ACTIONS).await;
    let first = Events::open(&gateways[0], LIVE, &[("x-api-key", &read)]).await;
    let mut writing = JoinSet::new();
    writing.spawn(async move {
        for transaction in 0..TRANSACTIONS {
            let number = |n| transaction * EACH + n;
            let keys: Vec<_> = (0..EACH).map(|n| format!("key-{}", number(n) % 37)).collect();
            let records: Vec<_> = (0..EACH)
                .map(|n| (&*keys[n], action(&format!("{}", number(n)), &keys[n], "like")))
                .collect();
            writer.write(&records).await;
        }
    });
    let mut seen: Vec<(String, String)> = Vec::new();
    let mut cursor = String::new();
    let mut listener = Listener::Sse(first);
    for round in 0.. {
        while seen.len() < TRANSACTIONS * EACH {
            let message = match listener.next().await {
                Heard::Json(message) if message.get("control").is_none() => message,
                // The ring is small: a reader may well be too slow for it.
                Heard::Json(lagged) => {
                    cursor = lagged["cursor"].as_str().unwrap().to_owned();
                    break;
                }
                Heard::End(_) => break,
            };
            let text = |name: &str| message[name].as_str().unwrap().to_owned();
            cursor = text("cursor");
            seen.push((text("eventId"), text("userId")));
            if seen.len().is_multiple_of(173) {
                break;
            }
        }
        if seen.len() == TRANSACTIONS * EACH {
            break;
        }
        let at = round % 2;
        if round % 5 == 4 {
            let fresh = tallyman.start(&settings).await;
            drop(listener);
            std::mem::replace(&mut gateways[at], fresh).stop().await.unwrap();
        }
        let path = format!("{LIVE}?cursor={cursor}");
        let kind = Kind::BOTH[(round / 2) % 2];
        listener = Listener::open(&gateways[at], kind, &path, &read).await;
    }
    writing.join_all().await;
    let counts = tally(seen.iter().map(|(id, _)| &**id));
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "seen more than once: {twice:?}");
    assert_eq!(counts.len(), TRANSACTIONS * EACH, "all of them");
    for user in seen.iter().map(|(_, user)| user).take(37) {
        let order = seen.iter().filter(|(_, of)| of == user).map(|(id, _)| id.parse::<u32>());
        assert!(order.map(Result::unwrap).is_sorted(), "one key keeps its order");
    }
    for gateway in gateways {
        gateway.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_told_what_it_missed_and_cut_and_can_resume() {
    const COUNT: usize = 12_000;
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&["--gateway-push-ring-kbytes", "64"]).await;
    let read = key(&tallyman, Right::Read).await;
    let mut writer = Writer::of(&tallyman, &topic::UNIQUE_ACTIONS).await;
    let (slow, _) = web_socket(&gateway, LIVE, &[("x-api-key", &read)]).await.unwrap();
    let long = "x".repeat(1_000);
    for thousand in 0..COUNT / 1_000 {
        let number = |n: usize| format!("{}", thousand * 1_000 + n);
        let records: Vec<_> =
            (0..1_000).map(|n| ("k", action(&number(n), &long, "like"))).collect();
        writer.write(&records).await;
    }
    eventually("it is noticed", || async {
        let (_, metrics) = gateway.get("/metrics").await;
        metrics.contains("gateway_push_sockets_lagged_total{stream=\"events\"} 1")
    })
    .await;
    let mut slow = Listener::WebSocket(Box::new(slow));
    let (mut sent, mut lagged) = (0, Value::Null);
    let code = loop {
        match slow.next().await {
            Heard::Json(message) if message.get("control").is_some() => lagged = message,
            Heard::Json(message) => {
                assert_eq!(message["eventId"], format!("{sent}"));
                sent += 1;
            }
            Heard::End(code) => break code,
        }
    };
    assert_eq!(code, Some(1013));
    assert_eq!(lagged["control"], "lagged");
    let missed = lagged["missed"].as_u64().unwrap() as usize;
    assert!(missed > 0 && sent + missed <= COUNT, "{sent} sent, {missed} missed");
    let path = format!("{LIVE}?cursor={}", lagged["cursor"].as_str().unwrap());
    let mut resumed = Listener::open(&gateway, Kind::Sse, &path, &read).await;
    assert_eq!(ids(&mut resumed, 1).await, [format!("{sent}")]);
    gateway.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_more_is_cut() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&["--gateway-stall-seconds", "1"]).await;
    let read = key(&tallyman, Right::Read).await;
    let mut writer = Writer::of(&tallyman, &topic::UNIQUE_ACTIONS).await;
    let (unread, _) = web_socket(&gateway, LIVE, &[("x-api-key", &read)]).await.unwrap();
    let mut stream = Raw::connect(&gateway).await;
    let get = format!(
        "GET {LIVE} HTTP/1.1
host: x
x-api-key: {read}

"
    );
    stream.send(&get).await;
    stream.receive_until("retry: ").await;
    let open = |count: usize| {
        let gateway = &gateway;
        async move {
            let (_, metrics) = gateway.get("/metrics").await;
            metrics.contains(&format!("gateway_push_sockets{{stream=\"events\"}} {count}\n"))
        }
    };
    assert!(open(2).await);
    let long = "x".repeat(100_000);
    let records: Vec<_> = (0..100).map(|n| ("k", action(&n.to_string(), &long, "like"))).collect();
    writer.write(&records).await;
    eventually("both are cut", || open(0)).await;
    drop((unread, stream));
    gateway.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_sees_what_is_its_own_until_it_expires() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&["--jwt-secret", SECRET, "--jwt-leeway-seconds", "0"]).await;
    let token = Signer::hs256(SECRET).token(&json!({"sub": "me", "exp": in_seconds(6)}));
    let mut writer = Writer::of(&tallyman, &topic::NOTIFICATIONS).await;
    // As browsers can send it: over a socket among the protocols, to a stream in the query.
    let protocols = format!("bearer, {token}");
    let (socket, _) =
        web_socket(&gateway, "/api/notifications/ws", &[("sec-websocket-protocol", &protocols)])
            .await
            .unwrap();
    let path = format!("/api/notifications/stream?access_token={token}");
    let listeners = [
        Listener::WebSocket(Box::new(socket)),
        Listener::Sse(Events::open(&gateway, &path, &[]).await),
    ];
    writer.write(&[("k", alert("yours", "you")), ("k", alert("mine", "me"))]).await;
    for (mut listener, code) in listeners.into_iter().zip([Some(1008), None]) {
        assert_eq!(listener.json().await["id"], "mine");
        assert_eq!(listener.end().await, code);
    }
    let live = gateway.client.get(gateway.url(LIVE)).bearer_auth(&token);
    assert_eq!(answer(live).await.status, 401);
    gateway.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_retention_has_passed_is_told_and_goes_on_from_the_oldest() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let read = key(&tallyman, Right::Read).await;
    let mut writer = Writer::of(&tallyman, &topic::NOTIFICATIONS).await;
    let mut listener =
        Listener::open(&gateway, Kind::WebSocket, "/api/notifications/ws", &read).await;
    writer.write(&[("k", alert("1", "u"))]).await;
    let seen = listener.json().await;
    let cursor = seen["cursor"].as_str().unwrap();
    for id in 2..=5 {
        writer.write(&[("k", alert(&id.to_string(), "u"))]).await;
    }
    assert_eq!(ids(&mut listener, 4).await.last().unwrap(), "5");
    tallyman.forget_notifications_before(6).await;
    // This gateway still holds them in memory and hands them out; a new one cannot.
    drop(listener);
    gateway.stop().await.unwrap();
    let gateway = tallyman.start(&[]).await;
    for kind in Kind::BOTH {
        let at = |cursor: &str| format!("{}?cursor={cursor}", notifications(kind));
        let mut listener = Listener::open(&gateway, kind, &at(cursor), &read).await;
        let control = listener.json().await;
        assert_eq!(control["control"], "expired");
        assert_eq!(control["reason"], "retention");
        assert_eq!(ids(&mut listener, 2).await, ["4", "5"]);
        let after = at(control["cursor"].as_str().unwrap());
        let mut again = Listener::open(&gateway, kind, &after, &read).await;
        assert_eq!(ids(&mut again, 2).await, ["4", "5"]);
    }
    gateway.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_a_topic_that_was_created_anew_is_told() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let read = key(&tallyman, Right::Read).await;
    let mut writer = Writer::of(&tallyman, &topic::NOTIFICATIONS).await;
    let path = "/api/notifications/ws";
    let mut listener = Listener::open(&gateway, Kind::WebSocket, path, &read).await;
    writer.write(&[("k", alert("old", "u"))]).await;
    let seen = listener.json().await;
    let path = format!("{path}?cursor={}", seen["cursor"].as_str().unwrap());
    drop(listener);
    gateway.stop().await.unwrap();
    tallyman.delete_notifications().await;
    let mut writer = Writer::of(&tallyman, &topic::NOTIFICATIONS).await;
    for id in ["a", "b", "c"] {
        writer.write(&[("k", alert(id, "u"))]).await;
    }
    let gateway = tallyman.start(&[]).await;
    let mut listener = Listener::open(&gateway, Kind::WebSocket, &path, &read).await;
    let control = listener.json().await;
    assert_eq!((&control["control"], &control["reason"]), (&json!("expired"), &json!("recreated")));
    assert_eq!(ids(&mut listener, 3).await, ["a", "b", "c"]);
    gateway.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_source_that_reconnects_goes_on_where_it_was() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let read = key(&tallyman, Right::Read).await;
    let mut writer = Writer::of(&tallyman, &topic::NOTIFICATIONS).await;
    let path = "/api/notifications/stream";
    let mut silent = Events::open(&gateway, path, &[("x-api-key", &read)]).await;
    writer.write(&[("k", alert("1", "u")), ("k", alert("2", "u"))]).await;
    let (id, message) = silent.next().await.unwrap();
    assert_eq!((message["id"].as_str(), message["cursor"].as_str()), (Some("1"), Some(&*id)));
    // The query is that of the first connection; the header is what counts.
    let path = format!("{path}?cursor=nonsense");
    let headers = [("x-api-key", &*read), ("last-event-id", &*id)];
    let mut again = Events::open(&gateway, &path, &headers).await;
    assert_eq!(again.next().await.unwrap().1["id"], "2");
    gateway.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_or_asks_for_what_is_not_there_is_told_so() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let read = key(&tallyman, Right::Read).await;
    let status = |path: &str, key: &str| {
        let (gateway, key) = (&gateway, key.to_owned());
        let url = gateway.url(path);
        async move { answer(gateway.client.get(url).header("x-api-key", key)).await }
    };
    for path in ["/api/notifications/stream", LIVE] {
        assert_eq!(status(path, "unknown").await.status, 401, "{path}");
        let lacking = status(path, &gateway.write_key).await;
        assert_eq!((lacking.status, &lacking.json["code"]), (403, &json!("missing_right")));
        for (query, code) in [
            ("?cursor=nonsense", "invalid_cursor"),
            ("?cursor=cmFuZG9t", "invalid_cursor"),
            ("?user=1", "invalid_query"),
        ] {
            let refused = status(&format!("{path}{query}"), &read).await;
            assert_eq!(
                (refused.status, &refused.json["code"]),
                (400, &json!(code)),
                "{path}{query}"
            );
        }
    }
    assert_eq!(status(&format!("{LIVE}?verdict=maybe"), &read).await.status, 400);
    let plain = status("/api/notifications/ws", &read).await;
    assert_eq!((plain.status, plain.header("upgrade")), (426, "websocket"));
    for (path, key, status) in [
        ("/api/notifications/ws", "unknown", 401),
        (LIVE, &gateway.write_key, 403),
        ("/api/notifications/ws?cursor=nonsense", &read, 400),
    ] {
        match web_socket(&gateway, path, &[("x-api-key", key)]).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), status, "{path}"),
            other => panic!("{path}: {:?}", other.map(|(_, response)| response)),
        }
    }
    gateway.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_ends_its_sockets() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let stays = key(&tallyman, Right::Read).await;
    for kind in Kind::BOTH {
        let mut other = Listener::open(&gateway, kind, notifications(kind), &stays).await;
        let goes = tallyman.store().create("test", Right::Read).await.unwrap();
        let mut listener = Listener::open(&gateway, kind, notifications(kind), &goes.secret).await;
        tallyman.store().revoke(goes.id).await.unwrap();
        let code = listener.end().await;
        assert_eq!(code, (kind == Kind::WebSocket).then_some(1008));
        let mut writer = Writer::of(&tallyman, &topic::NOTIFICATIONS).await;
        writer.write(&[("k", alert("1", "u"))]).await;
        assert_eq!(ids(&mut other, 1).await, ["1"], "the others stay");
    }
    gateway.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_says_goodbye() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let read = key(&tallyman, Right::Read).await;
    let mut web = Listener::open(&gateway, Kind::WebSocket, LIVE, &read).await;
    let mut sse = Listener::open(&gateway, Kind::Sse, LIVE, &read).await;
    let (stopped, code, end) = tokio::join!(gateway.stop(), web.end(), sse.end());
    stopped.unwrap();
    assert_eq!((code, end), (Some(1001), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_sockets_than_it_takes_are_sent_away() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&["--gateway-sockets-max", "1"]).await;
    let read = key(&tallyman, Right::Read).await;
    let only = Listener::open(&gateway, Kind::Sse, LIVE, &read).await;
    let another = || answer(gateway.client.get(gateway.url(LIVE)).header("x-api-key", &read));
    let refused = another().await;
    assert_eq!((refused.status, &refused.json["code"]), (503, &json!("too_many_sockets")));
    assert!(!refused.header("retry-after").is_empty());
    drop(only);
    eventually("there is room again", || async {
        let url = gateway.url(LIVE);
        let response = gateway.client.get(url).header("x-api-key", &read).send().await.unwrap();
        response.status() == 200
    })
    .await;
    gateway.stop().await.unwrap();
}

impl Installation {
    fn admin(&self) -> AdminClient<DefaultClientContext> {
        let brokers = self.kafka().kafka_brokers;
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap()
    }

    /// As retention does, in the one partition that has so many records.
    async fn forget_notifications_before(&self, offset: i64) {
        let topic = self.topic("notifications");
        let offsets = GroupOffsets::of(&self.kafka(), "test").unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..offsets.partition_count(&topic).await.unwrap() {
            let source = TopicPartition { topic: topic.clone(), partition };
            if offsets.watermarks(&source).await.unwrap().high > offset {
                let offset = Offset::Offset(offset);
                list.add_partition_offset(&topic, partition, offset).unwrap();
            }
        }
        let options = AdminOptions::new();
        let deleted = self.admin().delete_records(&list, &options).await.unwrap();
        assert!(deleted.elements().iter().all(|it| it.error().is_ok()));
    }

    async fn delete_notifications(&self) {
        let topic = self.topic("notifications");
        let deleted = self.admin().delete_topics(&[&topic], &AdminOptions::new()).await.unwrap();
        assert!(deleted.iter().all(Result::is_ok));
    }
}
