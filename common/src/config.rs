//! Configuration: flag > environment > TOML file > default, and the groups that all daemons share.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};

/// Exit code of a configuration that cannot be used (`EX_CONFIG` of sysexits.h).
pub const EXIT_BAD_CONFIG: u8 = 78;

/// How the daemon tells how it is, and how long it may take to stop.
#[derive(Debug, Clone, clap::Args)]
pub struct DaemonConfig {
    /// Log lines for people (`text`) or for machines (`json`); they go to standard error.
    #[arg(long, env = "LOG_FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,
    /// What is logged: a level, or directives such as `info,processor=debug`.
    #[arg(long, env = "LOG_LEVEL", default_value = "info", global = true)]
    pub log_level: String,
    /// After SIGTERM the daemon finishes what it took within this many seconds.
    #[arg(long, env = "GRACE_SECONDS", default_value_t = 20, global = true)]
    pub grace_seconds: u64,
    /// Every so many seconds, and when it stops, the daemon sends its metrics to the topic
    /// `service-metrics`; 0 sends none.
    #[arg(long, env = "SERVICE_METRICS_SECONDS", default_value_t = 10, global = true)]
    pub service_metrics_seconds: u64,
    #[command(flatten)]
    pub trace: TraceConfig,
}

/// Whether the way of single actions is told, and to whom.
#[derive(Debug, Clone, clap::Args)]
pub struct TraceConfig {
    /// An OpenTelemetry collector that takes traces over HTTP, such as http://127.0.0.1:4318;
    /// without one nothing is told.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", global = true)]
    pub otlp_endpoint: Option<String>,
    /// Share of requests that begin a trace, from 0 to 1; those that come with a `traceparent`
    /// belong to one if it says so.
    #[arg(long, env = "TRACE_RATIO", default_value_t = 0.0, value_name = "SHARE", global = true)]
    pub trace_ratio: f64,
}

impl DaemonConfig {
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// How to reach Kafka.
#[derive(Debug, Clone, clap::Args)]
pub struct KafkaConfig {
    /// Bootstrap brokers, `host:port` by comma.
    #[arg(long, env = "KAFKA_BROKERS", default_value = "127.0.0.1:9092", global = true)]
    pub kafka_brokers: String,
    /// Put before every topic name, so that several installations can share a cluster.
    #[arg(long, env = "KAFKA_TOPIC_PREFIX", default_value = "", global = true)]
    pub kafka_topic_prefix: String,
    /// Partitions of a topic that has to be created.
    #[arg(long, env = "KAFKA_PARTITIONS", default_value_t = 4, global = true)]
    pub kafka_partitions: i32,
    /// Further client properties of librdkafka, `name=value` by comma (TLS, SASL, …).
    #[arg(
        long,
        env = "KAFKA_OPTIONS",
        value_delimiter = ',',
        hide_env_values = true,
        global = true
    )]
    pub kafka_options: Vec<KeyValue>,
}

/// How to reach Postgres.
#[derive(Debug, Clone, clap::Args)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/database`
    #[arg(
        long,
        env = "DATABASE_URL",
        default_value = "postgres://tallyman@127.0.0.1:5432/tallyman",
        hide_env_values = true,
        global = true
    )]
    pub database_url: Secret,
    /// Connections this process keeps at most.
    #[arg(long, env = "DATABASE_CONNECTIONS_MAX", default_value_t = 12, global = true)]
    pub database_connections_max: usize,
}

/// How to reach Redis.
#[derive(Debug, Clone, clap::Args)]
pub struct RedisConfig {
    /// `redis://user:password@host:port/database`
    #[arg(
        long,
        env = "REDIS_URL",
        default_value = "redis://127.0.0.1:6379/0",
        hide_env_values = true,
        global = true
    )]
    pub redis_url: Secret,
}

/// A value that no log line and no `check-config` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// One `name=value`; the value may be a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    pub key: String,
    pub value: Secret,
}

impl FromStr for KeyValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once('=').ok_or("expected name=value")?;
        Ok(Self { key: key.trim().to_owned(), value: value.trim().into() })
    }
}

