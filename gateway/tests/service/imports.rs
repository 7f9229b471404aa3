//! Files sent to /api/imports: jobs that everybody who may can follow, and that outlive their gateway.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};
use gateway::auth::Right;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

use crate::installation::{Answer, Gateway, Installation, answer, eventually};

const TABLE: &str =
    "User ID,Event-Type,Created At\nu1,like,2026-01-02\n,like,2026-01-02\nu2,like,soon\n";

struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("imports").tempdir().unwrap())
    }

    async fn start(&self, tallyman: &Installation, settings: &[&str]) -> Gateway {
        let directory = ["--import-dir", self.0.path().to_str().unwrap()];
        tallyman.start(&[&directory, settings].concat()).await
    }

    fn is_empty(&self) -> bool {
        self.0.path().read_dir().unwrap().next().is_none()
    }
}

async fn send(gateway: &Gateway, query: &str, body: impl Into<reqwest::Body>) -> Answer {
    answer(gateway.request(&format!("/api/imports{query}")).body(body)).await
}

async fn look(gateway: &Gateway, id: &Value, key: &str) -> Answer {
    let url = gateway.url(&format!("/api/imports/{}", id.as_str().unwrap()));
    answer(gateway.client.get(url).header("x-api-key", key)).await
}

/// The job when it has ended.
async fn ended(gateway: &Gateway, id: &Value) -> Value {
    let key = &gateway.write_key;
    eventually("the import ends", || async {
        let job = look(gateway, id, key).await;
        assert_eq!(job.status, 200, "{job:?}");
        matches!(job.json["state"].as_str(), Some("done" | "failed"))
    })
    .await;
    look(gateway, id, key).await.json
}

