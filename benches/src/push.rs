//! Push: how long after its acceptance an action's notification is on a socket, through the whole
//! pipeline; and what thousands of open sockets cost the gateway.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::LoadConfig;
use crate::installation::Installation;
use crate::program::Program;
use crate::report::{Report, Row, grouped};
use crate::usage::Meter;

/// Actions whose notification is waited for, after some that warm up.
const ACTIONS: u32 = 200;
const WARM_UP: u32 = 20;
/// Between them the pipeline is idle.
const PAUSE: Duration = Duration::from_millis(150);

const WITHIN: Duration = Duration::from_secs(30);
const PATHS: [&str; 2] = ["/api/notifications/ws", "/api/notifications/stream"];

pub async fn measure(load: &LoadConfig, report: &mut Report) -> anyhow::Result<()> {
    // Every first action of an object is a milestone.
    let installation = Installation::new(&[("MILESTONES", "1")]).await?;
    let make_key = |rights| ["keys", "create", "--name", "bench", "--rights", rights];
    let write = installation.run("gateway", &make_key("write")).await?;
    let read = installation.run("gateway", &make_key("read")).await?;
    let mut programs = Vec::new();
    for name in ["processor", "alerter", "gateway"] {
        let mut program = installation.start(name)?;
        program.ready().await?;
        programs.push(program);
    }
    let gateway = programs.last().context("the gateway")?;
    let client = Client { address: gateway.address, write, read, http: reqwest::Client::new() };
    report.add(latency(&client).await?);
    report.add(sockets(&client, gateway, load.sockets).await?);
    for program in programs.into_iter().rev() {
        program.stop().await?;
    }
    installation.remove().await
}

struct Client {
    address: SocketAddr,
    write: String,
    read: String,
    http: reqwest::Client,
}

impl Client {
    /// Sends the first action on an object; returns when it is accepted.
    async fn act(&self, object: &str) -> anyhow::Result<Instant> {
        let url = format!("http://{}/api/events", self.address);
        let body = format!(r#"{{"userId":"u","type":"like","postId":"{object}"}}"#);
        let answer = self.http.post(url).header("x-api-key", &self.write).body(body).send().await?;
        ensure!(answer.status() == 202, "{}", answer.text().await?);
        Ok(Instant::now())
    }

    async fn listen(&self, path: &str) -> anyhow::Result<Socket> {
        let mut stream = TcpStream::connect(self.address).await?;
        let upgrade = match path {
            "/api/notifications/ws" => {
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            }
            _ => "",
        };
        let key = &self.read;
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n{upgrade}\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut socket = Socket { stream, received: Vec::new() };
        socket.until("\r\n\r\n").await?;
        Ok(socket)
    }
}

/// Either kind: what is waited for is found among the frames or lines around it.
struct Socket {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Socket {
    /// Waits for a text and forgets what came up to it.
    async fn until(&mut self, text: &str) -> anyhow::Result<Instant> {
        let coming = async {
            loop {
                let found = self.received.windows(text.len()).position(|it| it == text.as_bytes());
                if let Some(at) = found {
                    self.received.drain(..at + text.len());
                    self.received.shrink_to(0);
                    return Ok(Instant::now());
                }
                if self.stream.read_buf(&mut self.received).await? == 0 {
                    bail!("the socket ended: {}", String::from_utf8_lossy(&self.received));
                }
            }
        };
        timeout(WITHIN, coming).await.with_context(|| format!("waited in vain for {text:?}"))?
    }
}

/// How a notification about an object shows it.
fn about(object: &str) -> String {
    format!("\"objectId\":\"{object}\"")
}

async fn latency(client: &Client) -> anyhow::Result<Row> {
    let mut sockets = [client.listen(PATHS[0]).await?, client.listen(PATHS[1]).await?];
    let mut latencies = Histogram::<u64>::new(3)?;
    for n in 0..WARM_UP + ACTIONS {
        sleep(PAUSE).await;
        let object = format!("latency-{n}");
        let accepted = client.act(&object).await?;
        for socket in &mut sockets {
            let arrived = socket.until(&about(&object)).await?;
            if n >= WARM_UP {
                latencies.record(arrived.duration_since(accepted).as_micros() as u64)?;
            }
        }
    }
    let ms = |quantile| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
    Ok(Row {
        what: "action accepted to notification on the socket, idle".to_owned(),
        rate: format!("{ACTIONS} actions"),
        latency: format!("{:.0} / {:.0} ms", ms(0.5), ms(0.99)),
        ..Row::default()
    })
}

/// Half of them WebSockets, half event streams; one notification to all.
async fn sockets(client: &Client, gateway: &Program, count: u32) -> anyhow::Result<Row> {
    let meter = Meter::start(vec![gateway.watched()?])?;
    let began = Instant::now();
    let mut open = Vec::new();
    for n in 0..count {
        let path = PATHS[n as usize % PATHS.len()];
        open.push(client.listen(path).await.with_context(|| format!("open socket {n}"))?);
    }
    let opened = began.elapsed();
    let mut told = JoinSet::new();
    for mut socket in open {
        told.spawn(async move { (socket.until(&about("to-all")).await, socket) });
    }
    let accepted = client.act("to-all").await?;
    let mut last = accepted;
    let mut kept = Vec::new();
    while let Some(arrived) = told.join_next().await {
        let (arrived, socket) = arrived?;
        last = last.max(arrived?);
        kept.push(socket);
    }
    let usage = meter.read();
    Ok(Row {
        what: format!("{} sockets open, one notification to all", grouped(f64::from(count))),
        rate: format!("{} opened/s", grouped(f64::from(count) / opened.as_secs_f64())),
        against: format!("all have it after {} ms", (last - accepted).as_millis()),
        usage,
        ..Row::default()
    })
}
