//! What the alerter can be told: its commands and their settings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use common::config::{DaemonConfig, KafkaConfig, PostgresConfig, RedisConfig};
use common::kafka::ReadLimits;

use crate::aggregates::dimensions::Grouping;
use crate::aggregates::sinks::SinkConfig;
use crate::aggregates::totals::Plan;
use crate::detector::farrington::Farrington;
use crate::rules::{Milestones, Rules, SpikeRule};
use crate::windows;

/// Watches the unique actions and tells, each exactly once, which posts reached a milestone, which
/// rise sharply against their own past, and how much happened in each window of time.
#[derive(Debug, Parser)]
#[command(name = "alerter", version)]
pub struct Cli {
    /// A TOML file with settings, named as the variables in lower case; flags and variables win.
    #[arg(long, env = "TALLYMAN_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub daemon: DaemonConfig,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon until SIGTERM.
    Run(Box<Config>),
    /// Print the effective settings, secrets masked, and try every server; exit 78 on a bad one.
    CheckConfig(Box<Config>),
    /// Print the completion script of a shell.
    Completions { shell: Shell },
}

/// Settings of the daemon.
#[derive(Debug, Clone, Args)]
pub struct Config {
    #[command(flatten)]
    pub kafka: KafkaConfig,
    #[command(flatten)]
    pub postgres: PostgresConfig,
    /// Taken so that one file can tell all three daemons where their servers are; this one asks no Redis.
    #[command(flatten)]
    pub redis: RedisConfig,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env = "ADMIN_LISTEN", default_value = "127.0.0.1:9102")]
    pub admin_listen: SocketAddr,
    /// The consumer group; instances of one group share the partitions. The history of
    /// notifications is written by the group of this name with `-history` behind it.
    #[arg(long, env = "ALERTER_GROUP", default_value = "tallyman-alerter")]
    pub alerter_group: String,
    #[command(flatten)]
    pub batch: BatchConfig,
    /// Counts per object and type that are told when they are reached, by comma.
    #[arg(
        long,
        env = "MILESTONES",
        value_delimiter = ',',
        default_value = "10,100,1000,10000,100000,1000000,10000000,100000000,1000000000"
    )]
    pub milestones: Vec<u64>,
    #[command(flatten)]
    pub windows: WindowConfig,
    #[command(flatten)]
    pub spike: SpikeConfig,
    #[command(flatten)]
    pub aggregates: AggregateConfig,
}

/// What one Kafka transaction takes together.
#[derive(Debug, Clone, Copy, Args)]
pub struct BatchConfig {
    /// A transaction takes this many records …
    #[arg(long, env = "BATCH_EVENTS_MAX", default_value_t = 5_000)]
    pub batch_events_max: usize,
    /// … or this many bytes …
    #[arg(long, env = "BATCH_BYTES_MAX", default_value_t = 8 << 20)]
    pub batch_bytes_max: usize,
    /// … or what came within this many milliseconds of its first record.
    #[arg(long, env = "BATCH_AGE_MS_MAX", default_value_t = 50)]
    pub batch_age_ms_max: u64,
}

impl BatchConfig {
    pub fn read_limits(&self) -> ReadLimits {
        ReadLimits {
            events_max: self.batch_events_max,
            bytes_max: self.batch_bytes_max,
            age_max: Duration::from_millis(self.batch_age_ms_max),
        }
    }
}

/// How time is cut into windows.
#[derive(Debug, Clone, Copy, Args)]
pub struct WindowConfig {
    /// Seconds of the windows in which likes are compared.
    #[arg(long, env = "WINDOW_SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(i64).range(1..=86_400))]
    pub window_seconds: i64,
    /// A window closes when the newest action is so many seconds past its end; later actions
    /// correct it.
    #[arg(long, env = "LATENESS_SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(i64).range(0..=86_400))]
    pub lateness_seconds: i64,
    /// A partition without records for so many seconds follows the wall clock.
    #[arg(long, env = "QUIET_SECONDS", default_value_t = 5,
          value_parser = clap::value_parser!(i64).range(1..=86_400))]
    pub quiet_seconds: i64,
}

