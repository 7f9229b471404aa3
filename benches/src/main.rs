//! The benchmarks: what a whole installation does on this machine, its servers on the same cores.

mod bare;
mod ceiling;
mod drain;
mod events;
mod http;
mod import;
mod ingest;
mod installation;
mod postgres;
mod preload;
mod program;
mod push;
mod redis;
mod report;
mod statistics;
mod storm;
mod usage;

use clap::{Parser, Subcommand, ValueEnum};

use crate::report::Report;

/// Measures gateway and processor on the servers named by KAFKA_BROKERS, DATABASE_URL and REDIS_URL,
/// which should do nothing else meanwhile; `./dev bench` starts such servers. Prints a table in
/// Markdown; what it is doing goes to standard error.
#[derive(Debug, Parser)]
#[command(name = "benches")]
struct Cli {
    #[command(subcommand)]
    command: Option<Hidden>,
    /// What to measure.
    #[arg(default_value = "all")]
    what: What,
    #[command(flatten)]
    load: LoadConfig,
}

/// How much is asked of the programs.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct LoadConfig {
    /// Events of a drain; distinct events of a storm.
    #[arg(long, default_value_t = 500_000)]
    pub events: u32,
    /// Seconds for which each HTTP server is under load, after two of warming up.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Connections to the HTTP servers.
    #[arg(long, default_value_t = 256)]
    pub connections: usize,
    /// Sockets that listen to one gateway.
    #[arg(long, default_value_t = 5_000)]
    pub sockets: u32,
    /// Events in the history that statistics are asked about.
    #[arg(long, default_value_t = 10_000_000)]
    pub history: u32,
    /// Decides every event.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Only with Bloom filter and Redis on.
    #[arg(long)]
    pub quick: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// The gateway: requests a second and latencies, against a bare handler.
    Ingest,
    /// `gateway import`: a file as NDJSON and as CSV, until Kafka has its rows.
    Import,
    /// The processor: from a full topic to rows, against plain COPY.
    Drain,
    /// The processor: stored events sent four times more.
    Storm,
    /// Sockets: from an accepted action to its notification, and what thousands of them cost.
    Push,
    /// Statistics: each question over a month of ten million events; only when asked for by name.
    Stats,
    All,
}

#[derive(Debug, Subcommand)]
enum Hidden {
    /// Serves the bare handler that the gateway is compared with.
    #[command(hide = true)]
    Bare,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    common::tls::choose();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.command {
            Some(Hidden::Bare) => bare::serve().await,
            None => measure(&cli).await,
        }
    })
}

async fn measure(cli: &Cli) -> anyhow::Result<()> {
    let mut report = Report::default();
    let wanted = |what| cli.what == what || cli.what == What::All;
    if wanted(What::Ingest) {
        ingest::measure(&cli.load, &mut report).await?;
    }
    if wanted(What::Import) {
        import::measure(&cli.load, &mut report).await?;
    }
    let drained = match wanted(What::Drain) {
        true => Some(drain::measure(&cli.load, &mut report).await?),
        false => None,
    };
    if wanted(What::Storm) {
        storm::measure(&cli.load, drained, &mut report).await?;
    }
    if wanted(What::Push) {
        push::measure(&cli.load, &mut report).await?;
    }
    if cli.what == What::Stats {
        statistics::measure(&cli.load, &mut report).await?;
    }
    println!("{}", report.markdown(&cli.load));
    Ok(())
}
