//! Statistics and stored events over HTTP: who may ask, what is refused, what is kept. That answers are right is
//! tested with a processor, in `tests/tests/system/statistics.rs`.

use fred::prelude::{HashesInterface, SortedSetsInterface};
use serde_json::Value;
use tokio::process::Command;

use crate::installation::{Answer, Gateway, Installation, answer};
use gateway::auth::Right;

/// One source, at the offsets its events came from.
const LEDGER: &str = "
    insert into consumer_ledger (topic, partition, topic_id, start_offset, next_offset)
         values ('t', 0, gen_random_uuid(), 0, 10);
    insert into statistics_marks (source, next_offset) select source, 10 from consumer_ledger;
    select ensure_event_leaves(1)";

struct World {
    tallyman: Installation,
    gateway: Gateway,
    key: String,
}

impl World {
    async fn new(settings: &[&str]) -> Self {
        let tallyman = Installation::new().await;
        tallyman.execute(LEDGER).await;
        let gateway = tallyman.start(settings).await;
        let key = tallyman.store().create("reader", Right::Read).await.unwrap().secret;
        Self { tallyman, gateway, key }
    }

    async fn get(&self, path: &str) -> Answer {
        let url = self.gateway.url(path);
        answer(self.gateway.client.get(url).header("x-api-key", &self.key)).await
    }

    /// An event of this day has been added at that mark.
    async fn touch(&self, day: &str, mark: u32) {
        let sql = format!(
            "insert into statistics_days (day, source, mark)
             select '{day}', source, {mark} from consumer_ledger
             on conflict (day, source) do update set mark = excluded.mark"
        );
        self.tallyman.execute(&sql).await;
    }

