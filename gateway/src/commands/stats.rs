//! `gateway stats`: what happened, as a table for people or the answer's JSON for programs.

mod table;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use reqwest::Client;
use serde_json::Value;

use self::table::Style;
use super::client::GatewayClient;
use super::filter::Filter;

#[derive(Debug, Args)]
pub struct StatsCommand {
    #[command(subcommand)]
    question: Question,
    #[command(flatten)]
    gateway: GatewayClient,
    /// A table, or the answer as it comes.
    #[arg(long, short, default_value = "text", value_name = "FORM", global = true)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// Active users by day, week or month.
    Dau {
        #[command(flatten)]
        range: Range,
        #[command(flatten)]
        filter: Filter,
        /// day, week or month.
        #[arg(long, value_name = "UNIT")]
        unit: Option<String>,
    },
    /// Who comes back: users by the day of their first event ever, and how many were active later.
    Retention {
        #[command(flatten)]
        range: Range,
        /// day, week or month.
        #[arg(long, value_name = "UNIT")]
        unit: Option<String>,
        /// nday: active in just that unit; unbounded: in it or a later one.
        #[arg(long, value_name = "MODE")]
        mode: Option<String>,
        /// Columns at most.
        #[arg(long, value_name = "COUNT")]
        periods: Option<String>,
    },
    /// The types of events by how often they happened.
    TopEvents(Top),
    /// The objects to which most was done; without a range in all up to now.
    TopObjects(Top),
    /// What happened by minute, hour or day.
    Activity {
        #[command(flatten)]
        range: Range,
        #[command(flatten)]
        filter: Filter,
        /// minute, hour or day.
        #[arg(long, value_name = "UNIT")]
        unit: Option<String>,
        /// Tells apart by type or source.
        #[arg(long, value_name = "WHAT")]
        by: Option<String>,
    },
    /// How many users do one thing after another.
    Funnel {
        /// Types of events in their order, by comma: view,like,purchase.
        #[arg(value_name = "STEPS")]
        steps: String,
        /// How soon after the first step the others have to come: 1h, 1d.
        #[arg(long, value_name = "SPAN")]
        within: Option<String>,
        #[command(flatten)]
        range: Range,
        #[command(flatten)]
        filter: Filter,
    },
    /// Every counter of one object.
    Counters {
        #[arg(value_name = "OBJECT_TYPE")]
        object_type: String,
        #[arg(value_name = "OBJECT_ID")]
        object_id: String,
    },
}

#[derive(Debug, Args)]
struct Range {
    /// From this date or time on (2026-11-01, 2026-11-01T10:00:00Z).
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Up to this date or time, which is not included itself.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// The zone whose days count, such as Europe/Berlin; UTC without.
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
}

pub async fn run(command: &StatsCommand) -> anyhow::Result<ExitCode> {
    let json = ask(command).await?;
    let answer: Value = serde_json::from_str(&json).context("the answer is not JSON")?;
    let mut out = std::io::stdout().lock();
    let written = match command.output {
        Output::Json => writeln!(out, "{json}"),
        Output::Text => {
            let is_plain = std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
            let style = Style { is_colored: out.is_terminal() && !is_plain };
            write!(out, "{}", table::of(&answer).render(style))
        }
    };
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

async fn ask(command: &StatsCommand) -> anyhow::Result<String> {
    common::tls::choose();
    let request = command.gateway.get(&Client::new(), &command.question.path())?;
    let response = request.send().await.context("connect to the gateway")?;
    let status = response.status();
    let body = response.text().await.context("read the answer")?;
    if status.is_success() {
        return Ok(body);
    }
    let problem: Value = serde_json::from_str(&body).unwrap_or_default();
    match problem["detail"].as_str() {
        Some(detail) => bail!("{detail}"),
        None => bail!("the answer was {status}"),
    }
}

impl Question {
    fn path(&self) -> String {
        let (name, pairs) = match self {
            Self::Dau { range, filter, unit } => {
                ("dau", [&range.pairs()[..], &filter.pairs(), &[("unit", unit)]].concat())
            }
            Self::Retention { range, unit, mode, periods } => {
                let own = [("unit", unit), ("mode", mode), ("periods", periods)];
                ("retention", [&range.pairs()[..], &own].concat())
            }
            Self::TopEvents(top) => ("top-events", top.pairs()),
            Self::TopObjects(top) => ("top-objects", top.pairs()),
            Self::Activity { range, filter, unit, by } => {
                let own = [("unit", unit), ("by", by)];
                ("activity", [&range.pairs()[..], &filter.pairs(), &own].concat())
            }
            Self::Funnel { steps, within, range, filter } => {
                let rest = [&range.pairs()[..], &filter.pairs(), &[("within", within)]].concat();
                return format!("{}&{}", path("funnel", &rest), pair("steps", steps));
            }
            Self::Counters { object_type, object_id } => {
                let [of, id] = [object_type, object_id].map(|it| {
                    percent_encoding::utf8_percent_encode(it, percent_encoding::NON_ALPHANUMERIC)
                });
                return format!("/api/objects/{of}/{id}/counters");
            }
        };
        path(name, &pairs)
    }
}

#[derive(Debug, Args)]
struct Top {
    #[command(flatten)]
    range: Range,
    #[command(flatten)]
    filter: Filter,
    /// How many at most.
    #[arg(long, value_name = "COUNT")]
    limit: Option<String>,
}

impl Top {
    fn pairs(&self) -> Vec<(&'static str, &Option<String>)> {
        [&self.range.pairs()[..], &self.filter.pairs(), &[("limit", &self.limit)]].concat()
    }
}

impl Range {
    fn pairs(&self) -> [(&'static str, &Option<String>); 3] {
        [("from", &self.from), ("to", &self.to), ("tz", &self.tz)]
    }
}

fn path(name: &str, pairs: &[(&str, &Option<String>)]) -> String {
    let given = pairs.iter().filter_map(|(name, value)| Some(pair(name, value.as_deref()?)));
    format!("/api/stats/{name}?{}", given.collect::<Vec<_>>().join("&"))
}

fn pair(name: &str, value: &str) -> String {
    form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish()
}
