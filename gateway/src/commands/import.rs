//! `gateway import`: a file of events straight into Kafka.

mod show;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::ValueEnum;
use common::admin::Readiness;
use common::config::KafkaConfig;
use jiff::Timestamp;
use tempfile::NamedTempFile;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::show::{Screen, Summary};
use crate::config::PublisherConfig;
use crate::csv::Override;
use crate::import::{
    Checkpoint, Ended, FormatName, Import, ImportError, Keeper, Lane, Plan, Progress, Settings,
    Sink, Source,
};
use crate::publisher::Publisher;

/// Some rows were rejected, all others are in. 2 is what clap says of a command line it cannot read.
const EXIT_SOME_REJECTED: u8 = 3;
/// As shells have it for SIGINT.
const EXIT_STOPPED: u8 = 130;

/// How many canonical events a dry run shows.
const FIRST_EVENTS: usize = 3;

/// An import has the window for itself; a record waits longer for others to share its request.
const PUBLISHER: PublisherConfig = PublisherConfig {
    gateway_linger_ms: 5,
    gateway_delivery_timeout_ms: 60_000,
    gateway_window_kbytes: 16 << 10,
};

const EXAMPLES: &str = "\
Examples:
  gateway import likes.csv --dry-run              what would become of each column and row
  gateway import likes.csv                        the same, stored
  gateway import likes.csv --map 'Kunde=userId' --map 'Notiz=properties.note' --map 'x=-'
  gateway import events.ndjson.zst --yes -o json  for scripts: a summary in JSON on standard output
  psql -c 'copy (select …) to stdout csv header' | gateway import - --format csv

Columns:
  The first row of a CSV names its columns. Names are known whatever their case, spaces, `-` and `_`
  (`User ID` is userId); `properties.NAME` and `context.NAME` go inside those; every other column
  becomes a property. The table shown first says what becomes of each. An empty cell is absent.
  `true`, `false` and numbers of up to 15 digits are stored as JSON has them, digits as written;
  007, +1 and 1e3 stay text. A cell of `properties` or `context` is a JSON object.

Ids, so that nothing is counted twice:
  A row's own event id; else a hash of its telling members, if it has a time of its own; else the
  SHA-256 of the decompressed file and the number of the row. Importing the same file again, or
  resuming it, changes no count.

Resuming:
  FILE.tallyman-import beside the file remembers how far Kafka has it. After Ctrl-C, a crash or a
  lost broker the same command goes on from there; it is deleted at the end. Standard input is first
  copied to a temporary file and cannot be resumed.

Exit codes:
  0  every row was accepted                       3  done, but some rows were rejected
  1  failed; the same command goes on             130  stopped by SIGINT or SIGTERM; likewise
  2  the command line cannot be used";

/// Imports a file of events, CSV or NDJSON, also compressed with gzip or zstd, straight into Kafka: as
/// if each row had been sent over HTTP. It needs the brokers only (KAFKA_BROKERS). Progress goes to
/// standard error, a bar on a terminal and JSON lines otherwise; the summary to standard output.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ImportCommand {
    /// The file; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What the file is; guessed by name and content.
    #[arg(long)]
    format: Option<FormatName>,
    /// What separates the cells of a CSV, one character or `tab`; guessed by the header.
    #[arg(long, value_parser = delimiter)]
    delimiter: Option<u8>,
    /// What a column becomes: a member of an event (userId, type, occurredAt, …), `properties.NAME`,
    /// `context.NAME`, or `-` for nothing. Repeatable.
    #[arg(long = "map", value_name = "COLUMN=MEMBER")]
    overrides: Vec<Override>,
    /// Reads and checks everything, shows the verdicts and the first events, and stores nothing.
    #[arg(long)]
    dry_run: bool,
    /// Where rejected rows go, one JSON object a line: line, row, code, detail, original; by default
    /// FILE.rejects.ndjson. Of standard input and dry runs only if it is given.
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Begins again at the first row, whatever was done before.
    #[arg(long)]
    restart: bool,
    /// Does not ask before it begins; without a terminal it never does.
    #[arg(long, short)]
    yes: bool,
    /// Text for people or JSON lines for programs; by default text if standard error is a terminal.
    #[arg(long, short)]
    output: Option<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        _ if text == "tab" || text == "\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
        _ => Err("expected one ASCII character, or `tab`".into()),
    }
}

pub async fn run(command: &ImportCommand, kafka: &KafkaConfig) -> anyhow::Result<ExitCode> {
    let stop = CancellationToken::new();
    let mut signals = JoinSet::new();
    signals.spawn(stop_on_signal(stop.clone()));
    let output = command.output.unwrap_or_else(|| match io::stderr().is_terminal() {
        true => Output::Text,
        false => Output::Json,
    });
    let spooled = if command.is_standard_input() { Some(spool()?) } else { None };
    let path = spooled.as_ref().map_or(&*command.file, NamedTempFile::path);
    let source = Source::open(path).with_context(|| format!("read {}", path.display()))?;
    let plan = Arc::new(Plan::of(source, &command.settings())?);
    let topic = format!("{}{}", kafka.kafka_topic_prefix, common::topic::USER_ACTIONS.name);
    let keeper = command.keeper(&plan, &topic)?;
    let began_at = keeper.checkpoint().accepted + keeper.checkpoint().rejected;
    show::plan(output, &plan, &topic, began_at);
    if !command.goes_ahead()? {
        return Ok(ExitCode::from(EXIT_STOPPED));
    }
    let ended = command.import(plan, keeper, kafka, output, &stop).await;
    command.conclude(ended, output)
}

impl ImportCommand {
    fn is_standard_input(&self) -> bool {
        self.file == Path::new("-")
    }

