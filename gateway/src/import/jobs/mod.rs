//! Imports over HTTP: uploads that become jobs, one at a time, in the shade of live events.

mod spool;
mod store;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::spool::Claimed;
pub use self::spool::{Order, Spool};
use self::store::Ending;
pub use self::store::{Job, JobStore, NewJob};
use super::{Checkpoint, Format, Import, ImportError, Keeper, Lane, Plan, Progress, Sink, Source};
use crate::config::ImportConfig;
use crate::publisher::Publisher;

/// Of the publisher's window a job takes at most this part: live events need not wait long behind it.
const SHARE_OF_WINDOW: usize = 4;

/// Uploads at the same time.
const UPLOADS_MAX: usize = 4;

const LOOK_INTERVAL: Duration = Duration::from_secs(2);
const NOTE_INTERVAL: Duration = Duration::from_secs(1);
const FIRST_EVENTS: usize = 3;

/// The jobs of this instance: those whose upload lies here.
pub struct Jobs {
    pub store: JobStore,
    pub spool: Spool,
    pub uploads: Semaphore,
    pub bytes_max: u64,
    added: Notify,
}

/// How far a job came now.
enum Outcome {
    Ended(Ending),
    /// It goes on later: this instance stops, or something it needs is away.
    Later(Option<String>),
}

impl Jobs {
    pub fn new(config: &ImportConfig, pool: Pool) -> Self {
        Self {
            store: JobStore::new(pool),
            spool: Spool::new(&config.import_dir),
            uploads: Semaphore::new(UPLOADS_MAX),
            bytes_max: config.import_bytes_max,
            added: Notify::new(),
        }
    }

    /// There is a new upload.
    pub fn added(&self) {
        self.added.notify_one();
    }

