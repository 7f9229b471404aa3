//! The duplicate storm: events that are stored already, sent four times more in random order, until
//! all are judged; against the drain.

use crate::drain::{ensure_rows, judge};
use crate::events::Random;
use crate::installation::Installation;
use crate::report::{Report, Row, grouped};
use crate::{LoadConfig, preload};

const COPIES: u32 = 4;

/// `drained` is the rate of the drain in the same run; without it, that of storing these events.
pub async fn measure(
    load: &LoadConfig,
    drained: Option<f64>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let installation = Installation::new(&[]).await?;
    let distinct: Vec<u32> = (0..load.events).collect();
    preload::preload(&installation, load.seed, &distinct).await?;
    let stored = judge(&installation, distinct.len() as i64).await?;
    report.add(Row {
        what: "storing what the storm repeats".to_owned(),
        rate: format!("{} events/s", grouped(stored.rate())),
        against: format!("no duplicates; {}", stored.behind()),
        latency: String::new(),
        usage: stored.usage.clone(),
    });
    let mut copies: Vec<u32> = (0..COPIES).flat_map(|_| distinct.iter().copied()).collect();
    Random::of(load.seed ^ 0x5704).shuffle(&mut copies);
    preload::preload(&installation, load.seed, &copies).await?;
    let storm = judge(&installation, copies.len() as i64).await?;
    ensure_rows(&installation, distinct.len() as i64).await?;
    let (name, base) = match drained {
        Some(rate) => ("the drain", rate),
        None => ("storing them", stored.rate()),
    };
    report.add(Row {
        what: format!("duplicate storm, {COPIES} copies of each"),
        rate: format!("{} events/s", grouped(storm.rate())),
        against: format!("{:.1} × {name}; {}", storm.rate() / base, storm.behind()),
        latency: String::new(),
        usage: storm.usage,
    });
    installation.remove().await
}
