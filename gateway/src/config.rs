//! The command line of the gateway: what it can do, and each setting with its unit and default.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use axum::http::{HeaderValue, Uri};
use clap::builder::BoolishValueParser;
use clap::{Parser, Subcommand};
use clap_complete::Shell;
use common::commands::Servers;
use common::config::{DaemonConfig, KafkaConfig, PostgresConfig, RedisConfig, Secret};
use jiff::SignedDuration;

use crate::commands::import::ImportCommand;
use crate::commands::keys::KeysCommand;
use crate::commands::stats::StatsCommand;
use crate::commands::tap::TapCommand;
use crate::quota::{Networks, Unit};

/// Takes events over HTTP and answers once Kafka has them.
///
/// Every setting is a flag, an environment variable of the name shown, or a line of the file named
/// by --config (the variable's name in lower case); the first of these that is given counts. A
/// secret can also be the content of a file named by <VARIABLE>_FILE.
#[derive(Debug, Parser)]
#[command(name = "gateway", version, propagate_version = true)]
pub struct Cli {
    /// TOML file with settings, for example `gateway_listen = "127.0.0.1:8080"`.
    #[arg(long, env = "TALLYMAN_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Daemon")]
    pub daemon: DaemonConfig,
    #[command(flatten, next_help_heading = "Kafka")]
    pub kafka: KafkaConfig,
    #[command(flatten, next_help_heading = "Postgres")]
    pub postgres: PostgresConfig,
    #[command(flatten, next_help_heading = "Redis")]
    pub redis: RedisConfig,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    pub fn servers(&self) -> Servers<'_> {
        Servers { kafka: &self.kafka, postgres: &self.postgres, redis: Some(&self.redis) }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serves events over HTTP until SIGTERM.
    Run(GatewayConfig),
    /// Creates, lists, rotates and revokes API keys.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Imports a file of events, CSV or NDJSON, straight into Kafka; resumable.
    Import(ImportCommand),
    /// Shows actions, notifications or rejected records as they come, one JSON object a line.
    Tap(TapCommand),
    /// Answers about what happened: active users, retention, top lists, activity, funnels, counters.
    Stats(StatsCommand),
    /// Prints every setting with its effective value, and whether the servers can be reached.
    CheckConfig(GatewayConfig),
    /// Prints a shell's completion script.
    Completions { shell: Shell },
}

#[derive(Debug, Clone, clap::Args)]
pub struct GatewayConfig {
    #[command(flatten)]
    pub http: HttpConfig,
    #[command(flatten)]
    pub publisher: PublisherConfig,
    #[command(flatten)]
    pub import: ImportConfig,
    #[command(flatten)]
    pub auth: AuthConfig,
    #[command(flatten)]
    pub push: PushConfig,
    #[command(flatten)]
    pub quota: QuotaConfig,
    #[command(flatten)]
    pub idempotency: IdempotencyConfig,
    #[command(flatten)]
    pub stats: StatsConfig,
    #[command(flatten)]
    pub pipeline: PipelineConfig,
}