/// Reads the command line of this process. On a mistake it says what to do and ends the process.
pub fn load<C: CommandFactory + FromArgMatches>() -> Result<C, ExitCode> {
    let args: Vec<OsString> = std::env::args_os().collect();
    let command = with_file_defaults(C::command(), &args).map_err(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(EXIT_BAD_CONFIG)
    })?;
    let read = command.try_get_matches_from(args);
    read.and_then(|matches| C::from_arg_matches(&matches)).map_err(|error| match error.kind() {
        // Mostly a setting, from whichever of its sources: clap does not tell.
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let _nobody_reads_it = error.print();
            ExitCode::from(EXIT_BAD_CONFIG)
        }
        _ => error.exit(),
    })
}

/// The effective value of every setting, secrets masked, as `name = value` lines.
pub fn effective<C: CommandFactory>() -> anyhow::Result<Vec<(String, String)>> {
    let args: Vec<OsString> = std::env::args_os().collect();
    let matches = with_file_defaults(C::command(), &args)?.get_matches_from(args);
    let mut values = BTreeMap::new();
    collect_values(&C::command(), &matches, &mut values);
    Ok(values.into_iter().collect())
}

fn collect_values(command: &Command, matches: &ArgMatches, into: &mut BTreeMap<String, String>) {
    for arg in command.get_arguments().filter(|arg| arg.get_env().is_some()) {
        let Ok(Some(raw)) = matches.try_get_raw(arg.get_id().as_str()) else { continue };
        let text: Vec<_> = raw.map(|value| value.to_string_lossy().into_owned()).collect();
        let shown = if arg.is_hide_env_values_set() { "***".into() } else { text.join(",") };
        into.insert(setting_name(arg), shown);
    }
    if let Some((name, matches)) = matches.subcommand()
        && let Some(command) = command.find_subcommand(name)
    {
        collect_values(command, matches, into);
    }
}

/// Settings are named in the file as in the environment, in lower case.
fn setting_name(arg: &Arg) -> String {
    arg.get_env().map(|env| env.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// Values of the `--config` file and of `*_FILE` variables become the defaults of the same
/// arguments: so flags and plain variables win, and `--help` stays the one list of settings.
fn with_file_defaults(command: Command, args: &[OsString]) -> anyhow::Result<Command> {
    let mut defaults = match config_path(args) {
        Some(path) => read_file(&path)?,
        None => BTreeMap::new(),
    };
    let mut known = Vec::new();
    collect_names(&command, &mut known);
    for name in defaults.keys() {
        if !known.contains(name) {
            bail!(unknown_setting(name, &known));
        }
    }
    for name in known {
        let variable = format!("{}_FILE", name.to_uppercase());
        if let Some(path) = std::env::var_os(&variable) {
            let secret = std::fs::read_to_string(&path)
                .with_context(|| format!("read {} named by {variable}", path.display()))?;
            defaults.insert(name, secret.trim_end_matches(['\r', '\n']).to_owned());
        }
    }
    Ok(apply_defaults(command, &defaults))
}

fn config_path(args: &[OsString]) -> Option<PathBuf> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        if text == "--config" {
            return args.next().map(PathBuf::from);
        }
        if let Some(path) = text.strip_prefix("--config=") {
            return Some(PathBuf::from(path));
        }
    }
    std::env::var_os("TALLYMAN_CONFIG").map(PathBuf::from)
}

fn read_file(path: &PathBuf) -> anyhow::Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let table: toml::Table = text.parse().with_context(|| format!("parse {}", path.display()))?;
    table.into_iter().map(|(name, value)| Ok((name.clone(), scalar_text(&name, value)?))).collect()
}

fn scalar_text(name: &str, value: toml::Value) -> anyhow::Result<String> {
    Ok(match value {
        toml::Value::String(text) => text,
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(flag) => flag.to_string(),
        toml::Value::Array(values) => values
            .into_iter()
            .map(|value| scalar_text(name, value))
            .collect::<anyhow::Result<Vec<_>>>()?
            .join(","),
        toml::Value::Datetime(_) | toml::Value::Table(_) => {
            bail!("`{name}` must be a string, number, boolean or array")
        }
    })
}