    fn settings(&self) -> Settings {
        Settings {
            format: self.format,
            delimiter: self.delimiter,
            overrides: self.overrides.clone(),
            user: None,
        }
    }

    /// Where an earlier run of this import left off, or its beginning.
    fn keeper(&self, plan: &Plan, topic: &str) -> anyhow::Result<Keeper> {
        let is_stored = !self.dry_run && !self.is_standard_input();
        let path = is_stored.then(|| beside(&self.file, ".tallyman-import"));
        let begin = Checkpoint::begin(plan, topic, Timestamp::now());
        let checkpoint = match &path {
            Some(path) if self.restart => {
                Checkpoint::remove(path).with_context(|| format!("remove {}", path.display()))?;
                begin
            }
            Some(path) => self.resumed(path, &begin)?.unwrap_or(begin),
            None => begin,
        };
        let rejects = match &self.rejects {
            None if is_stored => Some(self.default_rejects()),
            given => given.clone(),
        };
        Keeper::new(checkpoint, path, rejects).context("open the rejects file")
    }

    fn resumed(&self, path: &Path, begin: &Checkpoint) -> anyhow::Result<Option<Checkpoint>> {
        let read = Checkpoint::read(path).with_context(|| {
            format!("read {}, where the import left off; --restart begins again", path.display())
        })?;
        let Some(checkpoint) = read else { return Ok(None) };
        let (file, rows) = (self.file.display(), checkpoint.accepted + checkpoint.rejected);
        if let Some(difference) = checkpoint.difference(begin) {
            bail!(
                "an import of {file} stopped behind row {rows}, but {difference}: it cannot go on. \
                 --restart imports the file as it is now from its first row; what was accepted \
                 before is counted once where rows bring an id or a time of their own"
            );
        }
        Ok(Some(checkpoint))
    }

    fn default_rejects(&self) -> PathBuf {
        beside(&self.file, ".rejects.ndjson")
    }

    /// Asks who sits at the terminal.
    fn goes_ahead(&self) -> anyhow::Result<bool> {
        let asks = !self.yes && !self.dry_run && !self.is_standard_input();
        if !asks || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Ok(true);
        }
        eprint!("Import it? [Y/n] ");
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).context("read the answer")?;
        Ok(matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"))
    }

    async fn import(
        &self,
        plan: Arc<Plan>,
        keeper: Keeper,
        kafka: &KafkaConfig,
        output: Output,
        stop: &CancellationToken,
    ) -> anyhow::Result<(Ended, Summary)> {
        let checkpoint = keeper.checkpoint();
        let bytes = plan.source.identity.bytes;
        let progress = Arc::new(Progress::new(bytes, checkpoint.accepted, checkpoint.rejected));
        let screen = Screen::new(output, progress.clone());
        let ended = if self.dry_run {
            let sink = Sink::Nowhere { first: Vec::new(), first_max: FIRST_EVENTS };
            let import = Import { plan, sink, keeper, progress: progress.clone() };
            screen.shown_while(import.run(stop)).await?
        } else {
            let publisher = Publisher::connect(kafka, &PUBLISHER).await?;
            let sink = Sink::Publish(Lane::new(&publisher, publisher.window_bytes()));
            let import = Import { plan, sink, keeper, progress: progress.clone() };
            let readiness = Readiness::default();
            let watched = publisher.watch(&readiness, CancellationToken::new());
            tokio::select! {
                ended = screen.shown_while(import.run(stop)) => ended.map_err(|it| self.explain(it))?,
                failed = watched => return Err(failed.err().context("the producer ended")?),
            }
        };
        let summary = Summary::of(&ended, &progress.snapshot(), progress.elapsed(), self.dry_run);
        Ok((ended, summary))
    }

    /// A failure with what to do about it.
    fn explain(&self, error: ImportError) -> anyhow::Error {
        let goes_on = match error {
            ImportError::Changed => return error.into(),
            _ if self.is_standard_input() => "import it again: what was accepted counts once",
            ImportError::Read(_) => "what came before that is imported; mend the file",
            ImportError::Keep(_) | ImportError::Publish(_) => "the same command goes on from there",
        };
        anyhow::Error::new(error).context(goes_on)
    }

    fn conclude(
        &self,
        ended: anyhow::Result<(Ended, Summary)>,
        output: Output,
    ) -> anyhow::Result<ExitCode> {
        let (mut ended, summary) = ended?;
        if ended.is_complete {
            ended.keeper.finish().context("write the rejects and remove the checkpoint")?;
        }
        let rejects = self.rejects.clone().or_else(|| {
            (!self.dry_run && !self.is_standard_input()).then(|| self.default_rejects())
        });
        summary.print(output, rejects.as_deref());
        if !ended.is_complete {
            match (self.dry_run, self.is_standard_input()) {
                (false, false) => eprintln!("Stopped; the same command goes on from there."),
                _ => eprintln!("Stopped."),
            }
            return Ok(ExitCode::from(EXIT_STOPPED));
        }
        let some_rejected = ended.keeper.checkpoint().rejected > 0;
        Ok(ExitCode::from(if some_rejected { EXIT_SOME_REJECTED } else { 0 }))
    }
}

/// A pipe can be read once only, a file can be hashed first.
fn spool() -> anyhow::Result<NamedTempFile> {
    let mut file =
        NamedTempFile::with_prefix("tallyman-import-").context("create a temporary file")?;
    io::copy(&mut io::stdin().lock(), &mut file)
        .with_context(|| format!("copy standard input to {}", file.path().display()))?;
    Ok(file)
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

async fn stop_on_signal(stop: CancellationToken) {
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    stop.cancel();
    int.recv().await; // Who asks twice does not want to wait.
    std::process::exit(i32::from(EXIT_STOPPED));
}
