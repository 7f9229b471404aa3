//! Followers of the judge, each with its own ratchet: counters, rollups, relay. Whoever trails, for
//! whatever reason, is brought up by reading judged rows back: one loop for all of them.
//!
//! Each takes only its share of a batch: what needs no whole events does not keep them in memory.

mod count;
pub mod counters;
pub mod dictionary;
mod digest;
mod entered;
pub mod folder;
mod object_counts;
mod read_back;
pub mod rebuild;
pub mod relay;
pub mod rollups;
pub mod statistics;
mod steps;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Pool, Transaction};
use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use self::digest::Digest;
use self::read_back::Stored;
use crate::batch::{Judged, Source};
use crate::lag::Lag;
use crate::metrics::ProcessorMetrics;
use crate::reminder::Reminder;

/// A committed batch, as it is handed to the followers.
pub struct Offer {
    judged: Arc<Judged>,
    digest: Arc<Digest>,
}

/// What one follower takes of a range of judged offsets.
pub trait Share: Sized + Send + Sync + 'static {
    /// Offsets of one read-back: enough to make up for what each costs besides its rows.
    const READ_BACK_STEP: i64;
    /// The judge waits this long for memory, if that is cheaper than to read back.
    const PATIENCE: Duration = Duration::ZERO;

    fn of(offer: &Offer) -> Self;

    /// The same, from the rows that Postgres holds.
    fn read(
        snapshot: &Transaction<'_>,
        range: &Stored,
    ) -> impl Future<Output = Result<Self, tokio_postgres::Error>> + Send;

    /// The first offset, and the one after the last.
    fn range(&self) -> Range<i64>;

    /// The part from an offset within the range on; none where it cannot be cut.
    fn since(&self, _offset: i64) -> Option<Self> {
        None
    }

    fn events(&self) -> usize;

    /// Bytes this holds in memory, roughly.
    fn size(&self) -> usize;

    /// The memory it is charged to.
    fn room(memory: &Memory) -> &Arc<Semaphore>;
}

/// What follows the judge. Its mark only ever moves forward.
pub trait Follower: Send {
    const NAME: &'static str;
    /// So often it reads its mark again while there is nothing to do; none where the store forgets
    /// nothing that Postgres remembers.
    const LOOKS_EVERY: Option<Duration> = None;
    type Share: Share;
    /// Waits this long for more batches before it applies the first.
    fn gather(&self) -> Duration;
    /// Where its own store says it stands.
    fn mark(&mut self) -> impl Future<Output = Result<i64, FollowError>> + Send;
    /// Applies consecutive ranges, the first of which begins at the mark; returns the new mark.
    fn apply(
        &mut self,
        shares: &[Self::Share],
    ) -> impl Future<Output = Result<i64, FollowError>> + Send;
}

/// Why a follower did not advance, by what is to be done about it.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The mark is not where it was thought to be: read it again.
    #[error("the mark has moved")]
    Moved,
    /// Wait a little and read the mark again.
    #[error("its store is unavailable")]
    Unavailable(#[source] anyhow::Error),
    /// Somebody else owns the source.
    #[error("another owner follows this source")]
    Fenced,
    /// The mark is ahead of the judge: Postgres has lost a tail.
    #[error("the mark {mark} is ahead of the ledger {ledger}")]
    Ahead { mark: i64, ledger: i64 },
}

impl From<tokio_postgres::Error> for FollowError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Unavailable(error.into())
    }
}

impl From<deadpool_postgres::PoolError> for FollowError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        Self::Unavailable(error.into())
    }
}

/// What the followers of this process may hold in memory, all sources together, in bytes.
#[derive(Debug, Clone)]
pub struct Memory {
    /// For whole batches.
    batches: Arc<Semaphore>,
    /// For digests: they have a part of their own, or a relay that trails would slow them too.
    digests: Arc<Semaphore>,
    /// Read-backs at a time: each holds its rows twice for a moment.
    read_backs: Arc<Semaphore>,
    bytes_max: usize,
}

impl Memory {
    pub fn new(mib_max: usize) -> Self {
        let bytes_max = mib_max << 20;
        let digests = bytes_max / 2;
        Self {
            batches: Arc::new(Semaphore::new(bytes_max - digests)),
            digests: Arc::new(Semaphore::new(digests)),
            read_backs: Arc::new(Semaphore::new(1)),
            bytes_max,
        }
    }

    /// Bytes that wait now.
    pub fn waiting_bytes(&self) -> usize {
        self.bytes_max - self.batches.available_permits() - self.digests.available_permits()
    }
}

/// A share that waits, and the memory it is charged with.
struct Held<S> {
    share: S,
    permit: OwnedSemaphorePermit,
}