impl WindowConfig {
    pub fn timing(&self) -> windows::Timing {
        windows::Timing {
            window_ms: self.window_seconds * 1_000,
            lateness_ms: self.lateness_seconds * 1_000,
            quiet_ms: self.quiet_seconds * 1_000,
        }
    }
}

/// When a rise of likes is a spike.
#[derive(Debug, Clone, Copy, Args)]
pub struct SpikeConfig {
    /// Likes in one window below which nothing is a spike.
    #[arg(long, env = "SPIKE_COUNT_MIN", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub spike_count_min: u32,
    /// A spike is at least this many times what was expected.
    #[arg(long, env = "SPIKE_RATIO_MIN", default_value_t = 3.0)]
    pub spike_ratio_min: f64,
    /// How improbable a count must be, against the object's own past, to be a spike. With a
    /// million windows judged a day, a millionth is about one false alarm a day at most.
    #[arg(long, env = "SPIKE_P_VALUE_MAX", default_value_t = 1e-6)]
    pub spike_p_value_max: f64,
    /// An object is compared with this many windows of its past …
    #[arg(long, env = "SPIKE_BASELINE_WINDOWS", default_value_t = 30)]
    pub spike_baseline_windows: usize,
    /// … and not judged before it has had this many since its first action.
    #[arg(long, env = "SPIKE_HISTORY_WINDOWS_MIN", default_value_t = 10)]
    pub spike_history_windows_min: usize,
    /// Windows for which an object stays silent around a spike: one rise, one alert.
    #[arg(long, env = "SPIKE_COOLDOWN_WINDOWS", default_value_t = 30,
          value_parser = clap::value_parser!(i64).range(0..=10_000))]
    pub spike_cooldown_windows: i64,
}

/// Which windows are counted, and where they go.
#[derive(Debug, Clone, Args)]
pub struct AggregateConfig {
    /// Seconds of the windows, by comma; each action counts in one window of each size.
    #[arg(long, env = "AGGREGATE_WINDOW_SECONDS", value_delimiter = ',', default_value = "60",
          value_parser = clap::value_parser!(i64).range(1..=86_400))]
    pub aggregate_window_seconds: Vec<i64>,
    /// What is told apart, by comma: source, type and object type (type); source, type and object
    /// (object). With both, rows of single objects are those with an object id.
    #[arg(long, env = "AGGREGATE_BY", value_delimiter = ',', default_value = "type")]
    pub aggregate_by: Vec<Grouping>,
    /// A window that nothing has changed for so many hours is forgotten; what comes later for it is
    /// only counted, in the metric alerter_events_too_late_total.
    #[arg(long, env = "AGGREGATE_KEEP_HOURS", default_value_t = 192,
          value_parser = clap::value_parser!(i64).range(1..=87_600))]
    pub aggregate_keep_hours: i64,
    /// MiB that the windows of one partition may take; above it those are forgotten first that
    /// changed longest ago.
    #[arg(long, env = "AGGREGATE_MEMORY_MB", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub aggregate_memory_mb: u32,
    #[command(flatten)]
    pub sinks: SinkConfig,
}

impl AggregateConfig {
    /// What is told apart, each way once.
    pub fn groupings(&self) -> Arc<[Grouping]> {
        let mut groupings = self.aggregate_by.clone();
        groupings.sort_unstable();
        groupings.dedup();
        groupings.into()
    }

