//! The import: a file of 500-byte events as NDJSON and as CSV, from its first byte to the last
//! acknowledgement, dry (parsed only) and for good. Kafka shares the cores.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::installation::Installation;
use crate::report::{Report, Row, grouped, percent};
use crate::usage::{Meter, Used, Watched};
use crate::{LoadConfig, events};

const LOOK_EVERY: Duration = Duration::from_millis(100);

pub async fn measure(load: &LoadConfig, report: &mut Report) -> anyhow::Result<()> {
    let installation = Installation::new(&[]).await?;
    let directory = tempfile::Builder::new().prefix("tallyman-bench").tempdir()?;
    for format in ["ndjson", "csv"] {
        let file = directory.path().join(format!("events.{format}"));
        write(&file, load, format == "csv").with_context(|| format!("write {}", file.display()))?;
        let (parsed, usage) = import(&installation, &file, load.events, &["--dry-run"]).await?;
        report.add(row(&format!("import, {format}, parsed only"), parsed, String::new(), usage));
        let (stored, usage) = import(&installation, &file, load.events, &[]).await?;
        let against = percent(stored, parsed) + " of parsing";
        report.add(row(&format!("import, {format}"), stored, against, usage));
    }
    installation.remove().await
}

fn row(what: &str, rate: f64, against: String, usage: Vec<(&'static str, Used)>) -> Row {
    let (what, rate) = (what.to_owned(), format!("{} rows/s", grouped(rate)));
    Row { what, rate, against, latency: String::new(), usage }
}

/// Rows a second, the program's start included.
async fn import(
    installation: &Installation,
    file: &Path,
    rows: u32,
    more: &[&str],
) -> anyhow::Result<(f64, Vec<(&'static str, Used)>)> {
    let file = file.to_str().context("a temporary path is text")?;
    let arguments = [&["import", file, "--output", "json"], more].concat();
    let mut child = installation.spawn("gateway", &arguments)?;
    let pid = child.id().context("it has a process")?;
    let mut watched = vec![Watched { name: "gateway import", pid }];
    watched.extend(installation.servers().into_iter().filter(|it| it.name == "Kafka"));
    let meter = Meter::start(watched)?;
    let mut usage = meter.read();
    while child.try_wait()?.is_none() {
        usage = meter.read(); // Of a process that has ended nothing is told.
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let ended = child.wait_with_output().await?;
    let summary: Value = serde_json::from_slice(&ended.stdout).context("its summary")?;
    ensure!(summary["accepted"] == rows, "not all rows were accepted: {summary}");
    let seconds = summary["seconds"].as_f64().context("its seconds")?;
    Ok((f64::from(rows) / seconds, usage))
}

fn write(file: &Path, load: &LoadConfig, is_table: bool) -> anyhow::Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    let (mut json, mut line) = (String::new(), String::new());
    for n in 0..load.events {
        json.clear();
        events::write(load.seed, n, &mut json);
        if !is_table {
            writeln!(out, "{json}")?;
            continue;
        }
        let event: serde_json::Map<String, Value> = serde_json::from_str(&json)?;
        if n == 0 {
            writeln!(out, "{}", event.keys().cloned().collect::<Vec<_>>().join(","))?;
        }
        line.clear();
        for value in event.values() {
            match value {
                Value::String(text) => write!(line, ",\"{}\"", text.replace('"', "\"\""))?,
                other => write!(line, ",{other}")?,
            }
        }
        writeln!(out, "{}", &line[1..])?;
    }
    out.flush()?;
    Ok(())
}