/// Rows that are told apart by their place in the file alone.
fn unnamed(rows: usize) -> String {
    (1..=rows).fold("userId,type\n".to_owned(), |mut table, row| {
        writeln!(table, "u{row},like").unwrap();
        table
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_a_job_that_tells_what_became_of_its_rows() {
    let (tallyman, directory) = (Installation::new().await, Directory::new());
    let gateway = directory.start(&tallyman, &[]).await;
    let made = send(&gateway, "?name=likes", TABLE).await;
    assert_eq!(made.status, 202, "{made:?}");
    let id = &made.json["id"];
    assert_eq!(made.header("location"), format!("/api/imports/{}", id.as_str().unwrap()));
    assert_eq!(
        made.json["reading"]["columns"][0],
        json!({"column": "User ID", "becomes": "userId"})
    );
    let job = ended(&gateway, id).await;
    assert_eq!((&job["state"], &job["name"]), (&"done".into(), &"likes".into()));
    assert_eq!([&job["rows"], &job["accepted"], &job["rejected"]], [3, 1, 2]);
    let rejects = job["rejects"].as_array().unwrap();
    let places = rejects.iter().map(|it| json!([it["line"], it["code"]]));
    assert_eq!(
        places.collect::<Vec<_>>(),
        [json!([3, "missing_user"]), json!([4, "invalid_time"])]
    );
    assert!(job["asOf"].is_string() && job["finishedAt"].is_string());
    let records = tallyman.records().await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].headers.text("surface"), Some("import"));
    eventually("the upload is removed", || async { directory.is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_files_are_known_by_their_header_or_their_looks_and_ids_are_those_of_the_file() {
    let (tallyman, directory) = (Installation::new().await, Directory::new());
    let gateway = directory.start(&tallyman, &[]).await;
    let table = unnamed(3);
    let (mut gzip, mut zstd) = (Vec::new(), Vec::new());
    GzipEncoder::new(table.as_bytes()).read_to_end(&mut gzip).await.unwrap();
    ZstdEncoder::new(table.as_bytes()).read_to_end(&mut zstd).await.unwrap();
    for (encoding, body) in [
        (None, table.clone().into_bytes()),
        (None, zstd),
        (Some("gzip"), gzip.clone()),
        (None, gzip),
    ] {
        let mut request = gateway.request("/api/imports").header("content-type", "text/csv");
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        let made = answer(request.body(body)).await;
        assert_eq!(ended(&gateway, &made.json["id"]).await["accepted"], 3);
    }
    let ids = tallyman.event_ids().await;
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (12, 3));
    let request = gateway.request("/api/imports").header("content-encoding", "gzip");
    let lied = answer(request.body(table)).await;
    assert_eq!((lied.status, &lied.json["code"]), (400, &"broken_compression".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_imported_is_refused_at_once_and_leaves_nothing_behind() {
    let (tallyman, directory) = (Installation::new().await, Directory::new());
    let gateway = directory.start(&tallyman, &["--import-bytes-max", "100"]).await;
    for (query, body, status, code) in [
        ("", "a,b\n1,2\n", 400, "invalid_import"),
        ("?map=a:userId&map=b:type&map=c:sid", "a,b\n1,2\n", 400, "invalid_import"),
        ("?format=xml", TABLE, 400, "invalid_import"),
        ("", "[{}]", 400, "invalid_import"),
        ("", "", 400, "empty_body"),
        ("", &"x".repeat(101), 413, "import_too_large"),
    ] {
        let refused = send(&gateway, query, body.to_owned()).await;
        assert_eq!(
            (refused.status, &refused.json["code"]),
            (status, &code.into()),
            "{query} {body}"
        );
    }
    let form = gateway.request("/api/imports").header("content-type", "multipart/form-data");
    assert_eq!(answer(form.body(TABLE)).await.status, 415);
    let nobody = gateway.client.post(gateway.url("/api/imports")).body(TABLE);
    assert_eq!(answer(nobody).await.status, 401);
    assert!(directory.is_empty());
    // A few bytes may be compressed gigabytes without a line break; only their beginning is read.
    let mut endless = Vec::new();
    GzipEncoder::new(&[b'x'; 1 << 20][..]).read_to_end(&mut endless).await.unwrap();
    let gateway = directory.start(&tallyman, &[]).await;
    let refused = send(&gateway, "", endless).await;
    assert_eq!((refused.status, &refused.json["code"]), (400, &"invalid_import".into()));
    assert!(refused.json["detail"].as_str().unwrap().contains("256 KiB"), "{}", refused.json);
    assert!(directory.is_empty());
    let mapped = send(&gateway, "?map=a:userId&map=b:type", "a,b\n1,2\n").await;
    assert_eq!(ended(&gateway, &mapped.json["id"]).await["accepted"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_stores_nothing_and_shows_the_first_events() {
    let (tallyman, directory) = (Installation::new().await, Directory::new());
    let gateway = directory.start(&tallyman, &[]).await;
    let made = send(&gateway, "?dryRun=true", TABLE).await;
    let job = ended(&gateway, &made.json["id"]).await;
    assert_eq!(
        (&job["dryRun"], &job["accepted"], &job["rejected"]),
        (&true.into(), &1.into(), &2.into())
    );
    assert_eq!(job["firstEvents"][0]["userId"], "u1");
    assert_eq!(tallyman.records().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_shown_by_every_instance_to_its_sender_and_to_admins_alone() {
    let (tallyman, directory) = (Installation::new().await, Directory::new());
    let gateway = directory.start(&tallyman, &[]).await;
    let elsewhere = Directory::new();
    let other = elsewhere.start(&tallyman, &[]).await;
    let id = send(&gateway, "", TABLE).await.json["id"].clone();
    let done = ended(&gateway, &id).await;
    assert_eq!(look(&other, &id, &gateway.write_key).await.json, done);
    for (right, status) in [(Right::Write, 404), (Right::Admin, 200), (Right::Read, 403)] {
        let key = tallyman.store().create("other", right).await.unwrap().secret;
        assert_eq!(look(&other, &id, &key).await.status, status, "{right}");
    }
    let unknown = look(&other, &"no-such-id".into(), &gateway.write_key).await;
    assert_eq!((unknown.status, &unknown.json["code"]), (404, &"no_such_import".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_where_it_was_when_its_gateway_starts_again() {
    const ROWS: usize = 400_000;
    let (tallyman, directory) = (Installation::new().await, Directory::new());
    let gateway = directory.start(&tallyman, &[]).await;
    let id = send(&gateway, "", unnamed(ROWS)).await.json["id"].clone();
    let key = gateway.write_key.clone();
    eventually("some rows are imported", || async {
        look(&gateway, &id, &key).await.json["rows"].as_u64().unwrap() > 0
    })
    .await;
    gateway.stop().await.unwrap();
    let before = tallyman.records().await.len();
    assert!(before < ROWS, "it was faster than this test");

    let gateway = directory.start(&tallyman, &[]).await;
    eventually("the import ends", || async {
        look(&gateway, &id, &key).await.json["state"] == "done"
    })
    .await;
    let job = look(&gateway, &id, &key).await.json;
    assert_eq!((&job["accepted"], &job["rejected"]), (&ROWS.into(), &0.into()));
    let records = tallyman.records().await;
    let ids: BTreeSet<_> = records.iter().map(|it| it.headers.text("event_id").unwrap()).collect();
    assert_eq!(ids.len(), ROWS);
    assert!(records.len() - ROWS < before, "it went on and did not begin again");
    assert!(directory.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn live_events_get_through_while_a_file_is_imported() {
    let (tallyman, directory) = (Installation::new().await, Directory::new());
    let gateway = directory.start(&tallyman, &[]).await;
    let id = send(&gateway, "", unnamed(500_000)).await.json["id"].clone();
    let key = gateway.write_key.clone();
    let mut sent = 0;
    loop {
        let body = format!(r#"{{"userId":"u","type":"view","eventId":"live-{sent}"}}"#);
        assert_eq!(gateway.submit(body).await.status, 202);
        sent += 1;
        if look(&gateway, &id, &key).await.json["state"] == "done" {
            break;
        }
    }
    assert!(sent > 1, "the import was over before the first event");
    let ids = tallyman.event_ids().await;
    assert_eq!(ids.iter().filter(|id| id.starts_with("live-")).count(), sent);
    assert_eq!(ids.len(), 500_000 + sent);
}
