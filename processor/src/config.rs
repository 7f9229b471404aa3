//! What the processor can be told: its commands and their settings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum as _};
use clap_complete::Shell;
use common::config::{DaemonConfig, KafkaConfig, PostgresConfig, RedisConfig};
use common::kafka::ReadLimits;

/// Counts every user action exactly once: drops duplicates, stores the rest in Postgres, and keeps
/// Redis counters and the topic `unique-actions` in step with it.
#[derive(Debug, Parser)]
#[command(name = "processor", version)]
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
    /// Bring the database to this program's schema.
    Migrate {
        #[command(flatten)]
        postgres: PostgresConfig,
    },
    /// Compare Postgres, Redis, the unique stream and the ledger; exit 1 on any drift.
    Audit {
        #[command(flatten)]
        config: Box<Config>,
        /// Wait so many seconds for the followers to reach the ledger.
        #[arg(long, default_value_t = 60)]
        wait_seconds: u64,
    },
    /// Rebuild what is derived from Postgres.
    #[command(subcommand)]
    Rebuild(Rebuild),
    /// Look at records that could not be events.
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Look at how far each source has been judged.
    #[command(subcommand)]
    Ledger(Ledger),
    /// Print the effective settings, secrets masked, and try every server; exit 78 on a bad one.
    CheckConfig(Box<Config>),
    /// Print the completion script of a shell.
    Completions { shell: Shell },
}

#[derive(Debug, Subcommand)]
pub enum Rebuild {
    /// Write the Redis counters anew from Postgres; ingestion goes on meanwhile.
    Counters {
        #[command(flatten)]
        config: Box<Config>,
    },
    /// Forget the statistics and read every row back; ingestion goes on, rollups wait, and answers grow meanwhile.
    Statistics {
        #[command(flatten)]
        postgres: PostgresConfig,
    },
}

#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// The newest dead letters, one line each.
    List {
        #[command(flatten)]
        postgres: PostgresConfig,
        /// Only those with this code.
        #[arg(long)]
        code: Option<String>,
        #[arg(long, default_value_t = 50)]
        limit: i64,
    },
    /// One dead letter with its reason, headers and bytes.
    Show {
        #[command(flatten)]
        postgres: PostgresConfig,
        id: i64,
    },
}

#[derive(Debug, Subcommand)]
pub enum Ledger {
    /// Every source with its position, its owner epoch and how its records ended.
    Show {
        #[command(flatten)]
        postgres: PostgresConfig,
    },
}

/// Settings of the daemon.
#[derive(Debug, Clone, Args)]
pub struct Config {
    #[command(flatten)]
    pub kafka: KafkaConfig,
    #[command(flatten)]
    pub postgres: PostgresConfig,
    #[command(flatten)]
    pub redis: RedisConfig,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env = "ADMIN_LISTEN", default_value = "127.0.0.1:9101")]
    pub admin_listen: SocketAddr,
    /// Topics to read, by comma; `topic=format` where the format is not to be guessed: native,
    /// segment (calls of the Segment spec) or cloudevents (binary or structured); `auto` tells our
    /// own forms from CloudEvents, by their headers or by `specversion`.
    #[arg(long, env = "INPUT_TOPICS", default_value = "user-actions", value_delimiter = ',')]
    pub input_topics: Vec<InputTopic>,
    /// The consumer group; instances of one group share the partitions.
    #[arg(long, env = "CONSUMER_GROUP", default_value = "tallyman-processor")]
    pub consumer_group: String,
    #[command(flatten)]
    pub batch: BatchConfig,
    #[command(flatten)]
    pub dedup: DedupConfig,
    #[command(flatten)]
    pub follow: FollowConfig,
}

impl Config {
    /// The format of a topic by its full name.
    pub fn format_of(&self, topic: &str) -> InputFormat {
        let name = topic.strip_prefix(&self.kafka.kafka_topic_prefix).unwrap_or(topic);
        let input = self.input_topics.iter().find(|input| input.name == name);
        input.map_or(InputFormat::Auto, |input| input.format)
    }
}

/// One input topic and the format of its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputTopic {
    pub name: String,
    pub format: InputFormat,
}

/// In whose words the records of a topic are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum InputFormat {
    #[default]
    Auto,
    Native,
    Segment,
    #[value(name = "cloudevents")]
    CloudEvents,
}

impl std::str::FromStr for InputTopic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, format) = text.split_once('=').unwrap_or((text, "auto"));
        match InputFormat::from_str(format, false) {
            Ok(format) => Ok(Self { name: name.to_owned(), format }),
            Err(_) => Err(format!(
                "unknown format `{format}`; it can be auto, native, segment or cloudevents"
            )),
        }
    }
}

#[derive(Debug, Clone, Copy, Args)]
pub struct BatchConfig {
    /// A batch is judged when it holds this many records …
    #[arg(long, env = "BATCH_EVENTS_MAX", default_value_t = 8_000)]
    pub batch_events_max: usize,
    /// … or this many bytes …
    #[arg(long, env = "BATCH_BYTES_MAX", default_value_t = 8 << 20)]
    pub batch_bytes_max: usize,
    /// … or when its oldest record has waited this many milliseconds, whichever comes first.
    #[arg(long, env = "BATCH_AGE_MS_MAX", default_value_t = 20)]
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    On,
    Off,
}

#[derive(Debug, Clone, Copy, Args)]
pub struct DedupConfig {
    /// Memory for the ids stored last, in MiB; 0: none. A copy of one of them needs nobody else.
    #[arg(long, env = "DEDUP_RECENT_MIB_MAX", default_value_t = 16)]
    pub dedup_recent_mib_max: usize,
    /// The in-memory filter that guesses; off: every event goes to the judge.
    #[arg(long, env = "DEDUP_BLOOM", default_value = "on")]
    pub dedup_bloom: Switch,
    /// The Redis markers that know; off: what the filter suspects goes to the judge.
    #[arg(long, env = "DEDUP_REDIS", default_value = "on")]
    pub dedup_redis: Switch,
    /// Redis has this many milliseconds to answer for a batch; then the judge decides.
    #[arg(long, env = "DEDUP_REDIS_MS_MAX", default_value_t = 20)]
    pub dedup_redis_ms_max: u64,
    /// Days for which Redis remembers an id (Postgres remembers longer).
    #[arg(long, env = "DEDUP_WINDOW_DAYS", default_value_t = 7)]
    pub dedup_window_days: u32,
    /// Memory of the filter, in MiB; the oldest day goes first when it is used up.
    #[arg(long, env = "DEDUP_BLOOM_MIB_MAX", default_value_t = 64)]
    pub dedup_bloom_mib_max: usize,
}

#[derive(Debug, Clone, Copy, Args)]
pub struct FollowConfig {
    /// Judged batches that wait in memory for counters, rollups and relay may hold this many MiB;
    /// above it they are dropped and read back from Postgres.
    #[arg(long, env = "FOLLOW_MIB_MAX", default_value_t = 32)]
    pub follow_mib_max: usize,
    /// Rollups and statistics gather batches for this many milliseconds before they write.
    #[arg(long, env = "ROLLUP_GATHER_MS", default_value_t = 1_000)]
    pub rollup_gather_ms: u64,
    /// What was added to object counts and statistics is folded together after so many seconds, or when it
    /// is much; readers add it up by themselves until then.
    #[arg(long, env = "FOLD_SECONDS", default_value_t = 30)]
    pub fold_seconds: u32,
}
