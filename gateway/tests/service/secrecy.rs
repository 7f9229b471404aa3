//! Whatever is logged, and however it is asked for: no secret is in it.

use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway::auth::Right;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::installation::{Installation, answer};
use crate::signing::{Signer, in_seconds};

const JWT_SECRET: &str = "c0ffee5ecre7c0ffee5ecre7c0ffee5ecre7";

/// The program itself, logging all it can.
struct Talkative {
    child: Child,
    /// Read all the time: a full pipe would hold the program up.
    log: JoinSet<String>,
    url: String,
}

impl Talkative {
    async fn start(tallyman: &Installation) -> Self {
        let mut run = tallyman.program(&["run", "--gateway-listen", "127.0.0.1:0"]);
        run.args(["--log-level", "trace", "--log-format", "json"]).env("JWT_SECRET", JWT_SECRET);
        let mut child = run.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let begin = said.len();
            assert_ne!(lines.read_line(&mut said).await.unwrap(), 0, "{said}");
            let line: Value = serde_json::from_str(&said[begin..]).unwrap();
            if line["message"] == "listening" {
                break line["address"].as_str().unwrap().to_owned();
            }
        };
        let mut log = JoinSet::new();
        log.spawn(async move {
            lines.read_to_string(&mut said).await.unwrap();
            said
        });
        Self { child, log, url: format!("http://{address}") }
    }

    /// All it said until its end.
    async fn end(mut self) -> String {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        self.child.wait().await.unwrap();
        self.log.join_next().await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_and_no_token_is_in_the_log_at_any_level() {
    let tallyman = Installation::new().await;
    let store = tallyman.store();
    let admin = store.create("admin", Right::Admin).await.unwrap().secret;
    let key = store.create("writer", Right::Write).await.unwrap().secret;
    let wrong = format!("tm_w_{}", "5ec7e7".repeat(8));
    let claims = json!({"sub": "u", "rights": "write", "exp": in_seconds(60)});
    let token = Signer::hs256(JWT_SECRET).token(&claims);
    let forged = Signer::hs256(&JWT_SECRET.to_uppercase()).token(&claims);

    let gateway = Talkative::start(&tallyman).await;
    let events = format!("{}/api/events", gateway.url);
    let event = r#"{"userId":"u","type":"like"}"#;
    let mut made = Vec::new();
    let h1 = reqwest::Client::new();
    let h2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    for client in [h1, h2] {
        let post = |query: String| client.post(format!("{events}{query}"));
        for secret in [&key, &wrong, &token, &forged] {
            let status = if [&key, &token].contains(&secret) { 202 } else { 401 };
            for request in [
                post(String::new()).bearer_auth(secret),
                post(format!("?access_token={secret}")),
                post(String::new()).header("sec-websocket-protocol", format!("bearer, {secret}")),
            ] {
                assert_eq!(answer(request.body(event)).await.status, status);
            }
        }
        for secret in [&key, &wrong] {
            let body =
                json!({"api_key": secret, "writeKey": secret, "userId": "u", "type": "like"});
            for request in [
                post(String::new()).header("x-api-key", secret),
                post(String::new()).header("x-write-key", secret),
                post(String::new()).basic_auth(secret, Some("")),
                post(format!("?api_key={secret}")),
                client.post(format!("{}/batch/", gateway.url)),
            ] {
                answer(request.body(body.to_string())).await;
            }
        }
        let keys = format!("{}/api/keys", gateway.url);
        let wish = json!({"name": "new", "rights": "read"}).to_string();
        let first = answer(client.post(&keys).bearer_auth(&admin).body(wish)).await.json;
        let rotate = format!("{keys}/{}/rotate", first["id"].as_str().unwrap());
        let second = answer(client.post(rotate).bearer_auth(&admin)).await.json;
        made.extend([first, second].map(|it| it["secret"].as_str().unwrap().to_owned()));
    }
    let log = gateway.end().await;

    let parts = |token: &str| token.split('.').skip(1).map(str::to_owned).collect::<Vec<_>>();
    let mut secrets = vec![JWT_SECRET.to_owned(), JWT_SECRET.to_uppercase()];
    secrets.extend([parts(&token), parts(&forged)].concat());
    for key in made.iter().chain([&admin, &key, &wrong]) {
        secrets.push(key["tm_w_".len() + 8..].to_owned());
        secrets.push(STANDARD.encode(format!("{key}:"))[12..].to_owned());
    }
    for secret in &secrets {
        let line = log.lines().find(|line| line.contains(secret.as_str()));
        assert_eq!(line, None, "{secret}");
    }
    assert!(log.lines().any(|line| line.contains(r#""level":"TRACE""#)), "the log was asked for");
}