    /// Which windows there are; none without a sink. Fails on settings that contradict each other.
    pub fn plan(&self, windows: &WindowConfig) -> anyhow::Result<Option<Plan>> {
        if self.sinks.sinks()?.is_empty() {
            return Ok(None);
        }
        let mut sizes_ms: Vec<_> =
            self.aggregate_window_seconds.iter().map(|seconds| seconds * 1_000).collect();
        sizes_ms.sort_unstable();
        sizes_ms.dedup();
        Ok(Some(Plan {
            sizes_ms: sizes_ms.into(),
            timing: windows.timing(),
            bytes_max: (self.aggregate_memory_mb as usize) << 20,
            keep_ms: self.aggregate_keep_hours * 3_600_000,
        }))
    }
}

impl Config {
    /// The rules as the settings describe them; fails on settings that contradict each other.
    pub fn rules(&self) -> anyhow::Result<Rules> {
        let spike = &self.spike;
        let baseline_max = windows::KEPT - windows::DISORDER;
        ensure!(
            (1..baseline_max).contains(&spike.spike_baseline_windows),
            "SPIKE_BASELINE_WINDOWS must be from 1 to {}",
            baseline_max - 1
        );
        ensure!(
            (1..=spike.spike_baseline_windows).contains(&spike.spike_history_windows_min),
            "SPIKE_HISTORY_WINDOWS_MIN must be from 1 to SPIKE_BASELINE_WINDOWS"
        );
        ensure!(
            spike.spike_p_value_max > 0.0 && spike.spike_p_value_max < 1.0,
            "SPIKE_P_VALUE_MAX must lie between 0 and 1"
        );
        Ok(Rules {
            timing: self.windows.timing(),
            milestones: Milestones::new(&self.milestones)?,
            spike: SpikeRule {
                detector: Box::new(Farrington {
                    p_value_max: spike.spike_p_value_max,
                    ratio_min: spike.spike_ratio_min,
                }),
                count_min: spike.spike_count_min,
                baseline: spike.spike_baseline_windows,
                history_min: spike.spike_history_windows_min,
                cooldown: spike.spike_cooldown_windows,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn run(args: &[&str]) -> Config {
        let cli = Cli::try_parse_from(["alerter", "run"].iter().chain(args)).unwrap();
        let Command::Run(config) = cli.command else { panic!("not `run`") };
        *config
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_make_rules() {
        let rules = run(&[]).rules().unwrap();
        assert_eq!(rules.timing.window_ms, 60_000);
        assert_eq!(rules.milestones.reached(1_000_000_000), Some(1_000_000_000));
    }

    #[test]
    fn without_a_sink_there_are_no_windows() {
        let plan = |args: &[&str]| {
            let config = run(args);
            config.aggregates.plan(&config.windows)
        };
        assert_eq!(*plan(&[]).unwrap().unwrap().sizes_ms, [60_000]);
        assert!(plan(&["--aggregate-sinks", "none"]).unwrap().is_none());
        assert!(plan(&["--aggregate-sinks", "none,kafka"]).is_err());
        assert!(plan(&["--aggregate-sinks", "files"]).is_err(), "without a directory");
        let place = ["--aggregate-sinks", "parquet", "--aggregate-parquet", "s3://bucket/windows"];
        let refusal = plan(&place).err().map(|error| error.to_string()).unwrap_or_default();
        let how = "--features parquet";
        assert_eq!(refusal.contains(how), cfg!(not(feature = "parquet")), "{refusal}");
        assert!(plan(&["--aggregate-sinks", "parquet"]).is_err(), "without a place");
        let several = plan(&["--aggregate-window-seconds", "90,60,3600,60"]).unwrap().unwrap();
        assert_eq!(*several.sizes_ms, [60_000, 90_000, 3_600_000]);
        assert_eq!(several.slot_ms(), 30_000);
        let twice = run(&["--aggregate-by", "object,type,object"]).aggregates.groupings();
        assert_eq!(*twice, [Grouping::Type, Grouping::Object]);
    }

    #[test]
    fn a_baseline_that_late_actions_would_cut_short_is_refused() {
        assert!(run(&["--spike-baseline-windows", "60"]).rules().is_err());
        assert!(run(&["--spike-history-windows-min", "31"]).rules().is_err());
    }
}
