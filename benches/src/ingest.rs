//! The gateway: single events and batches of 100 over kept connections, against a bare axum handler
//! that reads the same bodies and answers 202, in the same run and in a process of its own.
//!
//! The load generator and Kafka share the cores with what is measured, so the ratio counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::http::{Load, Measured, request, run};
use crate::installation::Installation;
use crate::program::Program;
use crate::report::{Report, Row, grouped, percent};
use crate::usage::{Meter, Used, Watched};
use crate::{LoadConfig, events};

/// Distinct events that take turns, whatever their grouping.
const EVENTS: u32 = 50_000;
const BATCH: u32 = 100;

struct Loaded {
    measured: Measured,
    usage: Vec<(&'static str, Used)>,
}

pub async fn measure(load: &LoadConfig, report: &mut Report) -> anyhow::Result<()> {
    let installation = Installation::new(&[]).await?;
    let keys = ["keys", "create", "--name", "bench", "--rights", "write"];
    let key = installation.run("gateway", &keys).await?;
    for (kind, events_each) in [("single events", 1), ("100-event batches", BATCH)] {
        let bodies = bodies(load.seed, events_each);
        let bare = Program::start_bare().await?;
        let baseline = under_load(load, &bare, &key, &bodies, vec![bare.watched()?]).await?;
        drop(bare);
        let rate = baseline.measured.requests_a_second;
        report.add(row(&format!("bare handler, {kind}"), events_each, &baseline, String::new()));
        let mut gateway = installation.start("gateway")?;
        gateway.ready().await?;
        let mut watched = vec![gateway.watched()?];
        watched.extend(installation.servers().into_iter().filter(|it| it.name == "Kafka"));
        let loaded = under_load(load, &gateway, &key, &bodies, watched).await?;
        gateway.stop().await?;
        let against = percent(loaded.measured.requests_a_second, rate) + " of the bare handler";
        report.add(row(&format!("gateway, {kind}"), events_each, &loaded, against));
    }
    installation.remove().await
}

async fn under_load(
    load: &LoadConfig,
    server: &Program,
    key: &str,
    bodies: &[String],
    watched: Vec<Watched>,
) -> anyhow::Result<Loaded> {
    let meter = Meter::start(watched)?;
    let measured = run(Load {
        address: server.address,
        requests: Arc::new(requests(server.address, key, bodies)),
        connections: load.connections,
        duration: Duration::from_secs(load.seconds),
    })
    .await?;
    Ok(Loaded { measured, usage: meter.read() })
}

fn requests(address: SocketAddr, key: &str, bodies: &[String]) -> Vec<Bytes> {
    bodies.iter().map(|body| request(address, key, body)).collect()
}

/// One event each, or an array of them.
fn bodies(seed: u64, events_each: u32) -> Vec<String> {
    let body = |first: u32| {
        let mut body = String::new();
        for n in first..first + events_each {
            body.push(if n == first { '[' } else { ',' });
            events::write(seed, n, &mut body);
        }
        if events_each == 1 { body.split_off(1) } else { body + "]" }
    };
    (0..EVENTS).step_by(events_each as usize).map(body).collect()
}

fn row(what: &str, events_each: u32, loaded: &Loaded, against: String) -> Row {
    let requests = loaded.measured.requests_a_second;
    let rate = match events_each {
        1 => format!("{} req/s", grouped(requests)),
        _ => {
            let events = grouped(requests * f64::from(events_each));
            format!("{} req/s, {events} events/s", grouped(requests))
        }
    };
    let (p50, p99) = (loaded.measured.latency_ms(0.5), loaded.measured.latency_ms(0.99));
    let latency = format!("{p50:.1} / {p99:.1} ms");
    Row { what: what.to_owned(), rate, against, latency, usage: loaded.usage.clone() }
}