    /// Stores events of a user, each of another second of one day, without statistics of them.
    async fn store(&self, day: &str, user: &str, count: u32) {
        let sql = format!(
            "insert into events
             select 'e' || n, case n % 2 when 0 then 'view' else 'like' end, '{user}', 'post', n::text,
                    '{day}'::timestamptz + n * interval '1 s', now(), 'web', null,
                    '{{\"text\": \"a, \\\"b\\\"\"}}', '{{}}', gen_random_uuid(), (1::bigint << 44) + n,
                    (now() at time zone 'utc')::date
               from generate_series(1, {count}) as n"
        );
        self.tallyman.execute(&sql).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_or_asks_for_what_is_not_is_told_so() {
    let world = World::new(&[]).await;
    let paths = ["/api/stats/dau", "/api/objects/post/1/counters", "/api/events"];
    for path in paths {
        assert_eq!(world.gateway.get(path).await.0, 401, "{path}");
        let url = world.gateway.url(path);
        let writer = world.gateway.client.get(url).header("x-api-key", &world.gateway.write_key);
        assert_eq!(answer(writer).await.json["code"], "missing_right", "{path}");
        assert_eq!(world.get(path).await.status, 200, "{path}");
    }
    assert_eq!(world.get("/api/stats/weather").await.json["code"], "not_found");
    for query in [
        "dau?unit=year",
        "dau?from=2026-13-01",
        "dau?from=2026-02-02&to=2026-02-01",
        "dau?tz=Mars",
        "dau?unti=day",
        "activity?unit=minute&from=2026-01-01&to=2026-03-01",
        "top-events?limit=1001",
        "top-objects?objectId=1",
        "retention?mode=some",
        "retention?from=2025-01-01&to=2026-01-01",
        "funnel",
        "funnel?steps=a,b&within=soon",
        "activity?by=user",
    ] {
        let refused = world.get(&format!("/api/stats/{query}")).await;
        assert_eq!(
            (refused.status, &refused.json["code"]),
            (400, &"invalid_query".into()),
            "{query}"
        );
    }
    let refused = world.get("/api/events?cursor=x").await;
    assert_eq!((refused.status, &refused.json["code"]), (400, &"invalid_cursor".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_kept_until_an_event_of_its_days_is_added() {
    let world = World::new(&[]).await;
    let path = "/api/stats/dau?from=2026-03-01&to=2026-03-08";
    let first = world.get(path).await;
    let tag = first.header("etag").to_owned();
    let as_of = first.json["asOf"].clone();
    assert_eq!(first.json["series"].as_array().unwrap().len(), 7);
    let again = world.get(path).await;
    assert_eq!(
        (again.header("etag"), &again.json["asOf"]),
        (tag.as_str(), &as_of),
        "it is the kept one"
    );
    assert!(again.header("age").parse::<u32>().is_ok());
    let known = |tag: &str| {
        let request =
            world.gateway.client.get(world.gateway.url(path)).header("x-api-key", &world.key);
        answer(request.header("if-none-match", format!("\"other\", {tag}")))
    };
    let unchanged = known(&tag).await;
    assert_eq!((unchanged.status, &unchanged.json), (304, &Value::Null));

    world.touch("2026-03-08", 3).await;
    assert_eq!(known(&tag).await.status, 304, "the range ends before that day");
    world.touch("2026-03-07", 5).await;
    let changed = known(&tag).await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.json["asOf"], as_of);
    crate::installation::flush(&world.tallyman.redis().await).await;
    let recomputed = world.get(path).await;
    assert_eq!(recomputed.header("etag"), changed.header("etag"), "Redis only keeps");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_takes_too_long_is_cancelled_in_postgres_too() {
    let world = World::new(&["--stats-answer-ms-max", "300"]).await;
    let (mut client, connection) =
        tokio_postgres::connect(world.tallyman.database_url(), tokio_postgres::NoTls)
            .await
            .unwrap();
    let mut connections = tokio::task::JoinSet::new();
    connections.spawn(connection);
    let locked = client.transaction().await.unwrap();
    locked.batch_execute("lock statistics_deltas, events in access exclusive mode").await.unwrap();
    for path in ["/api/stats/dau", "/api/events"] {
        let slow = world.get(path).await;
        assert_eq!((slow.status, &slow.json["code"]), (503, &"answer_too_slow".into()), "{path}");
        assert!(!slow.header("retry-after").is_empty());
    }
    let waiting = "select count(*) from pg_stat_activity
                    where datname = current_database() and wait_event_type = 'Lock'";
    crate::installation::eventually("nothing waits in Postgres any more", async || {
        locked.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    locked.rollback().await.unwrap();
    assert_eq!(world.get("/api/stats/dau").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_event_once_newest_first() {
    let world = World::new(&[]).await;
    world.store("2026-03-01", "ann", 250).await;
    world.store("2026-03-09", "bob", 30).await;
    let (mut ids, mut path) = (Vec::new(), "/api/events?limit=100".to_owned());
    loop {
        let page = world.get(&path).await.json;
        let events = page["events"].as_array().unwrap();
        ids.extend(
            events.iter().map(|it| (it["occurredAt"].to_string(), it["eventId"].to_string())),
        );
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/events?limit=100&cursor={next}");
    }
    assert_eq!(ids.len(), 280);
    assert!(ids.is_sorted_by(|a, b| a.0 > b.0), "newest first, each once");
    let likes = "/api/events?type=like&userId=ann&from=2026-03-01&to=2026-03-02&limit=1000";
    let likes = world.get(likes).await.json;
    assert_eq!((likes["events"].as_array().unwrap().len(), &likes["next"]), (125, &Value::Null));
    let one = &likes["events"][0];
    assert_eq!(
        (&one["objectType"], &one["properties"]["text"]),
        (&"post".into(), &"a, \"b\"".into())
    );
    let none = world.get("/api/events?objectType=post&objectId=999").await.json;
    assert_eq!(none["events"].as_array().unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_answer_only_where_they_are_no_less_than_postgres_statistics() {
    let world = World::new(&[]).await;
    let redis = world.tallyman.redis().await;
    let counted = [("epoch", "0-1"), ("state", "live"), ("1", "10")];
    let _: () = redis.hset("tm:counters", counted.to_vec()).await.unwrap();
    let _: () = redis
        .zadd("top_posts", None, None, false, false, vec![(2.0, "post:a"), (1.0, "post:b")])
        .await
        .unwrap();
    let count = async || {
        let top = world.get("/api/stats/top-objects?type=like&objectType=post").await;
        assert_eq!(top.status, 200);
        top.json["items"][0]["count"].as_u64()
    };
    assert_eq!(count().await, Some(2));
    for (field, behind, level) in
        [("epoch", "7-1", "0-1"), ("state", "building", "live"), ("1", "9", "10")]
    {
        let _: () = redis.hset("tm:counters", (field, behind)).await.unwrap();
        assert_eq!(count().await, None, "{field}: Postgres answers, which has none");
        let _: () = redis.hset("tm:counters", (field, level)).await.unwrap();
        assert_eq!(count().await, Some(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_events_ends_early_and_says_where_the_next_begins() {
    let world = World::new(&[]).await;
    world.store("2026-03-01", "ann", 40).await;
    let large = "update events set properties = jsonb_build_object('text', repeat('x', 1000000))";
    world.tallyman.execute(large).await;
    let (mut pages, mut path) = (Vec::new(), "/api/events?limit=1000".to_owned());
    loop {
        let page = world.get(&path).await.json;
        pages.push(page["events"].as_array().unwrap().len());
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/events?limit=1000&cursor={next}");
    }
    assert_eq!(pages, [17, 17, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_every_matching_event_as_lines_or_a_table() {
    let world = World::new(&[]).await;
    world.store("2026-03-01", "ann", 1_000).await;
    let export = async |accept: &str, query: &str| {
        let url = world.gateway.url(&format!("/api/events?{query}"));
        let request = world.gateway.client.get(url).header("x-api-key", &world.key);
        request.header("accept", accept).send().await.unwrap()
    };
    let lines = export("application/x-ndjson", "type=view").await;
    assert_eq!(lines.headers()["content-type"], "application/x-ndjson");
    let lines = lines.text().await.unwrap();
    let events: Vec<Value> = lines.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!(events.len(), 500);
    assert!(events.iter().all(|it| it["type"] == "view" && it["receivedAt"].is_string()));
    let table = export("text/csv", "").await.text().await.unwrap();
    assert_eq!(table.lines().count(), 1_001);
    assert!(table.starts_with("eventId,type,userId,"));
    assert!(table.contains("e7,like,ann,post,7,2026-03-01T00:00:07.000Z,"), "{}", &table[..400]);
    assert!(table.contains(r#""{""text"": ""a, \""b\""""}""#), "{}", &table[..400]);
    assert_eq!(export("text/csv", "type=never").await.text().await.unwrap().lines().count(), 1);
    assert_eq!(export("text/csv", "cursor=AAAAAAAAAAAAAAAAAAAAAA").await.status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_terminal_shows_answers_as_tables_or_json() {
    let world = World::new(&[]).await;
    let counts = "insert into objects (object_type, object_id) values ('post', 'a/b');
                  insert into event_types (event_type) values ('like'), ('view');
                  insert into object_counts_by_object
                  select o.no, array_agg(t.no), array_agg(it.count)
                    from objects as o,
                         (values ('like', 1200::bigint), ('view', 2400)) as it (event_type, count)
                    join event_types as t using (event_type)
                   group by o.no";
    world.tallyman.execute(counts).await;
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.arg("stats").args(arguments).env("GATEWAY_URL", world.gateway.url(""));
        let ran = command.env("READ_KEY", &world.key).output().await.unwrap();
        (
            ran.status.success(),
            String::from_utf8(ran.stdout).unwrap(),
            String::from_utf8(ran.stderr).unwrap(),
        )
    };
    let (_, table, _) = run(&["counters", "post", "a/b"]).await;
    assert_eq!(table.lines().nth(1).unwrap(), "like  1,200  ████████████", "{table}");
    let (_, json, _) = run(&["counters", "post", "a/b", "-o", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["counts"]["view"], 2_400);
    for question in [
        &["dau", "--unit", "week"][..],
        &["retention", "--tz", "Europe/Berlin"],
        &["top-events"],
        &["top-objects"],
        &["activity", "--by", "type", "--unit", "day", "--from", "2026-03-01"],
        &["funnel", "view,like", "--within", "1h"],
    ] {
        let (is_well, out, error) = run(question).await;
        assert!(is_well && !out.is_empty(), "{question:?}: {error}");
    }
    let (is_well, _, error) = run(&["dau", "--unit", "year"]).await;
    assert!(!is_well && error.contains("`unit` is \"year\""), "{error}");
}
