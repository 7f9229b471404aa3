//! The way of an event with nothing broken: whatever it is, however often and by whichever way it is sent.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::events::{Event, Expected};
use tests::random::{Random, seed};
use tests::send::{HttpSender, Raw};
use tests::{Collector, Installation, Way, Workload, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_events_by_three_ways_are_counted_once() -> anyhow::Result<()> {
    let seed = seed("twenty_thousand_events_by_three_ways_are_counted_once");
    let tallyman = Installation::new().await?;
    let (mut gateway, http) = tallyman.start_gateway().await?;
    let mut processors = [tallyman.start_processor()?, tallyman.start_processor()?];
    let mut alerter = tallyman.start_alerter()?;
    for processor in &mut processors {
        processor.ready().await?;
    }
    let sendings = Workload::new(seed).sendings(20_000, 20);
    let expected = Expected::of(&sendings);
    ensure!(expected.events.len() == 16_000);

    // The auditor may come at any time, also under load.
    let audited = tallyman.run("processor", &["audit"]);
    tokio::try_join!(send_by_three_ways(&tallyman, &http, &sendings), audited)?;
    let state = tallyman.expect_exact(&expected).await?;
    ensure!((state.records, state.duplicate) == (20_000, 4_000), "{state}");

    let repeated = duplicates(&sendings);
    ensure!(repeated.len() == 4_000);
    send_by_three_ways(&tallyman, &http, &repeated).await?;
    let state = tallyman.expect_exact(&expected).await?;
    ensure!((state.records, state.duplicate) == (24_000, 8_000), "{state}");

    tallyman.expect_milestones(&expected).await?;
    tallyman.expect_windows().await?;
    for processor in &processors {
        let consumed = processor.metric("processor_events_consumed_total").await;
        ensure!(consumed > 0.0, "one processor did all the work");
    }
    for program in processors.iter_mut().chain([&mut alerter, &mut gateway]) {
        program.stop().await?;
    }
    Ok(())
}

async fn send_by_three_ways(
    tallyman: &Installation,
    http: &HttpSender,
    events: &[Event],
) -> anyhow::Result<()> {
    let mut thirds = [const { Vec::new() }; 3];
    for (at, event) in events.iter().enumerate() {
        thirds[at % 3].push(event.clone());
    }
    let [over_http, without_keys, keyed_wrongly] = thirds;
    tokio::try_join!(
        http.accepted(&over_http),
        tallyman.kcat(&without_keys, Way::KcatWithoutKeys),
        tallyman.kcat(&keyed_wrongly, Way::KcatKeyedWrongly),
    )?;
    Ok(())
}

/// Every sending that repeated an earlier one.
fn duplicates(sendings: &[Event]) -> Vec<Event> {
    let mut seen = std::collections::BTreeSet::new();
    sendings.iter().filter(|event| !seen.insert(event.n)).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn flat_events_are_stored_whole_and_once_by_whichever_way() -> anyhow::Result<()> {
    let seed = seed("flat_events_are_stored_whole_and_once_by_whichever_way");
    let tallyman = Installation::new().await?;
    let (_gateway, http) = tallyman.start_gateway().await?;
    let _processor = tallyman.start_processor()?;
    let mut payloads = vec![wide_event(seed)];
    for (name, bytes) in examples("accepted")? {
        if name.starts_with("product_event") || name.starts_with("content_event") {
            http_accepts(&http, "/api/events", bytes.clone()).await?;
            payloads.push(serde_json::from_slice(&bytes)?);
        }
    }
    ensure!(payloads.len() >= 5, "the examples are gone");
    for payload in &payloads {
        for path in ["/product_events/", "/api-fast/view-event", "/api/events"] {
            http_accepts(&http, path, payload.to_string()).await?;
        }
    }
    for way in [Way::KcatWithoutKeys, Way::KcatKeyedWrongly] {
        let lines: Vec<_> = payloads.iter().map(|it| line(it.to_string())).collect();
        tallyman.kcat(&lines, way).await?;
    }
    tallyman.wait_drained().await?;
    let rows = tallyman.postgres().await?.rows("select properties from events").await?;
    let mut stored: Vec<Value> = rows.iter().map(|row| row.get(0)).collect();
    for payload in &payloads {
        let found = stored.iter().position(|it| it == payload);
        stored.remove(found.with_context(|| format!("not stored whole: {payload}"))?);
    }
    ensure!(stored.is_empty(), "stored more than once: {stored:?}");
    let in_stream = tallyman.read("unique-actions").await?.len();
    ensure!(in_stream == payloads.len(), "{in_stream} of {} in the stream", payloads.len());
    tallyman.run("processor", &["audit"]).await.map(drop)
}

async fn http_accepts(
    http: &HttpSender,
    path: &str,
    body: impl Into<reqwest::Body>,
) -> anyhow::Result<()> {
    let answer = http.post(path, body).await?;
    ensure!(answer.status == 202, "{path}: {} {}", answer.status, answer.body);
    Ok(())
}

/// An event that is only its bytes.
fn line(json: String) -> Event {
    Event { json, ..Workload::new(0).event(0) }
}

/// A flat event of 136 members: 80 strings, 40 integers, 16 booleans.
fn wide_event(seed: u64) -> Value {
    let mut random = Random::of(seed);
    let mut event = serde_json::Map::new();
    let telling = [
        ("event_name", "play"),
        ("content_id", "c001"),
        ("event_datetime", "2026-03-05T10:20:30.123Z"),
        ("sid", "s1"),
    ];
    event.extend(telling.map(|(name, value)| (name.to_owned(), value.into())));
    event.insert("userId".to_owned(), format!("u{seed}").into());
    for at in 0..75 {
        event.insert(format!("attr_s{at:02}"), format!("{:010x} é \"", random.number()).into());
    }
    for at in 0..40 {
        event.insert(format!("attr_i{at:02}"), random.below(1 << 40).into());
    }
    for at in 0..16 {
        event.insert(format!("attr_b{at:02}"), (random.below(2) == 0).into());
    }
    assert_eq!(event.len(), 136);
    Value::Object(event)
}

/// The files of `schemas/examples/event.v1`, without their extension.
fn examples(verdict: &str) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/examples/event.v1");
    let mut examples = BTreeMap::new();
    for file in schemas.join(verdict).read_dir()? {
        let path = file?.path();
        let name = path.file_stem().context("a file has a name")?.to_string_lossy().into_owned();
        examples.insert(name, std::fs::read(path)?);
    }
    Ok(examples)
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_becomes_dead_letters_and_its_neighbours_are_stored() -> anyhow::Result<()> {
    let seed = seed("poison_becomes_dead_letters_and_its_neighbours_are_stored");
    let tallyman = Installation::new().await?;
    // Before the processor starts: the leaves it adds must take over the constraint.
    let refuse = "alter table events add check (event_type <> 'forbidden')";
    tallyman.postgres().await?.run(refuse).await?;
    let mut processor = tallyman.start_processor()?;
    let (workload, mut neighbours, mut records) = (Workload::new(seed), Vec::new(), Vec::new());
    let poison = poison()?;
    for (n, (name, (_, value))) in (0..).zip(&poison) {
        let partition = (n % 4) as i32;
        let neighbour = workload.event(n);
        let good = Some(neighbour.json.clone().into_bytes());
        records.push(Raw { partition, key: neighbour.user_id.clone(), value: good });
        records.push(Raw { partition, key: name.clone(), value: value.clone() });
        neighbours.push(neighbour);
    }
    tallyman.produce(&records).await?;
    let state = tallyman.expect_exact(&Expected::of(&neighbours)).await?;
    ensure!(state.dead_lettered == poison.len() as i64, "{state}");
    let origins = dead_letters_in_the_table(&tallyman, &poison).await?;
    dead_letters_in_the_topic(&tallyman, &poison, &origins).await?;
    processor.stop().await?;
    Ok(())
}

/// Name → (code, bytes).
type Poison = BTreeMap<String, (String, Option<Vec<u8>>)>;
/// Name → (partition, offset).
type Origins = BTreeMap<String, (i32, i64)>;

fn poison() -> anyhow::Result<Poison> {
    let mut poison = Poison::new();
    for (name, bytes) in examples("rejected")? {
        let code = name.split('.').next().unwrap_or_default().to_owned();
        poison.insert(name, (code, Some(bytes)));
    }
    let mut add = |name: &str, code: &str, bytes: Option<Vec<u8>>| {
        poison.insert(name.to_owned(), (code.to_owned(), bytes));
    };
    let event = |note: &str| json!({"type": "like", "userId": "u", "note": note}).to_string();
    let large = event(&"x".repeat((1 << 20) + 1 - event("").len()));
    ensure!(large.len() == (1 << 20) + 1);
    let forbidden = json!({"type": "forbidden", "userId": "u", "postId": "1"}).to_string();
    add("null", "null_value", None);
    add("zero bytes", "empty", Some(Vec::new()));
    add("1 MiB + 1", "too_large", Some(large.into_bytes()));
    add("binary", "invalid_utf8", Some((128..=255).collect()));
    add("a row that Postgres refuses", "row_refused", Some(forbidden.clone().into_bytes()));
    add("such a row once more", "row_refused", Some(forbidden.into_bytes()));
    Ok(poison)
}

/// Each is there once, with its code and its bytes; says where each came from.
async fn dead_letters_in_the_table(
    tallyman: &Installation,
    poison: &Poison,
) -> anyhow::Result<Origins> {
    let letters = "select record_key, error_code, record_value, partition, record_offset,
                          error_detail, topic from dead_letters";
    let mut origins = Origins::new();
    for row in tallyman.postgres().await?.rows(letters).await? {
        let name = String::from_utf8(row.get(0))?;
        let (code, value) = poison.get(&name).with_context(|| format!("{name} is no poison"))?;
        let (found, bytes): (String, Option<Vec<u8>>) = (row.get(1), row.get(2));
        let detail: String = row.get(5);
        ensure!(found == *code, "{name}: expected {code}, found {found} ({detail})");
        ensure!(bytes == *value, "{name}: its bytes have changed");
        ensure!(!detail.is_empty(), "{name}: no detail");
        ensure!(row.get::<_, String>(6) == tallyman.topic("user-actions"));
        let twice = origins.insert(name.clone(), (row.get(3), row.get(4)));
        ensure!(twice.is_none(), "{name} is there twice");
    }
    ensure!(origins.len() == poison.len(), "{} of {}", origins.len(), poison.len());
    Ok(origins)
}

/// Each is there once: key and bytes as they were, reason and origin in headers.
async fn dead_letters_in_the_topic(
    tallyman: &Installation,
    poison: &Poison,
    origins: &Origins,
) -> anyhow::Result<()> {
    let letters = tallyman.read("user-actions.dlq").await?;
    ensure!(letters.len() == poison.len(), "{} of {}", letters.len(), poison.len());
    for letter in letters {
        let name = String::from_utf8(letter.key.clone().context("no key")?)?;
        let (code, value) = poison.get(&name).with_context(|| format!("{name} is no poison"))?;
        ensure!(letter.value == *value, "{name}: its bytes have changed");
        let (partition, offset) = origins[&name];
        let expected = [
            ("error_code", code.clone()),
            ("origin_topic", tallyman.topic("user-actions")),
            ("origin_partition", partition.to_string()),
            ("origin_offset", offset.to_string()),
        ];
        for (header, expected) in expected {
            let found = letter.headers.text(header);
            ensure!(found == Some(&expected), "{name}: {header} is {found:?}, not {expected}");
        }
        ensure!(letter.headers.text("error_detail").is_some_and(|it| !it.is_empty()), "{name}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_accepted_example_gets_through_kafka_too() -> anyhow::Result<()> {
    let tallyman = Installation::new().await?;
    let mut processor = tallyman.start_processor()?;
    let examples = examples("accepted")?;
    let records = examples.iter().map(|(name, bytes)| {
        let bytes = std::str::from_utf8(bytes).expect("accepted examples are text");
        Raw { partition: 2, key: name.clone(), value: Some(bytes.into()) }
    });
    let records: Vec<_> = records.collect();
    tallyman.produce(&records).await?;
    tallyman.produce(&records).await?;
    tallyman.wait_drained().await?;
    let postgres = tallyman.postgres().await?;
    let letters = postgres.rows("select record_key, error_code from dead_letters").await?;
    let letters =
        letters.iter().map(|row| (String::from_utf8_lossy(row.get(0)).into_owned(), row.get(1)));
    let letters: Vec<(String, String)> = letters.collect();
    ensure!(letters.is_empty(), "dead letters: {letters:?}");
    let stored = postgres.number("select count(*) from events").await?;
    let identities = postgres.number("select count(distinct event_id) from events").await?;
    ensure!(stored == identities, "{stored} rows of {identities} identities");
    let duplicates = postgres.number("select sum(duplicate)::bigint from accounting").await?;
    let sent = 2 * records.len() as i64;
    ensure!(stored + duplicates == sent, "{stored} stored, {duplicates} duplicates of {sent}");
    ensure!(duplicates > sent / 4, "most examples have an identity of their own");
    tallyman.run("processor", &["audit"]).await?;
    processor.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_event_is_one_by_whichever_way_it_comes() -> anyhow::Result<()> {
    let mut tallyman = Installation::new().await?;
    tallyman.set("INPUT_TOPICS", "user-actions,orders=cloudevents,calls=segment");
    let (_gateway, http) = tallyman.start_gateway().await?;
    let mut processor = tallyman.start_processor()?;
    processor.ready().await?;

    let id = "01931f3e-7b1c-7d2a-9f00-00000000abcd";
    let of_source = |source: &str| {
        json!({"specversion": "1.0", "id": id, "source": source, "type": "like",
               "subject": "post/5", "data": {"userId": "u"}})
        .to_string()
    };
    let (structured, data) = (of_source("/shop"), r#"{"userId":"u"}"#);
    let binary = [
        ("ce_specversion", "1.0"),
        ("ce_id", id),
        ("ce_source", "/shop"),
        ("ce_type", "like"),
        ("ce_subject", "post/5"),
        ("content-type", "application/json"),
    ];
    let announced = [("content-type", "application/cloudevents+json")];
    http_accepts(&http, "/api/events", structured.clone()).await?;
    for topic in ["user-actions", "orders"] {
        tallyman.produce_with_headers(topic, &binary, data).await?;
        tallyman.produce_with_headers(topic, &announced, &structured).await?;
        tallyman.produce_with_headers(topic, &[], &structured).await?;
    }
    // Its id is its own only together with its source.
    tallyman.produce_with_headers("orders", &[], &of_source("/other")).await?;
    let native = json!({"eventId": id, "type": "like", "userId": "u", "postId": "5"});
    http_accepts(&http, "/api/events", native.to_string()).await?;

    let call = r#"{"type":"track","event":"Liked","userId":"u","messageId":"m"}"#;
    tallyman.produce_with_headers("calls", &[], call).await?;
    let batch = format!(r#"{{"batch":[{call}],"writeKey":"{}"}}"#, tallyman.write_key);
    let answer = http.post("/v1/batch", batch).await?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.body);

    let postgres = tallyman.postgres().await?;
    eventually("everything is judged", Duration::from_secs(60), async || {
        let consumed = postgres.number("select sum(consumed)::bigint from accounting").await?;
        ensure!(consumed == 11, "{consumed} of 11 are judged");
        Ok(())
    })
    .await
    .map_err(|error| tallyman.with_logs(&error))?;
    let rows = postgres
        .rows("select event_id, source, event_type, object_id from events order by 3, 2")
        .await?;
    let rows: Vec<[Option<String>; 4]> =
        rows.iter().map(|row| [0, 1, 2, 3].map(|column| row.get(column))).collect();
    let expected =
        [[id, "/other", "like", "5"], [id, "/shop", "like", "5"], [id, "http", "like", "5"]];
    let expected = expected.map(|row| row.map(|it| Some(it.to_owned())));
    let likes: Vec<_> = rows.iter().filter(|row| row[2].as_deref() == Some("like")).collect();
    ensure!(likes == expected.iter().collect::<Vec<_>>(), "{rows:?}");
    ensure!(rows.len() == 4, "the call is stored once: {rows:?}");
    tallyman.run("processor", &["audit"]).await?;
    processor.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_reaches_each_milestone_once_and_its_owner_is_told() -> anyhow::Result<()> {
    let tallyman = Installation::new().await?;
    let (_gateway, http) = tallyman.start_gateway().await?;
    let mut processor = tallyman.start_processor()?;
    let mut alerter = tallyman.start_alerter()?;
    let published = json!({"eventId": "p", "type": "publish", "userId": "author", "postId": "123"});
    http_accepts(&http, "/api/events", published.to_string()).await?;
    tallyman.wait_drained().await?; // The owner is known before the likes come, which overtake each other.
    let like = |n| json!({"eventId": format!("l{n}"), "type": "like", "userId": format!("u{n}"), "postId": "123"});
    for round in 0..2 {
        let likes: Vec<_> = (0..120).map(|n| like((n * 7 + round) % 120)).collect();
        http_accepts(&http, "/api/events", Value::from(likes).to_string()).await?;
    }
    tallyman.wait_drained().await?;
    tallyman.wait_alerted().await?;
    let told = tallyman.notifications().await?;
    let told: Vec<_> = told.iter().filter(|it| it["data"]["rule"] == "milestone").collect();
    ensure!(told.len() == 2, "{told:?}");
    for (notification, milestone) in told.iter().zip([10, 100]) {
        let data = &notification["data"];
        let text = format!("Post 123 reached {milestone} likes");
        ensure!(notification["specversion"] == "1.0", "{notification}");
        ensure!(notification["type"] == "tallyman.alert.milestone", "{notification}");
        ensure!(notification["subject"] == "post/123", "{notification}");
        ensure!(data["expected"].as_f64() == Some(f64::from(milestone)), "{notification}");
        ensure!(data["observed"].as_f64() == Some(f64::from(milestone)), "{notification}");
        ensure!(data["userId"] == "author", "{notification}");
        ensure!(data["text"] == text.as_str(), "{notification}");
    }
    processor.stop().await?;
    alerter.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sharp_rise_is_told_once_though_nothing_follows() -> anyhow::Result<()> {
    let tallyman = Installation::new().await?;
    let mut processor = tallyman.start_processor()?;
    let mut alerter = tallyman.start_alerter()?;
    let minute = now_ms() / 60_000;
    let likes = (0..21).flat_map(|window| {
        let count = if window == 20 { 70 } else { 1 + window % 3 };
        (0..count).map(move |n| (minute - 22 + window) * 60_000 + n * 700)
    });
    // One partition keeps the order; the times make them distinct.
    let records = likes.map(|at| {
        let like = json!({"type": "like", "userId": "u", "postId": "9", "occurredAt": at});
        Raw { partition: 1, key: "u".to_owned(), value: Some(like.to_string().into_bytes()) }
    });
    tallyman.produce(&records.collect::<Vec<_>>()).await?;
    tallyman.wait_drained().await?;
    eventually("the rise is told", Duration::from_secs(60), async || {
        let told = tallyman.notifications().await?;
        let rises: Vec<_> = told.iter().filter(|it| it["data"]["rule"] == "spike").collect();
        ensure!(rises.len() == 1, "{} rises told: {rises:?}", rises.len());
        ensure!(rises[0]["subject"] == "post/9", "{}", rises[0]);
        ensure!(rises[0]["data"]["observed"].as_f64() == Some(70.0), "{}", rises[0]);
        Ok(())
    })
    .await
    .map_err(|error| tallyman.with_logs(&error))?;
    processor.stop().await?;
    alerter.stop().await?;
    Ok(())
}

fn now_ms() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_1970.expect("after 1970").as_millis() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn each_daemon_tells_the_bus_what_it_measures_and_once_more_when_it_stops()
-> anyhow::Result<()> {
    let mut tallyman = Installation::new().await?;
    // Long enough that only the first and the last report come.
    tallyman.set("SERVICE_METRICS_SECONDS", "3600");
    let (mut gateway, http) = tallyman.start_gateway().await?;
    let mut processor = tallyman.start_processor()?;
    let mut alerter = tallyman.start_alerter()?;
    processor.ready().await?;
    alerter.ready().await?;
    let services = ["gateway", "processor", "alerter"];
    eventually("all have told once", Duration::from_secs(60), async || {
        for service in services {
            tallyman.reported(service).await?.with_context(|| format!("nothing of {service}"))?;
        }
        Ok(())
    })
    .await?;
    let like = json!({"type": "like", "userId": "u", "postId": "1"}).to_string();
    http_accepts(&http, "/api/events", like).await?;
    tallyman.wait_drained().await?;
    tallyman.wait_alerted().await?;
    for program in [&mut gateway, &mut processor, &mut alerter] {
        program.stop().await?;
    }
    let counted = [
        "gateway_events_received_total{verdict=\"accepted\"}",
        "processor_events_consumed_total",
        "alerter_records_consumed_total",
    ];
    for (service, name) in services.into_iter().zip(counted) {
        let report = tallyman.reported(service).await?.context("it was there before")?;
        ensure!(report["metrics"][name] == 1, "{service} stopped without a word: {report}");
        ensure!(report["instance"].as_str().is_some_and(|it| it.contains('/')), "{report}");
        report["at"].as_str().context("no time")?.parse::<jiff::Timestamp>()?;
    }
    for record in tallyman.read("service-metrics").await? {
        let instance = record.json()?["instance"].as_str().map(|it| it.as_bytes().to_vec());
        ensure!(record.key == instance, "the key is not the instance");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_may_keep_its_metrics_to_itself() -> anyhow::Result<()> {
    let mut tallyman = Installation::new().await?;
    tallyman.set("SERVICE_METRICS_SECONDS", "0");
    let (mut gateway, _http) = tallyman.start_gateway().await?;
    gateway.stop().await?;
    ensure!(tallyman.reported("gateway").await?.is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_request_to_the_row_and_the_notification() -> anyhow::Result<()> {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const CALLER: &str = "00f067aa0ba902b7";
    let collector = Collector::start().await?;
    let mut tallyman = Installation::new().await?;
    tallyman.set("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url);
    let (mut gateway, http) = tallyman.start_gateway().await?;
    let mut processor = tallyman.start_processor()?;
    let mut alerter = tallyman.start_alerter()?;
    let like = |n: u32| json!({"type": "like", "userId": format!("u{n}"), "postId": "traced"});
    let first_nine: Vec<_> = (0..9).map(like).collect();
    ensure!(http.post("/api/events", json!(first_nine).to_string()).await?.status == 202);
    tallyman.wait_drained().await?;

    let traced = reqwest::Client::new()
        .post(format!("{}/api/events", http.url))
        .header("x-api-key", &http.key)
        .header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
    ensure!(traced.body(like(9).to_string()).send().await?.status() == 202);
    let way = eventually("all three have told their part", Duration::from_secs(60), async || {
        let told = collector.told(TRACE);
        ensure!(told.len() >= 3, "{told:?}");
        Ok(told)
    });
    let way = way.await.map_err(|error| tallyman.with_logs(&error))?;
    let mut place = CALLER.to_owned();
    for name in ["submit", "judge", "alert"] {
        let part =
            way.iter().find(|it| it.name == name).with_context(|| format!("{name}: {way:?}"))?;
        ensure!(part.parent == place, "{name} goes on from {place}: {way:?}");
        place.clone_from(&part.span);
    }
    let told = tallyman.read("notifications").await?;
    let place = format!("00-{TRACE}-{place}-01");
    let headers: Vec<_> = told.iter().filter_map(|it| it.headers.text("traceparent")).collect();
    ensure!(headers == [place.as_str()], "{headers:?}");
    for program in [&mut gateway, &mut processor, &mut alerter] {
        program.stop().await?;
    }
    Ok(())
}