/// Where the gateway listens, and how long it waits for its clients.
#[derive(Debug, Clone, clap::Args)]
pub struct HttpConfig {
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, env = "GATEWAY_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    pub gateway_listen: SocketAddr,
    /// Connections open at the same time; above it new ones wait in the system's backlog.
    #[arg(long, env = "GATEWAY_CONNECTIONS_MAX", default_value_t = 10_000, value_name = "COUNT")]
    pub gateway_connections_max: usize,
    /// Seconds a connection may be idle, or take to send a request's headers, before it is closed.
    #[arg(long, env = "GATEWAY_IDLE_SECONDS", default_value_t = 60, value_name = "SECONDS")]
    pub gateway_idle_seconds: u64,
    /// Seconds a client may take nothing of what is sent to it before its connection is cut.
    #[arg(long, env = "GATEWAY_STALL_SECONDS", default_value_t = 30, value_name = "SECONDS")]
    pub gateway_stall_seconds: u64,
    /// Seconds a request may take to send its body; then the answer is 408.
    #[arg(long, env = "GATEWAY_BODY_SECONDS", default_value_t = 30, value_name = "SECONDS")]
    pub gateway_body_seconds: u64,
    /// Bytes of request bodies in memory, from their first byte to their answer; above it the
    /// answer is 503 with Retry-After. Bodies that bring their key within them have half of it until
    /// they are read.
    #[arg(long, env = "GATEWAY_INFLIGHT_BYTES", default_value_t = 16 << 20, value_name = "BYTES")]
    pub gateway_inflight_bytes: usize,
    /// Seconds between when an SDK says it sent and when it came, above which its clock counts as
    /// wrong and its events' times are moved by the difference.
    #[arg(long, env = "GATEWAY_CLOCK_SKEW_SECONDS", default_value_t = 60, value_name = "SECONDS")]
    pub gateway_clock_skew_seconds: u32,
    /// Milliseconds in which, after SIGTERM, /readyz already says no but requests are still taken:
    /// the time a load balancer needs to notice.
    #[arg(long, env = "GATEWAY_DRAIN_DELAY_MS", default_value_t = 0, value_name = "MS")]
    pub gateway_drain_delay_ms: u64,
    #[command(flatten)]
    pub tls: TlsConfig,
    /// Web pages whose scripts may read answers: `*`, or origins such as https://shop.example by
    /// comma. Whoever may read needs a key or token all the same.
    #[arg(long, env = "CORS_ORIGINS", default_value = "*", value_name = "ORIGINS")]
    pub cors_origins: Origins,
}

/// HTTPS instead of HTTP; both files are read again when they change.
#[derive(Debug, Clone, clap::Args)]
pub struct TlsConfig {
    /// PEM file of the certificate and those between it and the root; connections are then TLS.
    #[arg(long, env = "GATEWAY_TLS_CERT", value_name = "FILE", requires = "gateway_tls_key")]
    pub gateway_tls_cert: Option<PathBuf>,
    /// PEM file of the certificate's private key.
    #[arg(long, env = "GATEWAY_TLS_KEY", value_name = "FILE", requires = "gateway_tls_cert")]
    pub gateway_tls_key: Option<PathBuf>,
}

/// Web origins: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    All,
    These(Vec<HeaderValue>),
}

impl FromStr for Origins {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == "*" {
            return Ok(Self::All);
        }
        let origins = text.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        origins.map(origin).collect::<Result<_, _>>().map(Self::These)
    }
}

/// A browser sends scheme, host and port: anything else would never match.
fn origin(text: &str) -> Result<HeaderValue, String> {
    let uri: Uri = text.parse().map_err(|_| format!("{text:?} is not an origin"))?;
    let is_bare = uri.path() == "/" && uri.query().is_none() && !text.ends_with('/');
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(_)) if is_bare => {
            HeaderValue::from_str(text).map_err(|error| error.to_string())
        }
        _ => Err(format!("{text:?} is not an origin; it looks like https://shop.example:8443")),
    }
}

impl HttpConfig {
    pub fn stall(&self) -> Duration {
        Duration::from_secs(self.gateway_stall_seconds)
    }

    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.gateway_idle_seconds)
    }

    pub fn body(&self) -> Duration {
        Duration::from_secs(self.gateway_body_seconds)
    }

    pub fn clock_skew(&self) -> SignedDuration {
        SignedDuration::from_secs(self.gateway_clock_skew_seconds.into())
    }

    pub fn drain_delay(&self) -> Duration {
        Duration::from_millis(self.gateway_drain_delay_ms)
    }
}

