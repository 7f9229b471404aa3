//! The load on an HTTP server: connections that are kept, requests prepared beforehand, one at a time on each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Not measured, so that caches, pools and the JIT of the broker are warm.
const WARM_UP: Duration = Duration::from_secs(2);

/// What is sent, and how long.
#[derive(Clone)]
pub struct Load {
    pub address: SocketAddr,
    pub requests: Arc<Vec<Bytes>>,
    pub connections: usize,
    pub duration: Duration,
}

/// What came of it.
pub struct Measured {
    pub requests_a_second: f64,
    /// Microseconds.
    pub latencies: Histogram<u64>,
}

impl Measured {
    pub fn latency_ms(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

/// The bytes of one request.
pub fn request(address: SocketAddr, key: &str, body: &str) -> Bytes {
    let head = format!(
        "POST /api/events HTTP/1.1\r\nHost: {address}\r\nX-API-Key: {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Bytes::from(head + body)
}

/// Runs on one thread of its own: the generator shares the cores with what it measures, and threads
/// that wake each other would cost more than the requests.
pub async fn run(load: Load) -> anyhow::Result<Measured> {
    let (end, loaded) = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let began = Instant::now() + WARM_UP;
            let mut clients = JoinSet::new();
            for first in 0..load.connections {
                clients.spawn(client(load.clone(), first, began));
            }
            let mut all = Histogram::<u64>::new(3)?;
            while let Some(ended) = clients.join_next().await {
                all.add(ended??)?;
            }
            anyhow::Ok((load.duration, all))
        })
    })
    .await??;
    let requests_a_second = loaded.len() as f64 / end.as_secs_f64();
    Ok(Measured { requests_a_second, latencies: loaded })
}

/// One connection: a request, its answer, the next request.
async fn client(load: Load, first: usize, began: Instant) -> anyhow::Result<Histogram<u64>> {
    let mut stream = TcpStream::connect(load.address).await?;
    stream.set_nodelay(true)?;
    let mut latencies = Histogram::<u64>::new(3)?;
    let mut answer = Vec::with_capacity(64 << 10);
    let mut at = first;
    let end = began + load.duration;
    loop {
        let sent = Instant::now();
        if sent >= end {
            return Ok(latencies);
        }
        stream.write_all(&load.requests[at % load.requests.len()]).await?;
        at += load.connections;
        read_answer(&mut stream, &mut answer).await?;
        ensure!(answer.starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&answer));
        if sent >= began {
            latencies.record(sent.elapsed().as_micros() as u64)?;
        }
    }
}

/// Reads one answer whole; it must tell its length.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> anyhow::Result<()> {
    answer.clear();
    loop {
        if stream.read_buf(answer).await? == 0 {
            bail!("the server closed the connection: {}", String::from_utf8_lossy(answer));
        }
        let Some(head) = answer.windows(4).position(|it| it == b"\r\n\r\n") else { continue };
        let total = head + 4 + content_length(&answer[..head])?;
        while answer.len() < total {
            ensure!(stream.read_buf(answer).await? > 0, "the answer ends early");
        }
        return Ok(());
    }
}

fn content_length(head: &[u8]) -> anyhow::Result<usize> {
    let head = std::str::from_utf8(head)?;
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = lengths.next().context("an answer without content-length")?;
    Ok(length.trim().parse()?)
}