/// Consecutive shares for one application; in memory until it is done.
struct Taken<S> {
    shares: Vec<S>,
    _permits: Vec<OwnedSemaphorePermit>,
}

/// Gives one follower its share of a batch.
type HandOver = Box<dyn Fn(&Offer) -> BoxFuture<'static, ()> + Send + Sync>;

/// The judge's end of the followers of one source.
pub struct Feeds {
    feeds: Vec<HandOver>,
    judged_to: watch::Sender<i64>,
    memory: Memory,
    metrics: ProcessorMetrics,
}

impl Feeds {
    /// Batches a follower may have waiting; beyond it they are read back.
    const QUEUE: usize = 64;

    pub fn new(ledger: i64, memory: Memory, metrics: ProcessorMetrics) -> Self {
        Self { feeds: Vec::new(), judged_to: watch::Sender::new(ledger), memory, metrics }
    }

    /// Where the judge stands.
    pub fn judged_to(&self) -> watch::Receiver<i64> {
        self.judged_to.subscribe()
    }

    /// The end of one more follower.
    pub fn feed<S: Share>(&mut self, source: &Arc<Source>, pool: &Pool) -> Feed<S> {
        let (sender, shares) = mpsc::channel(Self::QUEUE);
        let room = S::room(&self.memory).clone();
        self.feeds.push(Box::new(move |offer| {
            let share = S::of(offer);
            let (room, sender) = (room.clone(), sender.clone());
            Box::pin(async move {
                let size = u32::try_from(share.size()).unwrap_or(u32::MAX);
                // What does not fit, and a full or closed queue, is no loss: it is read back later.
                if let Some(permit) = acquire(room, size, S::PATIENCE).await {
                    let _read_back_later = sender.try_send(Held { share, permit });
                }
            })
        }));
        Feed {
            source: source.clone(),
            pool: pool.clone(),
            shares,
            waiting: VecDeque::new(),
            judged_to: self.judged_to.subscribe(),
            told: None,
            read_backs: self.memory.read_backs.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// Hands a committed batch on. Waits a little at most: what does not fit into memory is read back
    /// later.
    pub async fn advance(&self, judged: Judged) {
        let to = judged.to;
        let offer = Offer { digest: Arc::new(Digest::of(&judged)), judged: Arc::new(judged) };
        for feed in &self.feeds {
            feed(&offer).await;
        }
        self.judged_to.send_replace(to);
    }
}

async fn acquire(
    room: Arc<Semaphore>,
    size: u32,
    patience: Duration,
) -> Option<OwnedSemaphorePermit> {
    match room.clone().try_acquire_many_owned(size) {
        Ok(permit) => Some(permit),
        Err(_) if patience.is_zero() => None,
        Err(_) => timeout(patience, room.acquire_many_owned(size)).await.ok()?.ok(),
    }
}

/// A follower's end: the next ranges after its mark, from memory or read back.
pub struct Feed<S> {
    source: Arc<Source>,
    pool: Pool,
    shares: mpsc::Receiver<Held<S>>,
    waiting: VecDeque<Held<S>>,
    judged_to: watch::Receiver<i64>,
    /// The mark that was told last, and where it is told.
    told: Option<(i64, Lag)>,
    read_backs: Arc<Semaphore>,
    metrics: ProcessorMetrics,
}

impl<S: Share> Feed<S> {
    /// Events of one application at most.
    const EVENTS_MAX: usize = 50_000;

    /// Consecutive shares that begin at `mark`; none when the judge is gone.
    async fn next<F: Follower<Share = S>>(
        &mut self,
        mark: i64,
        gather: Duration,
    ) -> Result<Option<Taken<S>>, FollowError> {
        if !self.wait_past(mark, F::LOOKS_EVERY).await? {
            return Ok(None);
        }
        self.gather_until(Instant::now() + gather).await;
        self.forget_before(mark);
        let judged_to = *self.judged_to.borrow();
        let to = match self.waiting.front().map(|first| first.share.range().start) {
            Some(from) if from == mark => return Ok(Some(self.take_consecutive())),
            Some(from) => from,
            None => judged_to,
        };
        let share = self.read_back(mark, to, F::NAME).await?;
        Ok(Some(Taken { shares: vec![share], _permits: Vec::new() }))
    }

    /// Waits until the judge is past the mark. A lossy queue is no reason to wait: the watch tells.
    async fn wait_past(
        &mut self,
        mark: i64,
        at_most: Option<Duration>,
    ) -> Result<bool, FollowError> {
        let past = self.judged_to.wait_for(|to| *to > mark);
        let seen = match at_most {
            Some(at_most) => timeout(at_most, past).await.map_err(|_| FollowError::Moved)?,
            None => past.await,
        };
        Ok(seen.is_ok())
    }

    async fn gather_until(&mut self, deadline: Instant) {
        loop {
            while let Ok(held) = self.shares.try_recv() {
                self.waiting.push_back(held);
            }
            let events: usize = self.waiting.iter().map(|it| it.share.events()).sum();
            if events >= Self::EVENTS_MAX {
                return;
            }
            match timeout_at(deadline, self.shares.recv()).await {
                Ok(Some(held)) => self.waiting.push_back(held),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Lets go of what lies before the mark, and of the front part of what the mark lies in.
    fn forget_before(&mut self, mark: i64) {
        self.waiting.retain(|held| held.share.range().end > mark);
        if let Some(first) = self.waiting.pop_front_if(|it| it.share.range().start < mark)
            && let Some(share) = first.share.since(mark)
        {
            self.waiting.push_front(Held { share, permit: first.permit });
        }
    }

    fn take_consecutive(&mut self) -> Taken<S> {
        let (mut shares, mut permits): (Vec<S>, Vec<_>) = Default::default();
        let mut events = 0;
        while let Some(Held { share, permit }) = self.waiting.pop_front() {
            let adjacent = shares.last().is_none_or(|last| last.range().end == share.range().start);
            if !adjacent || (events > 0 && events + share.events() > Self::EVENTS_MAX) {
                self.waiting.push_front(Held { share, permit });
                break;
            }
            events += share.events();
            shares.push(share);
            permits.push(permit);
        }
        Taken { shares, _permits: permits }
    }

    async fn read_back(&self, from: i64, to: i64, follower: &str) -> Result<S, FollowError> {
        let to = to.min(from + S::READ_BACK_STEP);
        debug!(source = %self.source.partition, follower, from, to, "reading back");
        self.metrics.read_back_total.with_label_values(&[follower]).inc();
        let _one_at_a_time = self.read_backs.acquire().await.expect("never closed");
        let client = self.pool.get().await?;
        read_back::read(client, &self.source, from, to).await
    }

    fn report_lag(&mut self, follower: &str, mark: i64) {
        let offsets = *self.judged_to.borrow() - mark;
        let (told, lag) = self.told.get_or_insert_with(|| {
            let partition = self.source.partition.partition.to_string();
            let labels = [follower, &self.source.partition.topic, &partition];
            (mark, Lag::new(&self.metrics.follower_lag_offsets, &labels))
        });
        *told = mark;
        lag.set(offsets);
    }
}

/// Drives one follower of one source until the judge is gone and everything judged is applied, or
/// until it is told to stop.
pub async fn follow<F: Follower>(
    mut follower: F,
    mut feed: Feed<F::Share>,
    stop: CancellationToken,
) -> Result<(), FollowError> {
    let source = feed.source.clone();
    let mut reminder = Reminder::default();
    loop {
        let ended = tokio::select! {
            ended = advance(&mut follower, &mut feed) => ended,
            () = stop.cancelled() => return Ok(()),
        };
        match ended {
            Ok(()) => return Ok(()),
            Err(FollowError::Moved) => {
                debug!(source = %source.partition, "{} reads its mark again", F::NAME);
            }
            Err(FollowError::Unavailable(cause)) => {
                if reminder.is_due(std::time::Instant::now()) {
                    warn!(source = %source.partition, "{} waits: {cause:#}", F::NAME);
                }
                // The judge goes on meanwhile: the lag must be seen to grow.
                if let Some((mark, _)) = feed.told {
                    feed.report_lag(F::NAME, mark);
                }
                sleep(Duration::from_millis(500)).await;
            }
            Err(FollowError::Fenced) => {
                info!(source = %source.partition, "{} has another owner", F::NAME);
                return Err(FollowError::Fenced);
            }
            Err(FollowError::Ahead { mark, ledger }) => {
                error!(source = %source.partition, mark, ledger, "{} is ahead of Postgres", F::NAME);
                return Err(FollowError::Ahead { mark, ledger });
            }
        }
    }
}

async fn advance<F: Follower>(
    follower: &mut F,
    feed: &mut Feed<F::Share>,
) -> Result<(), FollowError> {
    let mut mark = follower.mark().await?;
    let ledger = *feed.judged_to.borrow();
    if mark > ledger {
        return Err(FollowError::Ahead { mark, ledger });
    }
    feed.report_lag(F::NAME, mark);
    while let Some(taken) = feed.next::<F>(mark, follower.gather()).await? {
        mark = follower.apply(&taken.shares).await?;
        feed.report_lag(F::NAME, mark);
    }
    Ok(())
}
