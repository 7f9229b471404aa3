//! `gateway import`: what becomes of files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::commands::{stderr, stdout};
use crate::installation::{Installation, eventually, json_of};

const SOME_REJECTED: Option<i32> = Some(3);

/// Good rows and bad ones; the first row has two lines.
const LIKES: &str = "User ID,Event-Type,post_id,Created At,price,note\n\
    u1,like,p1,2026-01-02 03:04:05,9.90,\"two\nlines, one row\"\n\
    u2,like,p2,2026-01-02T03:04:06Z,007,\n\
    \n\
    ,like,p2,2026-01-02 03:04:06,1,\n\
    u3,view,p3,soon,1,x\n\
    u3,view,p3,1,x\n";

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("import").tempdir().unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn summary(output: &Output) -> Value {
    serde_json::from_str(stdout(output)).unwrap_or_else(|_| panic!("{output:?}"))
}

fn json_lines(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Numbered rows with ids of their own, or without id and time.
fn numbered(rows: usize, with_ids: bool) -> String {
    let mut table = String::from(if with_ids { "eventId,userId,type\n" } else { "userId,type\n" });
    for row in 1..=rows {
        match with_ids {
            true => table.push_str(&format!("e{row},u{},like\n", row % 1_000)),
            false => table.push_str(&format!("u{row},like\n")),
        }
    }
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_shown_as_it_was_guessed_and_its_bad_rows_are_told_by_line() {
    let (tallyman, files) = (Installation::new().await, Files::new());
    let file = files.write("likes.csv", LIKES);
    let ran = tallyman.run(&["import", &file, "--output", "text"]).await;
    assert_eq!(ran.status.code(), SOME_REJECTED, "{ran:?}");
    for shown in ["User ID     →  userId", "Created At  →  occurredAt", "→  properties.price"]
    {
        assert!(stderr(&ran).contains(shown), "{}", stderr(&ran));
    }
    assert!(stdout(&ran).contains("5 rows: 2 accepted, 3 rejected"), "{}", stdout(&ran));
    let rejects = json_lines(&format!("{file}.rejects.ndjson"));
    let places: Vec<_> =
        rejects.iter().map(|it| json!([it["line"], it["row"], it["code"]])).collect();
    let expected =
        [json!([6, 3, "missing_user"]), json!([7, 4, "invalid_time"]), json!([8, 5, "cell_count"])];
    assert_eq!(places, expected);
    assert_eq!(rejects[1]["original"], "u3,view,p3,soon,1,x");
    assert_eq!(rejects[1]["column"], "Created At");
    let mut records = tallyman.records().await;
    records.sort_by_key(|record| record.key.clone());
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].key.as_deref(), Some(&b"u1"[..]));
    assert_eq!(records[0].headers.text("surface"), Some("import"));
    let first = json_of(&records[0]);
    assert_eq!(records[0].headers.text("event_id"), first["eventId"].as_str());
    assert_eq!(first["properties"], json!({"price": 9.90, "note": "two\nlines, one row"}));
    assert_eq!(first["objectType"], "post");
    assert_eq!(json_of(&records[1])["properties"]["price"], "007");
    assert!(
        !Path::new(&format!("{file}.tallyman-import")).exists(),
        "nothing is left to go on with"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_gives_the_same_verdicts_and_stores_nothing() {
    let (tallyman, files) = (Installation::new().await, Files::new());
    let file = files.write("likes.csv", LIKES);
    let dry = tallyman.run(&["import", &file, "--dry-run", "-o", "json"]).await;
    assert_eq!(dry.status.code(), SOME_REJECTED);
    let names: BTreeSet<_> =
        files.0.path().read_dir().unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names.len(), 1, "a dry run writes nothing: {names:?}");
    let plan: Value = serde_json::from_str(stderr(&dry).lines().next().unwrap()).unwrap();
    assert_eq!(plan["columns"][0], json!({"column": "User ID", "becomes": "userId"}));
    let wet = tallyman.run(&["import", &file, "-o", "json"]).await;
    let (dry, wet) = (summary(&dry), summary(&wet));
    for same in ["rows", "accepted", "rejected", "rejects"] {
        assert_eq!(dry[same], wet[same], "{same}");
    }
    let mut stored: Vec<_> = tallyman.records().await.iter().map(json_of).collect();
    stored.sort_by_key(|event| event["userId"].to_string());
    assert_eq!(dry["firstEvents"], Value::from(stored), "once, by the second run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_has_its_own_id_or_that_of_its_members_or_that_of_its_place() {
    let (tallyman, files) = (Installation::new().await, Files::new());
    let gateway = tallyman.start(&[]).await;
    let event = r#"{"userId":"u","type":"like","postId":"p","timestamp":"2026-01-02"}"#;
    let over_http = gateway.submit(event).await.json["results"][0]["eventId"].clone();
    let table = "id,userId,type,postId,timestamp\n7,u,like,p,\n,u,like,p,2026-01-02\n,u,like,p,\n";
    let file = files.write("ids.csv", table);
    let ran = tallyman.run(&["import", &file]).await;
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let hashed = over_http.as_str().unwrap().to_owned();
    let by_place = format!("{}-3", sha256(table.as_bytes()));
    let mut expected = vec!["7".to_owned(), hashed.clone(), hashed, by_place];
    expected.sort();
    assert_eq!(tallyman.event_ids().await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_the_same_file_compressed_or_piped() {
    let (tallyman, files) = (Installation::new().await, Files::new());
    let table = numbered(3, false);
    let (mut gzip, mut zstd) = (Vec::new(), Vec::new());
    GzipEncoder::new(table.as_bytes()).read_to_end(&mut gzip).await.unwrap();
    ZstdEncoder::new(table.as_bytes()).read_to_end(&mut zstd).await.unwrap();
    for file in
        [files.write("a.csv", &table), files.write("a.csv.gz", gzip), files.write("odd", zstd)]
    {
        let ran = tallyman.run(&["import", &file]).await;
        assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    }
    let mut piped = tallyman.program(&["import", "-"]);
    let mut piped =
        piped.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(table.as_bytes()).await.unwrap();
    assert_eq!(summary(&piped.wait_with_output().await.unwrap())["accepted"], 3);
    let ids = tallyman.event_ids().await;
    assert_eq!(ids.len(), 4 * 3);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 3, "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_mapped_by_hand_and_a_useless_table_is_refused_before_anything_is_stored() {
    let (tallyman, files) = (Installation::new().await, Files::new());
    let file = files
        .write("odd.csv", "Kunde;Was;geheim;context\nu1;like;x;\"{\"\"ip\"\":\"\"::1\"\"}\"\n");
    let refused = tallyman.run(&["import", &file]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("\"Kunde\", \"Was\""), "{}", stderr(&refused));
    let mapped =
        ["import", &file, "--map", "Kunde=userId", "--map", "Was=type", "--map", "geheim=-"];
    let ran = tallyman.run(&mapped).await;
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let records = tallyman.records().await;
    let event = json_of(&records[0]);
    assert_eq!((&event["userId"], &event["type"]), (&"u1".into(), &"like".into()));
    assert_eq!((&event["properties"], &event["context"]), (&json!({}), &json!({"ip": "::1"})));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wide_flat_event_has_the_same_identity_as_a_table_and_over_http() {
    let (tallyman, files) = (Installation::new().await, Files::new());
    let gateway = tallyman.start(&[]).await;
    let mut event = json!({
        "event_name": "play", "content_id": "c001", "userId": "u1",
        "event_datetime": "2026-03-05T10:20:30.123Z", "sid": "s1",
    });
    for at in event.as_object().unwrap().len()..136 {
        event[format!("attr{at}")] = match at % 3 {
            0 => json!(at * 1_000),
            1 => json!(at % 2 == 0),
            _ => json!(format!("é, \"{at}\"")),
        };
    }
    let over_http = gateway.submit_to("/api-fast/view-event", event.to_string()).await;
    let members = event.as_object().unwrap();
    let cell = |value: &Value| match value {
        Value::String(text) => format!("\"{}\"", text.replace('"', "\"\"")),
        other => other.to_string(),
    };
    let header = members.keys().cloned().collect::<Vec<_>>().join(",");
    let row = members.values().map(cell).collect::<Vec<_>>().join(",");
    let file = files.write("wide.csv", format!("{header}\n{row}\n"));
    let ran = tallyman.run(&["import", &file, "-o", "text"]).await;
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    assert!(stderr(&ran).contains("flat content events"), "{}", stderr(&ran));
    let id = over_http.json["results"][0]["eventId"].as_str().unwrap();
    assert_eq!(tallyman.event_ids().await, [id, id]);
    for record in tallyman.records().await {
        assert_eq!(json_of(&record)["properties"], event, "all of it, numbers as numbers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_json_go_by_their_names_and_what_is_no_event_is_told() {
    let (tallyman, files) = (Installation::new().await, Files::new());
    let lines = "{\"eventId\":\"a\",\"user_id\":1,\"type\":\"like\"}\n\nno json\n[]\n{\"eventId\":\"b\",\"userId\":2,\"type\":\"like\"}";
    let ran = tallyman.run(&["import", &files.write("events.ndjson", lines)]).await;
    assert_eq!(ran.status.code(), SOME_REJECTED, "{ran:?}");
    let summary = summary(&ran);
    let places: Vec<_> = summary["rejects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| json!([it["line"], it["code"]]))
        .collect();
    assert_eq!(places, [json!([3, "invalid_json"]), json!([4, "not_an_object"])]);
    assert_eq!(tallyman.event_ids().await, ["a", "b"]);
    let array = tallyman.run(&["import", &files.write("array.json", "[{},{}]")]).await;
    assert_eq!(array.status.code(), Some(1));
    assert!(stderr(&array).contains("jq -c"), "{}", stderr(&array));
}

/// An import in a process of its own that can be killed.
struct Running {
    child: Child,
    checkpoint: PathBuf,
}

impl Running {
    fn start(tallyman: &Installation, file: &str) -> Self {
        let mut import = tallyman.program(&["import", file, "-o", "json"]);
        import.stdout(Stdio::piped()).stderr(Stdio::piped());
        let checkpoint = format!("{file}.tallyman-import").into();
        Self { child: import.spawn().unwrap(), checkpoint }
    }

    fn rows(&self) -> u64 {
        let Ok(bytes) = std::fs::read(&self.checkpoint) else { return 0 };
        let checkpoint: Value = serde_json::from_slice(&bytes).expect("it is never half written");
        checkpoint["position"]["rows"].as_u64().unwrap()
    }

    async fn is_behind(&mut self, row: u64) {
        eventually("the checkpoint moves", || async { self.rows() > row }).await;
        assert!(self.child.try_wait().unwrap().is_none(), "it was faster than this test");
    }

    async fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("it still runs").to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_killed_again_and_again_loses_nothing_and_gives_each_row_one_id() {
    const ROWS: usize = 1_000_000;
    let (tallyman, files) = (Installation::new().await, Files::new());
    let mut table = numbered(ROWS, false);
    // A bad row now and then: none of them may be told twice.
    let bad: Vec<_> = (1..=10).map(|n| n * ROWS / 10).collect();
    table = table.lines().enumerate().fold(String::new(), |mut out, (line, text)| {
        out.push_str(if bad.contains(&line) { ",like" } else { text });
        out.push('\n');
        out
    });
    let file = files.write("many.csv", &table);
    let mut kills = 0;
    let mut done = 0;
    for pause_ms in [0, 60, 15, 90, 30, 5] {
        let mut running = Running::start(&tallyman, &file);
        running.is_behind(done).await;
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        done = running.rows();
        running.signal("-KILL").await;
        running.child.wait().await.unwrap();
        kills += 1;
    }
    assert!(kills >= 5, "killed {kills} times only");
    let ran = tallyman.run(&["import", &file, "-o", "json"]).await;
    assert_eq!(ran.status.code(), SOME_REJECTED, "{ran:?}");
    let summary = summary(&ran);
    assert_eq!(summary["accepted"], ROWS - bad.len());
    assert_eq!(summary["rejected"], bad.len());
    let lines: Vec<_> = json_lines(&format!("{file}.rejects.ndjson"))
        .iter()
        .map(|it| it["line"].as_u64().unwrap() as usize)
        .collect();
    assert_eq!(lines, bad.iter().map(|line| line + 1).collect::<Vec<_>>());
    let records = tallyman.records().await;
    let ids: BTreeSet<_> = records.iter().map(|it| it.headers.text("event_id").unwrap()).collect();
    let hash = sha256(table.as_bytes());
    let expected = (1..=ROWS).filter(|row| !bad.contains(row)).map(|row| format!("{hash}-{row}"));
    assert_eq!(ids.len(), ROWS - bad.len());
    assert!(expected.into_iter().all(|id| ids.contains(&*id)), "a row is lost");
    let repeated = records.len() - ids.len();
    assert!(repeated < ROWS / 2, "{repeated} records of {ROWS} rows are there twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_import_says_how_to_go_on_and_does_unless_the_file_has_changed() {
    let (tallyman, files) = (Installation::new().await, Files::new());
    let table = numbered(1_000_000, true);
    let file = files.write("many.csv", &table);
    let mut running = Running::start(&tallyman, &file);
    running.is_behind(0).await;
    running.signal("-INT").await;
    let stopped = running.child.wait_with_output().await.unwrap();
    assert_eq!(stopped.status.code(), Some(130), "{stopped:?}");
    assert!(stderr(&stopped).contains("the same command goes on"), "{}", stderr(&stopped));
    let rows = summary(&stopped)["rows"].as_u64().unwrap();
    assert!((1..1_000_000).contains(&rows), "{rows}");

    let other = tallyman.run(&["import", &file, "--map", "eventId=properties.eventId"]).await;
    assert_eq!(other.status.code(), Some(1));
    assert!(stderr(&other).contains("mapped in another way"), "{}", stderr(&other));
    files.write("many.csv", format!("{table}e,u,like\n"));
    let changed = tallyman.run(&["import", &file]).await;
    assert_eq!(changed.status.code(), Some(1));
    assert!(
        stderr(&changed).contains("the file has changed") && stderr(&changed).contains("--restart")
    );

    let restarted = tallyman.run(&["import", &file, "--restart"]).await;
    assert_eq!(summary(&restarted)["accepted"], 1_000_001);
    let ids: BTreeSet<_> = tallyman.event_ids().await.into_iter().collect();
    assert_eq!(ids.len(), 1_000_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_archive_is_imported_as_far_as_it_goes_and_called_broken() {
    let (tallyman, files) = (Installation::new().await, Files::new());
    let mut gzip = Vec::new();
    GzipEncoder::new(numbered(200_000, true).as_bytes()).read_to_end(&mut gzip).await.unwrap();
    gzip.truncate(gzip.len() / 2);
    let ran = tallyman.run(&["import", &files.write("half.csv.gz", gzip)]).await;
    assert_eq!(ran.status.code(), Some(1));
    assert!(stderr(&ran).contains("could not be read to its end"), "{}", stderr(&ran));
    assert!(!tallyman.records().await.is_empty());
}
