//! The brokers go away: at once, or without a word.

use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use crate::installation::{Gateway, Installation, eventually};

/// A broker of one test, which may do with it what it wants; it ends with its owner.
struct Broker {
    port: u16,
    directory: TempDir,
}

impl Broker {
    async fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("kafka").tempdir().unwrap();
        let broker = Self { port: free_port(), directory };
        broker.start_again().await;
        broker
    }

    async fn start_again(&self) {
        self.script("start", &[&self.port.to_string()]).await;
    }

    async fn kill(&self) {
        self.script("kill", &[]).await;
    }

    /// SIGSTOP and SIGCONT: connections stay open, nobody answers.
    async fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.directory.path().join("pid")).unwrap();
        let ran = Command::new("kill").args([signal, pid.trim()]).status().await.unwrap();
        assert!(ran.success());
    }

    async fn script(&self, verb: &str, arguments: &[&str]) {
        let mut command = Command::new(script());
        command.arg(verb).arg(self.directory.path()).args(arguments);
        let ran = command.output().await.unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let killed =
            std::process::Command::new(script()).arg("kill").arg(self.directory.path()).status();
        assert!(killed.is_ok_and(|it| it.success()) || std::thread::panicking());
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/native/kafka.sh")
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn event(id: &str) -> String {
    format!(r#"{{"userId":"u","type":"like","eventId":"{id}"}}"#)
}

async fn is_ready(gateway: &Gateway) -> bool {
    gateway.get("/readyz").await.0 == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_broker_is_away_the_answer_is_503_at_once_and_afterwards_all_is_well() {
    let broker = Broker::start().await;
    let tallyman = Installation::on(broker.address()).await;
    let gateway = tallyman.start(&[]).await;
    assert_eq!(gateway.submit(event("before")).await.status, 202);

    broker.kill().await;
    eventually("the gateway is not ready", || async { !is_ready(&gateway).await }).await;
    let refused = gateway.submit(event("during")).await;
    assert_eq!((refused.status, &refused.json["code"]), (503, &json!("broker_away")));
    assert!(refused.json["results"].is_null(), "nothing was tried: {}", refused.json);
    assert_eq!(refused.header("retry-after"), "2");

    broker.start_again().await;
    eventually("the gateway is ready", || is_ready(&gateway)).await;
    assert_eq!(gateway.submit(event("during")).await.status, 202);
    assert_eq!(tallyman.event_ids().await, ["before", "during"]);
    gateway.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_to_be_sent_again_under_the_id_in_the_answer() {
    let broker = Broker::start().await;
    let tallyman = Installation::on(broker.address()).await;
    let gateway = tallyman.start(&["--gateway-delivery-timeout-ms", "1500"]).await;
    // A new broker may need longer than that for its first idempotent producer.
    let is_taken = || async { gateway.submit(event("before")).await.status == 202 };
    eventually("it takes events", is_taken).await;

    broker.signal("-STOP").await;
    let nameless = r#"{"userId":"u","type":"like"}"#;
    let unknown = gateway.submit(format!("[{},{nameless},7]", event("given"))).await;
    assert_eq!(unknown.status, 503, "none accepted, some to retry");
    assert_eq!(
        (unknown.json["retry"].as_u64(), unknown.json["rejected"].as_u64()),
        (Some(2), Some(1))
    );
    assert!(!unknown.header("retry-after").is_empty());
    let results = unknown.json["results"].as_array().unwrap();
    assert_eq!((&results[0]["status"], &results[0]["eventId"]), (&json!("retry"), &json!("given")));
    let made = results[1]["eventId"].as_str().unwrap().to_owned();
    assert_eq!(results[2]["status"], "rejected");
    eventually("the gateway notices", || async { !is_ready(&gateway).await }).await;
    assert_eq!(gateway.submit(event("x")).await.json["code"], "broker_away");

    broker.signal("-CONT").await;
    eventually("the gateway is ready", || is_ready(&gateway)).await;
    let again = format!("[{},{}]", event("given"), event(&made));
    // The idempotent producer may first have to close the gap that the lost records left.
    eventually("it is taken", || async { gateway.submit(again.clone()).await.status == 202 }).await;
    let mut ids = tallyman.event_ids().await;
    ids.dedup();
    let mut expected = ["before".to_owned(), "given".to_owned(), made];
    expected.sort_by_key(|id| format!("{id:?}"));
    assert_eq!(ids, expected, "as often as it was sent, but under the same ids");
    gateway.stop().await.unwrap();
}