/// Who may send without an API key, and how the tokens of others are checked.
#[derive(Debug, Clone, clap::Args)]
pub struct AuthConfig {
    /// Secret of at least 32 bytes that JWTs with HS256 are signed with; without it none is taken.
    #[arg(long, env = "JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub jwt_secret: Option<Secret>,
    /// Where the issuer of JWTs with RS256, ES256 or EdDSA publishes its keys (JWKS).
    #[arg(long, env = "JWT_JWKS_URL", value_name = "URL")]
    pub jwt_jwks_url: Option<String>,
    /// Seconds after which the issuer's keys are fetched again; a token with an unknown key id has
    /// them fetched at once, but not more often than every 5 s.
    #[arg(long, env = "JWT_JWKS_REFRESH_SECONDS", default_value_t = 300, value_name = "SECONDS")]
    pub jwt_jwks_refresh_seconds: u64,
    /// Who a JWT must be meant for (`aud`), several by comma; empty: it is not looked at.
    #[arg(long, env = "JWT_AUDIENCE", value_delimiter = ',', value_name = "NAMES")]
    pub jwt_audience: Vec<String>,
    /// Who a JWT must be from (`iss`), several by comma; empty: it is not looked at.
    #[arg(long, env = "JWT_ISSUER", value_delimiter = ',', value_name = "NAMES")]
    pub jwt_issuer: Vec<String>,
    /// Seconds that the issuer's clock and ours may differ.
    #[arg(long, env = "JWT_LEEWAY_SECONDS", default_value_t = 10, value_name = "SECONDS")]
    pub jwt_leeway_seconds: u64,
    /// Takes events without a credential on /api/events, /product_events/ and
    /// /api-fast/view-event, under the limit per address.
    #[arg(long, env = "ALLOW_ANONYMOUS_WRITE", value_parser = BoolishValueParser::new())]
    pub allow_anonymous_write: bool,
}

impl AuthConfig {
    pub fn jwks_refresh(&self) -> Duration {
        Duration::from_secs(self.jwt_jwks_refresh_seconds.max(1))
    }
}

/// Files that are sent to be imported.
#[derive(Debug, Clone, clap::Args)]
pub struct ImportConfig {
    /// Directory in which uploads to /api/imports lie until they are imported; it must outlive this
    /// process for them to go on after a restart.
    #[arg(long, env = "IMPORT_DIR", default_value_os_t = std::env::temp_dir().join("tallyman-imports"), value_name = "DIRECTORY")]
    pub import_dir: PathBuf,
    /// Bytes of one upload, as it is sent.
    #[arg(long, env = "IMPORT_BYTES_MAX", default_value_t = 5 << 30, value_name = "BYTES")]
    pub import_bytes_max: u64,
}

/// How events are handed to Kafka.
#[derive(Debug, Clone, clap::Args)]
pub struct PublisherConfig {
    /// Milliseconds an event may wait for others to share its request to the broker.
    #[arg(long, env = "GATEWAY_LINGER_MS", default_value_t = 1, value_name = "MS")]
    pub gateway_linger_ms: u64,
    /// Milliseconds until an event the brokers have not acknowledged is answered as `retry`.
    #[arg(long, env = "GATEWAY_DELIVERY_TIMEOUT_MS", default_value_t = 5_000, value_name = "MS")]
    pub gateway_delivery_timeout_ms: u64,
    /// KiB of events on their way to the brokers at the same time, each counted with 1 KiB of
    /// overhead; further requests wait their turn, within GATEWAY_INFLIGHT_BYTES.
    #[arg(long, env = "GATEWAY_WINDOW_KBYTES", default_value_t = 2_048, value_name = "KIB")]
    pub gateway_window_kbytes: u32,
}

impl PublisherConfig {
    pub fn linger(&self) -> Duration {
        Duration::from_millis(self.gateway_linger_ms)
    }

    pub fn delivery_timeout(&self) -> Duration {
        Duration::from_millis(self.gateway_delivery_timeout_ms)
    }
}

/// Sockets that are told of notifications and live events.
#[derive(Debug, Clone, clap::Args)]
pub struct PushConfig {
    /// WebSockets and event streams open at the same time; above it the answer is 503.
    #[arg(long, env = "GATEWAY_SOCKETS_MAX", default_value_t = 10_000, value_name = "COUNT")]
    pub gateway_sockets_max: usize,
    /// KiB of the newest messages kept for all listeners of one stream; whoever falls further behind
    /// is told that it lagged, and cut.
    #[arg(long, env = "GATEWAY_PUSH_RING_KBYTES", default_value_t = 16_384, value_name = "KIB")]
    pub gateway_push_ring_kbytes: usize,
}