    /// Works on what there is, until `stop`; what is not done then goes on after the next start.
    pub async fn run(&self, publisher: &Publisher, stop: CancellationToken) -> anyhow::Result<()> {
        let mut was_well = true;
        while !stop.is_cancelled() {
            let worked = self.work(publisher, &stop).await;
            if let Err(error) = &worked
                && was_well
            {
                warn!("imports have to wait: {error:#}");
            }
            was_well = worked.is_ok();
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.added.notified() => {}
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
        Ok(())
    }

    async fn work(&self, publisher: &Publisher, stop: &CancellationToken) -> anyhow::Result<()> {
        self.spool.remove_abandoned()?;
        let mut trouble = Ok(());
        for id in self.spool.waiting()? {
            if stop.is_cancelled() || !publisher.is_reachable() {
                break;
            }
            let Some(claimed) = self.spool.claim(id)? else { continue };
            // Of another installation, if the directory is shared by mistake.
            let Some(job) = self.store.find(id).await? else { continue };
            if !matches!(job.state.as_str(), "queued" | "running") {
                self.spool.remove(id);
                continue;
            }
            // The trouble may be this job's alone.
            if let Err(error) = self.import(&claimed, publisher, stop).await {
                trouble = Err(error.context(format!("import {id}")));
            }
        }
        trouble
    }

    /// Until it is done, fails for good, or has to wait.
    async fn import(
        &self,
        claimed: &Claimed,
        publisher: &Publisher,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let (id, began) = (claimed.id, Instant::now());
        let progress = match prepare(claimed, publisher.topic()) {
            Ok(prepared) => self.import_prepared(claimed, prepared, publisher, stop).await,
            Err(error) => {
                let none = Progress::new(0, 0, 0).snapshot();
                Outcome::Ended(Ending::failed(none, format!("{error:#}")))
            }
        };
        match progress {
            Outcome::Ended(ending) => {
                self.store.end(id, &ending).await?;
                self.spool.remove(id);
                let (rows, rejected) = (ending.now.rows, ending.now.rejected);
                info!(%id, state = ending.state, rows, rejected, seconds = began.elapsed().as_secs(), "an import ended");
                Ok(())
            }
            Outcome::Later(None) => Ok(()),
            Outcome::Later(Some(reason)) => anyhow::bail!("{reason}"),
        }
    }

    async fn import_prepared(
        &self,
        claimed: &Claimed,
        (plan, keeper): (Arc<Plan>, Keeper),
        publisher: &Publisher,
        stop: &CancellationToken,
    ) -> Outcome {
        let checkpoint = keeper.checkpoint();
        let bytes = plan.source.identity.bytes;
        let progress = Arc::new(Progress::new(bytes, checkpoint.accepted, checkpoint.rejected));
        let sink = match claimed.order.is_dry_run {
            true => Sink::Nowhere { first: Vec::new(), first_max: FIRST_EVENTS },
            false => {
                Sink::Publish(Lane::new(publisher, publisher.window_bytes() / SHARE_OF_WINDOW))
            }
        };
        let import = Import { plan, sink, keeper, progress: progress.clone() };
        let mut importing = std::pin::pin!(import.run(stop));
        self.note(claimed, "running", &progress, None).await;
        let ended = loop {
            match tokio::time::timeout(NOTE_INTERVAL, &mut importing).await {
                Ok(ended) => break ended,
                Err(_elapsed) => self.note(claimed, "running", &progress, None).await,
            }
        };
        match ended {
            Ok(ended) if ended.is_complete => {
                let events = ended
                    .first_events
                    .iter()
                    .filter_map(|it| serde_json::from_str::<Value>(it).ok());
                let first_events = claimed.order.is_dry_run.then(|| events.collect::<Value>());
                Outcome::Ended(Ending::done(progress.snapshot(), &ended.keeper, first_events))
            }
            Ok(_stopped) => {
                self.note(claimed, "queued", &progress, None).await;
                Outcome::Later(None)
            }
            Err(error @ (ImportError::Read(_) | ImportError::Changed)) => {
                Outcome::Ended(Ending::failed(progress.snapshot(), with_sources(&error)))
            }
            Err(error @ (ImportError::Keep(_) | ImportError::Publish(_))) => {
                let reason = with_sources(&error);
                self.note(claimed, "queued", &progress, Some(&reason)).await;
                Outcome::Later(Some(reason))
            }
        }
    }

    /// Nothing depends on it; the end is written down whatever it takes.
    async fn note(
        &self,
        claimed: &Claimed,
        state: &str,
        progress: &Progress,
        detail: Option<&str>,
    ) {
        let noted = self.store.note(claimed.id, state, &progress.snapshot(), detail).await;
        if let Err(error) = noted {
            tracing::debug!(id = %claimed.id, "how far an import is cannot be told: {error:#}");
        }
    }
}

fn prepare(claimed: &Claimed, topic: &str) -> anyhow::Result<(Arc<Plan>, Keeper)> {
    let plan = Plan::of(Source::open(&claimed.data)?, &claimed.order.settings)?;
    let begin = Checkpoint::begin(&plan, topic, Timestamp::now());
    let path = (!claimed.order.is_dry_run).then(|| claimed.checkpoint.clone());
    let checkpoint = path.as_ref().map_or(Ok(None), |path| resumed(path, &begin))?;
    let keeper = Keeper::new(checkpoint.unwrap_or(begin), path, None)?;
    Ok((Arc::new(plan), keeper))
}

/// A checkpoint of other circumstances counts as none: ids make the repetition harmless.
fn resumed(path: &Path, begin: &Checkpoint) -> io::Result<Option<Checkpoint>> {
    let checkpoint = Checkpoint::read(path)?;
    Ok(checkpoint.filter(|checkpoint| checkpoint.difference(begin).is_none()))
}

fn with_sources(error: &ImportError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// How a file is read, for those who sent it.
pub fn reading(plan: &Plan) -> Value {
    match &plan.format {
        Format::Ndjson => json!({"format": "ndjson"}),
        Format::Csv { delimiter, columns } => {
            let columns =
                columns.iter().map(|it| json!({"column": it.name, "becomes": it.becomes}));
            json!({
                "format": "csv",
                "delimiter": char::from(*delimiter).to_string(),
                "columns": columns.collect::<Value>(),
            })
        }
    }
}
