//! One import: read → parse, several chunks at once → publish in order → wait for the brokers → write down.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::failpoint::kill_point;
use common::kafka::{Delivery, PublishError};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::keeper::{Keeper, Reject};
use super::lane::{Lane, TURN_BYTES, Turn};
use super::parse::{FileHash, Parsed, Parser};
use super::plan::Plan;
use super::progress::Progress;
use super::rows::{Chunk, Position, RowReader};

/// What is repeated after a kill is at most what was published in this time, and in one chunk.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(200);

/// Chunks that are parsed at the same time.
const PARSERS: usize = 2;

/// Chunks that are read ahead.
const READ_AHEAD: usize = 1;

/// Turns that wait for the brokers; the window bounds their bytes before that.
const TURNS_AWAITED: usize = 256;

/// Where the events go.
pub enum Sink<'a> {
    Publish(Lane<'a>),
    /// A dry run: the first canonical events are kept to be shown.
    Nowhere {
        first: Vec<String>,
        first_max: usize,
    },
}

/// An import about to begin, or to go on from its keeper's checkpoint.
pub struct Import<'a> {
    pub plan: Arc<Plan>,
    pub sink: Sink<'a>,
    pub keeper: Keeper,
    pub progress: Arc<Progress>,
}

/// How it ended.
pub struct Ended {
    pub keeper: Keeper,
    /// False: it was stopped, and the checkpoint says where it goes on.
    pub is_complete: bool,
    /// The first canonical events of a dry run.
    pub first_events: Vec<String>,
}

/// Why it cannot go on now; the checkpoint says from where it can.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("the file could not be read to its end: {0}")]
    Read(#[source] io::Error),
    #[error("the file was changed while it was imported; import it again as it is now")]
    Changed,
    #[error("what is done could not be written down: {0}")]
    Keep(#[source] io::Error),
    #[error("Kafka did not confirm the events")]
    Publish(#[from] PublishError),
}

/// Some events on their way, and what is settled with them.
struct Awaited<'a> {
    deliveries: Vec<Delivery>,
    _turn: Option<Turn<'a>>,
    /// With the last events of a chunk.
    end: Option<(Position, Vec<Reject>)>,
}

impl Import<'_> {
    /// Ends when everything is settled, or soon after `stop`.
    pub async fn run(self, stop: &CancellationToken) -> Result<Ended, ImportError> {
        let Self { plan, mut sink, mut keeper, progress } = self;
        let checkpoint = keeper.checkpoint();
        // The threads that read and parse end with this function, however it ends.
        let ending = stop.child_token();
        let _ending = ending.clone().drop_guard();
        let hash = FileHash::new(
            checkpoint.sha256.clone(),
            plan.clone(),
            progress.clone(),
            ending.clone(),
        );
        let parser =
            Arc::new(Parser { plan: plan.clone(), started_at: checkpoint.started_at, hash });
        let chunks = read(&plan, checkpoint.position, &progress, &ending);
        let mut parsed = std::pin::pin!(parse(chunks, &parser));
        let read_all = match &mut sink {
            Sink::Nowhere { first, first_max } => {
                let mut kept = |parsed: &Parsed| keep_first(parsed, first, *first_max);
                settle_at_once(&mut parsed, &mut keeper, &progress, stop, &mut kept).await?
            }
            Sink::Publish(lane) => {
                let (sender, awaited) = mpsc::channel(TURNS_AWAITED);
                let publishing = publish(&mut parsed, lane, sender, stop);
                let settling = settle(awaited, lane, &mut keeper, &parser, &progress);
                let (published, settled) = tokio::join!(publishing, settling);
                let kept = keeper.keep(parser.hash.known()).map_err(ImportError::Keep);
                kill_point("import_kept");
                settled?;
                let read_all = published?;
                kept?;
                read_all
            }
        };
        if read_all && !plan.source.is_unchanged().map_err(ImportError::Read)? {
            return Err(ImportError::Changed);
        }
        let first_events = match sink {
            Sink::Nowhere { first, .. } => first,
            Sink::Publish(_) => Vec::new(),
        };
        Ok(Ended { keeper, is_complete: read_all, first_events })
    }
}

/// A thread that reads; it waits when nobody takes.
fn read(
    plan: &Arc<Plan>,
    from: Position,
    progress: &Arc<Progress>,
    stop: &CancellationToken,
) -> impl Stream<Item = io::Result<Chunk>> + use<> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    let (plan, progress, stop) = (plan.clone(), progress.clone(), stop.clone());
    // Ends by itself: its chunks find nobody any more when the stream is dropped.
    let _reading = spawn_blocking(move || {
        let open = || {
            let source = plan.source.read_from(from.byte, &progress.read_bytes)?;
            progress.resumed();
            Ok(RowReader::new(source, plan.cutter(), from))
        };
        let mut reader = match open() {
            Ok(reader) => reader,
            Err(error) => return drop(sender.blocking_send(Err(error))),
        };
        while let Some(chunk) = reader.chunk().transpose() {
            let is_last = chunk.is_err();
            if stop.is_cancelled() || sender.blocking_send(chunk).is_err() || is_last {
                break;
            }
        }
    });
    stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
}