/// How much a client may ask for. A limit of its own is set on an API key with `gateway keys`.
#[derive(Debug, Clone, clap::Args)]
pub struct QuotaConfig {
    /// What one address may ask for in a minute without an API key; 0: no limit. Of IPv6 a /64 is
    /// one address.
    #[arg(long, env = "RATE_LIMIT_IP_PER_MIN", default_value_t = 100, value_name = "COUNT")]
    pub rate_limit_ip_per_min: u32,
    /// What limits count, those of keys too. By `events` a batch of n counts n and is refused as a
    /// whole; whatever brings no events counts one.
    #[arg(long, env = "RATE_LIMIT_UNIT", default_value = "requests", value_name = "UNIT")]
    pub rate_limit_unit: Unit,
    /// Networks of the proxies before this gateway, by comma (`10.0.0.0/8,192.0.2.7`): the client's
    /// address is then the last hop of `X-Forwarded-For` or `Forwarded` that is none of them.
    #[arg(long, env = "TRUSTED_PROXIES", default_value = "", value_name = "NETWORKS")]
    pub trusted_proxies: Networks,
    /// Milliseconds a request waits for Redis, which tells all instances apart how much is left;
    /// then this instance goes by the limits alone for a moment.
    #[arg(long, env = "RATE_LIMIT_REDIS_MS_MAX", default_value_t = 5, value_name = "MS")]
    pub rate_limit_redis_ms_max: u64,
    /// Clients whose use is kept in memory at a time, about 300 bytes each; of more those seen least
    /// are forgotten first. Also how many a minute this instance enters into Redis.
    #[arg(long, env = "RATE_LIMIT_CLIENTS_MAX", default_value_t = 50_000, value_name = "COUNT")]
    pub rate_limit_clients_max: usize,
}

/// How answers to requests with an `Idempotency-Key` are kept, for 24 hours in Redis.
#[derive(Debug, Clone, clap::Args)]
pub struct IdempotencyConfig {
    /// KiB of an answer at most; a longer one is not kept: sent again, its request is worked on
    /// again, and no event counts twice all the same.
    #[arg(long, env = "IDEMPOTENCY_ANSWER_KIB_MAX", default_value_t = 256, value_name = "KIB")]
    pub idempotency_answer_kib_max: usize,
    /// MiB of answers this instance keeps in Redis at most; above it none is added until old ones
    /// expire.
    #[arg(long, env = "IDEMPOTENCY_MIB_MAX", default_value_t = 256, value_name = "MIB")]
    pub idempotency_mib_max: u64,
    /// Milliseconds a request with a key waits for Redis; then it goes on without it.
    #[arg(long, env = "IDEMPOTENCY_REDIS_MS_MAX", default_value_t = 100, value_name = "MS")]
    pub idempotency_redis_ms_max: u64,
}

/// Answers about what happened.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct StatsConfig {
    /// Milliseconds a question may take; then it is cancelled and the answer is 503.
    #[arg(long, env = "STATS_ANSWER_MS_MAX", default_value_t = 10_000, value_name = "MS")]
    pub stats_answer_ms_max: u32,
}

/// Whose progress is told.
#[derive(Debug, Clone, clap::Args)]
pub struct PipelineConfig {
    /// The processor's consumer group: its offsets say what is relayed.
    #[arg(long, env = "CONSUMER_GROUP", default_value = "tallyman-processor")]
    pub consumer_group: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn origins_are_written_as_browsers_send_them() {
        assert_eq!("*".parse(), Ok(Origins::All));
        let shop = HeaderValue::from_static("https://shop.example:8443");
        assert_eq!("https://shop.example:8443, ".parse(), Ok(Origins::These(vec![shop])));
        for wrong in
            ["shop.example", "https://shop.example/", "https://shop.example/cart", "ftp://a"]
        {
            assert!(wrong.parse::<Origins>().is_err(), "{wrong}");
        }
    }
}
