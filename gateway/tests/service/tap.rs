//! `gateway tap`: the live streams in a terminal or a pipe.

use std::process::Stdio;
use std::time::Duration;

use common::topic;
use gateway::auth::Right;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::installation::{Gateway, Installation, eventually};
use crate::listener::Writer;

fn tap(gateway: &Gateway, key: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.arg("tap").args(arguments).env("GATEWAY_URL", gateway.url("")).env("READ_KEY", key);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn lines(child: &mut Child) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(child.stdout.take().unwrap()).lines()
}

async fn is_listened_to(gateway: &Gateway, stream: &str) -> bool {
    let open = format!("gateway_push_sockets{{stream=\"{stream}\"}} 1");
    gateway.get("/metrics").await.1.contains(&open)
}

fn action(id: &str, kind: &str) -> String {
    json!({"eventId": id, "type": kind, "userId": "u"}).to_string()
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> Value {
    let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await;
    serde_json::from_str(&line.unwrap().unwrap().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_writes_a_line_an_event_across_a_restart_and_ends_with_its_reader() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let read = tallyman.store().create("test", Right::Read).await.unwrap().secret;
    let mut writer = Writer::of(&tallyman, &topic::UNIQUE_ACTIONS).await;
    let mut running = tap(&gateway, &read, &["--type", "like", "--user", "u"]).spawn().unwrap();
    let mut out = lines(&mut running);
    eventually("it listens", || is_listened_to(&gateway, "events")).await;
    writer.write(&[("k", action("1", "view")), ("k", action("2", "like"))]).await;
    assert_eq!(next(&mut out).await["eventId"], "2");

    let address = gateway.address.to_string();
    gateway.stop().await.unwrap();
    writer.write(&[("k", action("3", "like"))]).await;
    let gateway = tallyman.start(&["--gateway-listen", &address]).await;
    assert_eq!(next(&mut out).await["eventId"], "3");

    drop(out);
    let ended = tokio::time::timeout(Duration::from_secs(30), running.wait_with_output()).await;
    let ended = ended.expect("although nothing more came").unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success() && !said.contains("panic"), "{said}");
    gateway.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_notifications_and_says_why_it_may_not() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let read = tallyman.store().create("test", Right::Read).await.unwrap().secret;
    let mut writer = Writer::of(&tallyman, &topic::NOTIFICATIONS).await;
    let mut running = tap(&gateway, &read, &["--notifications", "--user", "ann"]).spawn().unwrap();
    eventually("it listens", || is_listened_to(&gateway, "notifications")).await;
    let alert = |owner| json!({"id": owner, "data": {"userId": owner}}).to_string();
    writer.write(&[("k", alert("bob")), ("k", alert("ann"))]).await;
    assert_eq!(next(&mut lines(&mut running)).await["id"], "ann");

    for (key, arguments, said) in
        [(&*gateway.write_key, &[][..], "`read`"), (&read, &["--cursor", "nonsense"], "cursor")]
    {
        let refused = tap(&gateway, key, arguments).output().await.unwrap();
        let told = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && told.contains(said), "{told}");
    }
    gateway.stop().await.unwrap();
}
