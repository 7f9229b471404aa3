//! The program itself: what operators type, what it prints, how it ends.

use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::installation::{Installation, eventually};

impl Installation {
    pub fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.args(&self.arguments(arguments)[1..]).env("NO_COLOR", "1").kill_on_drop(true);
        command
    }

    pub async fn run(&self, arguments: &[&str]) -> Output {
        self.program(arguments).output().await.unwrap()
    }
}

pub fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap().trim_end()
}

pub fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_shown_once_listed_and_revoked() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let made = tallyman.run(&["keys", "create", "--name", "shop", "--rights", "write"]).await;
    let secret = stdout(&made).to_owned();
    assert!(secret.starts_with("tm_w_") && secret.lines().count() == 1, "{secret}");
    assert!(stderr(&made).contains("shop") && !stderr(&made).contains(&secret));
    let post = || gateway.client.post(gateway.url("/api/events")).bearer_auth(&secret);
    let event = r#"{"userId":"u","type":"like"}"#;
    assert_eq!(post().body(event).send().await.unwrap().status(), 202);

    let listed = tallyman.run(&["keys", "list"]).await;
    assert!(stdout(&listed).contains("shop") && !stdout(&listed).contains(&secret));
    let listed = tallyman.run(&["keys", "list", "--output", "json"]).await;
    let keys = stdout(&listed).lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let key = keys.into_iter().find(|key| key["name"] == "shop").unwrap();
    assert_eq!((&key["rights"], &key["revokedAt"]), (&"write".into(), &Value::Null));
    let prefix = key["prefix"].as_str().unwrap();
    assert!(secret.starts_with(prefix));

    let ambiguous = tallyman.run(&["keys", "revoke", "tm_"]).await;
    assert!(!ambiguous.status.success() && stderr(&ambiguous).contains("could be any of"));
    assert!(tallyman.run(&["keys", "revoke", prefix]).await.status.success());
    eventually("it is refused", || async {
        post().body(event).send().await.unwrap().status() == 401
    })
    .await;
    let again = tallyman.run(&["keys", "revoke", key["id"].as_str().unwrap()]).await;
    assert!(again.status.success() && stderr(&again).contains("already"), "{}", stderr(&again));
    let unknown = tallyman.run(&["keys", "revoke", "tm_x"]).await;
    assert!(!unknown.status.success() && stderr(&unknown).contains("keys list"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_an_end_and_a_limit_is_rotated_with_overlap() {
    let tallyman = Installation::new().await;
    let create = ["keys", "create", "--name", "shop", "--rights", "write"];
    let wishes = ["--expires-in", "90d", "--limit-per-min", "600"];
    let made = tallyman.run(&[&create[..], &wishes].concat()).await;
    let secret = stdout(&made).to_owned();
    let rotated = tallyman.run(&["keys", "rotate", &secret[..13], "--overlap", "24h"]).await;
    let successor = stdout(&rotated).to_owned();
    assert!(successor.starts_with("tm_w_") && successor != secret, "{}", stderr(&rotated));
    let keys = tallyman.store().list().await.unwrap();
    let [old, new] = keys.as_slice() else { panic!("{keys:?}") };
    assert_eq!((old.limit_per_min, new.limit_per_min), (Some(600), Some(600)));
    assert_eq!(old.replaced_by, Some(new.id));
    let day = new.created_at + Duration::from_secs(86_400);
    assert_eq!(old.expires_at, Some(day), "a day after the new one was made");
    assert!(new.expires_at > old.expires_at, "the end it was made with");

    let listed = tallyman.run(&["keys", "list"]).await;
    for text in ["600", "rotated, until ", "in force until "] {
        assert!(stdout(&listed).contains(text), "{text}\n{}", stdout(&listed));
    }
    let again = tallyman.run(&["keys", "rotate", &secret[..13]]).await;
    assert!(stderr(&again).contains(&new.id.to_string()), "{}", stderr(&again));
    let bad = tallyman.run(&[&create[..], &["--expires-in", "soon"]].concat()).await;
    assert!(stderr(&bad).contains("write 24h, 90d"), "{}", stderr(&bad));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_serves_logs_no_key_and_ends_with_0_on_sigterm() {
    let tallyman = Installation::new().await;
    let key = stdout(&tallyman.run(&["keys", "create", "--name", "t", "--rights", "write"]).await)
        .to_owned();
    let mut run = tallyman.program(&["run", "--gateway-listen", "127.0.0.1:0"]);
    run.args(["--log-level", "trace", "--log-format", "json"]).stderr(Stdio::piped());
    let mut daemon = run.spawn().unwrap();
    let mut log = BufReader::new(daemon.stderr.take().unwrap());
    let mut text = String::new();
    let address = loop {
        let begin = text.len();
        assert_ne!(log.read_line(&mut text).await.unwrap(), 0, "{text}");
        let line: Value = serde_json::from_str(&text[begin..]).unwrap();
        if line["message"] == "listening" {
            break line["address"].as_str().unwrap().to_owned();
        }
    };
    let client = reqwest::Client::new();
    for (header, value) in [("x-api-key", key.clone()), ("authorization", format!("Bearer {key}x"))]
    {
        let url = format!("http://{address}/api/events?api_key={key}");
        let request = client.post(url).header(header, value).body(r#"{"userId":"u"}"#);
        assert!(request.send().await.unwrap().status().is_client_error());
    }
    let pid = daemon.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    let ended = tokio::time::timeout(Duration::from_secs(20), daemon.wait()).await;
    log.read_to_string(&mut text).await.unwrap();
    assert_eq!(ended.expect("within its grace period").unwrap().code(), Some(0), "{text}");
    assert!(!text.contains(&key["tm_w_".len()..]), "a key is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_shown_without_secrets_and_judged() {
    let tallyman = Installation::new().await;
    let _topics = tallyman.start(&[]).await;
    let good = tallyman.run(&["check-config"]).await;
    assert_eq!(good.status.code(), Some(0), "{}", stdout(&good));
    for line in ["redis_url = ***", "gateway_listen = 0.0.0.0:8080", "redis: reachable"] {
        assert!(stdout(&good).contains(line), "{line}\n{}", stdout(&good));
    }
    let elsewhere = Installation::on("127.0.0.1:1".to_owned()).await;
    let bad = elsewhere.run(&["check-config"]).await;
    assert_eq!(bad.status.code(), Some(78), "{}", stdout(&bad));
    assert!(stdout(&bad).contains("kafka: NOT reachable"));
    let unusable = tallyman.run(&["check-config", "--kafka-partitions", "none"]).await;
    assert_eq!(unusable.status.code(), Some(78));
    let misspelt = tallyman.run(&["check-config", "--kafka-partition", "4"]).await;
    assert_eq!(misspelt.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn help_version_and_completions_need_no_server() {
    for (arguments, expected) in [
        (&["--version"][..], "gateway "),
        (&["--help"], "check-config"),
        (&["run", "--help"], "GATEWAY_INFLIGHT_BYTES"),
        (&["completions", "bash"], "_gateway()"),
    ] {
        let ran =
            Command::new(env!("CARGO_BIN_EXE_gateway")).args(arguments).output().await.unwrap();
        assert!(ran.status.success() && stdout(&ran).contains(expected), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_our_tables_is_told_what_to_do() {
    let tallyman = Installation::new().await;
    let url = tallyman.database_url();
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let mut connections = tokio::task::JoinSet::new();
    connections.spawn(connection);
    client.batch_execute("delete from schema_migrations").await.unwrap();
    let ran = tallyman.run(&["keys", "list"]).await;
    assert_eq!(ran.status.code(), Some(1));
    assert!(stderr(&ran).contains("processor migrate"), "{}", stderr(&ran));
}
