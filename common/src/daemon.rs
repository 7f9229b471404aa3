//! What every daemon does around its work: logging, runtime, signals, its metrics on the bus, grace
//! period, exit code.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use prometheus::Registry;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use crate::admin::Readiness;
use crate::config::{DaemonConfig, KafkaConfig, LogFormat};
use crate::service_metrics::Reporter;
use crate::tls;
use crate::trace::Tracing;

/// What the harness hands to a daemon.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Cancelled when the daemon has to stop.
    pub shutdown: CancellationToken,
    pub registry: Registry,
    pub readiness: Readiness,
}

/// Runs a daemon until it ends by itself or by SIGTERM or SIGINT, then within its grace period.
pub fn run<F, Fut>(
    name: &'static str,
    config: &DaemonConfig,
    kafka: &KafkaConfig,
    body: F,
) -> ExitCode
where
    F: FnOnce(Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    init_logging(config);
    bound_memory_arenas();
    tls::choose();
    let _tracing = match Tracing::start(name, &config.trace) {
        Ok(tracing) => tracing,
        Err(error) => {
            error!("{name} failed: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    block_on(async {
        let context = Context::default();
        let mut signals = JoinSet::new();
        signals.spawn(cancel_on_signal(context.shutdown.clone()));
        let stopped = CancellationToken::new();
        let mut reporter = JoinSet::new();
        if config.service_metrics_seconds > 0 {
            let every = Duration::from_secs(config.service_metrics_seconds);
            let (registry, kafka) = (context.registry.clone(), kafka.clone());
            let report = Reporter { service: name, registry, kafka, every };
            reporter.spawn(report.run(stopped.clone()));
        }
        info!(version = env!("CARGO_PKG_VERSION"), "{name} starts");
        let shutdown = context.shutdown.clone();
        let ended = within_grace(body(context), shutdown, config.grace()).await;
        stopped.cancel();
        reporter.join_all().await;
        match ended {
            Ok(()) => {
                info!("{name} stopped");
                ExitCode::SUCCESS
            }
            Err(error) => {
                error!("{name} failed: {error:#}");
                ExitCode::FAILURE
            }
        }
    })
}

/// Runs an operator's command: its result is its exit code, its error one line.
pub fn run_command(body: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    block_on(async {
        body.await.unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        })
    })
}

/// Waits for tasks that must all live: whoever ends first takes the others along.
pub async fn join_all(
    mut tasks: JoinSet<anyhow::Result<()>>,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        shutdown.cancel();
        result = result.and(ended.context("a task panicked").and_then(|it| it));
    }
    result
}

/// Log lines go to standard error; standard output is for data.
pub fn init_logging(config: &DaemonConfig) {
    let filter = EnvFilter::try_new(&config.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call (tests start several daemons in one process) keeps the first subscriber.
    let _already_set = match config.log_format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Text => lines.with_ansi(std::env::var_os("NO_COLOR").is_none()).try_init(),
    };
}

/// glibc gives every thread an arena that it hardly ever returns; librdkafka alone has a dozen
/// threads. Two arenas cost no time and a quarter less memory (processor under load: 326 → 241 MiB).
fn bound_memory_arenas() {
    // SAFETY: mallopt only sets a number, before the runtime has started a thread.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

fn block_on<T>(body: impl Future<Output = T>) -> T {
    tls::choose();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("the operating system gives threads");
    let done = runtime.block_on(body);
    // A thread may still wait for a broker that is away; nobody waits for the thread.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

async fn cancel_on_signal(shutdown: CancellationToken) {
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return warn!("signals cannot be handled; only SIGKILL stops this process");
    };
    tokio::select! {
        _ = term.recv() => info!("SIGTERM: stopping"),
        _ = int.recv() => info!("SIGINT: stopping"),
    }
    shutdown.cancel();
}

async fn within_grace(
    body: impl Future<Output = anyhow::Result<()>>,
    shutdown: CancellationToken,
    grace: Duration,
) -> anyhow::Result<()> {
    tokio::select! {
        ended = body => ended,
        () = async { shutdown.cancelled().await; tokio::time::sleep(grace).await } => {
            anyhow::bail!("did not stop within the grace period of {} s", grace.as_secs())
        }
    }
}