fn collect_names(command: &Command, names: &mut Vec<String>) {
    names.extend(command.get_arguments().map(setting_name).filter(|name| !name.is_empty()));
    command.get_subcommands().for_each(|sub| collect_names(sub, names));
}

fn unknown_setting(name: &str, known: &[String]) -> String {
    let nearest = known
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
    match nearest {
        Some(near) if strsim::jaro_winkler(near, name) > 0.8 => {
            format!("unknown setting `{name}` in the configuration file; did you mean `{near}`?")
        }
        _ => format!("unknown setting `{name}` in the configuration file; see --help for all"),
    }
}

fn apply_defaults(command: Command, defaults: &BTreeMap<String, String>) -> Command {
    command
        .mut_args(|arg| match defaults.get(&setting_name(&arg)) {
            Some(value) => {
                // The help names defaults, these too.
                let secret = arg.is_hide_env_values_set();
                arg.default_value(value.clone()).hide_default_value(secret).required(false)
            }
            None => arg,
        })
        .mut_subcommands(|sub| apply_defaults(sub, defaults))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[arg(long, env = "TALLYMAN_CONFIG")]
        #[allow(dead_code)]
        config: Option<PathBuf>,
        #[command(flatten)]
        kafka: KafkaConfig,
    }

    fn parse(file: &str, args: &[&str]) -> anyhow::Result<Cli> {
        let path = std::env::temp_dir().join(format!("tallyman-{}.toml", uuid::Uuid::now_v7()));
        std::fs::write(&path, file)?;
        let path = path.to_str().context("path")?.to_owned();
        let args: Vec<OsString> =
            ["x", "--config", &path].iter().chain(args).map(OsString::from).collect();
        let matches = with_file_defaults(Cli::command(), &args)?.try_get_matches_from(args)?;
        Ok(Cli::from_arg_matches(&matches)?)
    }

    #[test]
    fn the_file_replaces_a_default_and_a_flag_replaces_the_file() {
        let file = "kafka_topic_prefix = \"file-\"\nkafka_partitions = 7";
        let cli = parse(file, &["--kafka-topic-prefix", "flag-"]).unwrap();
        assert_eq!(cli.kafka.kafka_topic_prefix, "flag-");
        assert_eq!(cli.kafka.kafka_partitions, 7);
    }

    #[test]
    fn an_unknown_setting_is_refused_with_a_suggestion() {
        let error = parse("kafka_broker = \"x\"", &[]).err().unwrap().to_string();
        assert!(error.contains("did you mean `kafka_brokers`"), "{error}");
    }

    #[test]
    fn a_secret_never_shows() {
        assert_eq!(format!("{:?}", Secret::from("hunter2")), "***");
        let options = r#"kafka_options = ["sasl.username=me", "sasl.password=hunter2"]"#;
        let cli = parse(options, &[]).unwrap();
        assert_eq!(cli.kafka.kafka_options[1].value.reveal(), "hunter2");
        assert!(!format!("{:?}", cli.kafka).contains("hunter2"));
    }

    #[test]
    fn neither_help_nor_the_effective_settings_show_a_secret_of_the_file() {
        let defaults =
            [("kafka_options", "sasl.password=hunter2"), ("kafka_topic_prefix", "of-the-file-")];
        let defaults = defaults.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut command = apply_defaults(Cli::command(), &BTreeMap::from(defaults));
        let help = command.render_long_help().to_string();
        assert!(help.contains("[default: of-the-file-]") && !help.contains("hunter2"), "{help}");
        let mut effective = BTreeMap::new();
        collect_values(&command.clone(), &command.get_matches_from(["x"]), &mut effective);
        assert_eq!(effective["kafka_options"], "***");
        assert_eq!(effective["kafka_topic_prefix"], "of-the-file-");
    }
}
