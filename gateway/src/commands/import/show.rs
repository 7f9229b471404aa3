//! What an import shows: its plan first, then how far it is, and in the end what became of the rows.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Output;
use crate::import::{Ended, Format, Plan, Progress, Reject, Snapshot};

/// How many rejects are shown to people; the file has all.
const REJECTS_SHOWN: usize = 10;

const BAR_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(1);

/// What becomes of each column, before anything happens.
pub fn plan(output: Output, plan: &Plan, topic: &str, rows_before: u64) {
    if output == Output::Json {
        return eprintln!("{}", plan_json(plan, topic, rows_before));
    }
    match &plan.format {
        Format::Ndjson => eprintln!("NDJSON, one event a line; members go by their names."),
        Format::Csv { delimiter, columns } => {
            let widest = columns.iter().map(|it| it.name.chars().count()).max().unwrap_or(0);
            eprintln!("CSV, cells separated by {:?}.", char::from(*delimiter));
            for column in columns.iter() {
                eprintln!("  {:widest$}  →  {}", column.name, column.becomes);
            }
            if let Some(kind) = columns.flat_form() {
                eprintln!("  These are flat {kind} events: all columns also stay properties.");
            }
        }
    }
    eprintln!("Into the topic {topic}.");
    if rows_before > 0 {
        eprintln!("Going on behind row {}; --restart would begin again.", grouped(rows_before));
    }
}

fn plan_json(plan: &Plan, topic: &str, rows_before: u64) -> Value {
    let mut shown = json!({"phase": "plan", "topic": topic, "rowsBefore": rows_before});
    match &plan.format {
        Format::Ndjson => shown["format"] = "ndjson".into(),
        Format::Csv { delimiter, columns } => {
            let columns =
                columns.iter().map(|it| json!({"column": it.name, "becomes": it.becomes}));
            shown["format"] = "csv".into();
            shown["delimiter"] = char::from(*delimiter).to_string().into();
            shown["columns"] = columns.collect();
        }
    }
    shown
}

/// Where progress is shown.
pub struct Screen {
    progress: Arc<Progress>,
    bar: Option<ProgressBar>,
}

impl Screen {
    pub fn new(output: Output, progress: Arc<Progress>) -> Self {
        let bar = (output == Output::Text).then(|| {
            let bytes = progress.snapshot().bytes;
            let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{wide_bar} {percent:>3} %  {msg}");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { progress, bar }
    }

    /// Shows how far it is until it ends.
    pub async fn shown_while<T>(&self, working: impl Future<Output = T>) -> T {
        let mut working = std::pin::pin!(working);
        let every = if self.bar.is_some() { BAR_EVERY } else { LINE_EVERY };
        let ended = loop {
            match tokio::time::timeout(every, &mut working).await {
                Ok(ended) => break ended,
                Err(_elapsed) => self.show(&self.progress.snapshot()),
            }
        };
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        ended
    }

    fn show(&self, now: &Snapshot) {
        let Some(bar) = &self.bar else {
            return eprintln!("{}", serde_json::to_string(now).unwrap_or_default());
        };
        bar.set_position(now.bytes_read);
        let left = now.eta.map(|eta| format!(", {} left", duration(eta))).unwrap_or_default();
        bar.set_message(match now.phase {
            "hashing" => format!("hashing the file{left}"),
            _ => format!(
                "{} rows, {}/s, {} rejected{left}",
                grouped(now.rows),
                grouped(now.rate),
                grouped(now.rejected)
            ),
        });
    }
}

/// What became of the rows.
pub struct Summary {
    state: &'static str,
    is_dry_run: bool,
    now: Snapshot,
    elapsed: Duration,
    rejects: Vec<Reject>,
    first_events: Vec<String>,
}

impl Summary {
    pub fn of(ended: &Ended, now: &Snapshot, elapsed: Duration, is_dry_run: bool) -> Self {
        Self {
            state: if ended.is_complete { "done" } else { "stopped" },
            is_dry_run,
            now: now.clone(),
            elapsed,
            rejects: ended.keeper.checkpoint().first_rejects.clone(),
            first_events: ended.first_events.clone(),
        }
    }

    pub fn print(&self, output: Output, rejects_file: Option<&Path>) {
        let rejects_file = rejects_file.filter(|_| self.now.rejected > 0);
        match output {
            Output::Json => println!("{}", self.json(rejects_file)),
            Output::Text => self.print_text(rejects_file),
        }
    }

    fn json(&self, rejects_file: Option<&Path>) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Line<'a> {
            state: &'a str,
            dry_run: bool,
            rows: u64,
            accepted: u64,
            rejected: u64,
            rate: u64,
            seconds: f64,
            #[serde(skip_serializing_if = "Option::is_none")]
            rejects_file: Option<&'a Path>,
            rejects: &'a [Reject],
            #[serde(skip_serializing_if = "Vec::is_empty")]
            first_events: Vec<&'a RawValue>,
        }
        let events = self.first_events.iter().filter_map(|it| serde_json::from_str(it).ok());
        let line = Line {
            state: self.state,
            dry_run: self.is_dry_run,
            rows: self.now.rows,
            accepted: self.now.accepted,
            rejected: self.now.rejected,
            rate: self.now.rate,
            seconds: (self.elapsed.as_secs_f64() * 1_000.0).round() / 1_000.0,
            rejects_file,
            rejects: &self.rejects,
            first_events: events.collect(),
        };
        serde_json::to_string(&line).expect("texts and numbers are JSON")
    }

    fn print_text(&self, rejects_file: Option<&Path>) {
        for event in &self.first_events {
            println!("{event}");
        }
        let (would, now) = (if self.is_dry_run { " would be" } else { "" }, &self.now);
        println!(
            "{} rows{}: {}{would} accepted, {}{would} rejected; {:.1} s, {} rows/s.",
            grouped(now.rows),
            if self.state == "stopped" { " so far" } else { "" },
            grouped(now.accepted),
            grouped(now.rejected),
            self.elapsed.as_secs_f64(),
            grouped(now.rate),
        );
        for reject in self.rejects.iter().take(REJECTS_SHOWN) {
            println!("  line {}: {} ({})", reject.line, reject.detail, reject.code);
        }
        if now.rejected > REJECTS_SHOWN as u64 {
            println!("  and {} more", grouped(now.rejected - REJECTS_SHOWN as u64));
        }
        if let Some(file) = rejects_file {
            println!("The rejected rows are in {}.", file.display());
        }
    }
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}