fn parse(
    chunks: impl Stream<Item = io::Result<Chunk>>,
    parser: &Arc<Parser>,
) -> impl Stream<Item = io::Result<Parsed>> {
    let parsing = chunks.map(|chunk| {
        let parser = parser.clone();
        spawn_blocking(move || chunk.and_then(|chunk| parser.parse(&chunk)))
    });
    parsing.map(joined).buffered(PARSERS)
}

async fn joined<T>(task: JoinHandle<io::Result<T>>) -> io::Result<T> {
    task.await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

/// The next chunk; none at the end, and none when the import is to stop, which may be told apart by `stop`.
async fn next(
    parsed: &mut (impl Stream<Item = io::Result<Parsed>> + Unpin),
    stop: &CancellationToken,
) -> Result<Option<Parsed>, ImportError> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(None),
        next = parsed.next() => next.transpose().map_err(ImportError::Read),
    }
}

/// Queues the events in their order; says whether these were all.
async fn publish<'a>(
    parsed: &mut (impl Stream<Item = io::Result<Parsed>> + Unpin),
    lane: &'a Lane<'a>,
    awaited: mpsc::Sender<Awaited<'a>>,
    stop: &CancellationToken,
) -> Result<bool, ImportError> {
    while let Some(chunk) = next(parsed, stop).await? {
        let mut ready = &chunk.ready[..];
        let mut end = Some((chunk.end, chunk.rejects));
        loop {
            let mut bytes = 0;
            let fits = ready.iter().take_while(|it| {
                let fits = bytes < TURN_BYTES;
                bytes += Lane::cost(it.canonical.len());
                fits
            });
            let (now, later) = ready.split_at(fits.count());
            let turn = match now {
                [] => None,
                _ => {
                    Some(lane.turn(now.len(), now.iter().map(|it| it.canonical.len()).sum()).await)
                }
            };
            let mut deliveries = Vec::with_capacity(now.len());
            for it in now {
                let canonical = &chunk.canonical[it.canonical.clone()];
                deliveries.push(lane.publish(&it.event, canonical).await?);
            }
            kill_point("import_published");
            ready = later;
            let end = if ready.is_empty() { end.take() } else { None };
            let is_end = end.is_some();
            if awaited.send(Awaited { deliveries, _turn: turn, end }).await.is_err() {
                return Ok(false); // Whoever waits for the brokers has failed and says why.
            }
            if is_end {
                break;
            }
        }
    }
    Ok(!stop.is_cancelled())
}

/// Waits for the brokers, turn by turn, and writes down now and then how far they are.
async fn settle<'a>(
    mut awaited: mpsc::Receiver<Awaited<'a>>,
    lane: &Lane<'a>,
    keeper: &mut Keeper,
    parser: &Parser,
    progress: &Progress,
) -> Result<(), ImportError> {
    let mut kept_at = Instant::now();
    let mut accepted = 0;
    while let Some(Awaited { deliveries, _turn, end }) = awaited.recv().await {
        let events = deliveries.len() as u64;
        for delivery in deliveries {
            lane.delivered(delivery).await?;
        }
        accepted += events;
        progress.settled(events, 0);
        let Some((position, rejects)) = end else { continue };
        progress.settled(0, rejects.len() as u64);
        keeper.reached(position, accepted, &rejects).map_err(ImportError::Keep)?;
        accepted = 0;
        kill_point("import_settled");
        if kept_at.elapsed() >= CHECKPOINT_INTERVAL {
            tokio::task::block_in_place(|| keeper.keep(parser.hash.known()))
                .map_err(ImportError::Keep)?;
            kept_at = Instant::now();
        }
    }
    Ok(())
}

/// A dry run: everything that parses is well.
async fn settle_at_once(
    parsed: &mut (impl Stream<Item = io::Result<Parsed>> + Unpin),
    keeper: &mut Keeper,
    progress: &Progress,
    stop: &CancellationToken,
    look: &mut impl FnMut(&Parsed),
) -> Result<bool, ImportError> {
    while let Some(chunk) = next(parsed, stop).await? {
        look(&chunk);
        let (accepted, rejected) = (chunk.ready.len() as u64, chunk.rejects.len() as u64);
        progress.settled(accepted, rejected);
        keeper.reached(chunk.end, accepted, &chunk.rejects).map_err(ImportError::Keep)?;
    }
    Ok(!stop.is_cancelled())
}

fn keep_first(parsed: &Parsed, first: &mut Vec<String>, first_max: usize) {
    let missing = first_max.saturating_sub(first.len());
    first.extend(
        parsed.ready.iter().take(missing).map(|it| {
            String::from_utf8_lossy(&parsed.canonical[it.canonical.clone()]).into_owned()
        }),
    );
}
