//! Followers of the judge, each with its own ratchet: counters, rollups, relay. Whoever trails, for
//! whatever reason, is brought up by reading judged rows back: one loop for all of them.

pub mod counters;
mod read_back;
pub mod rebuild;
pub mod relay;
pub mod rollups;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::batch::{Judged, Source};
use crate::metrics::ProcessorMetrics;

/// What follows the judge. Its mark only ever moves forward.
pub trait Follower: Send {
    const NAME: &'static str;
    /// Waits this long for more batches before it applies the first.
    fn gather(&self) -> Duration;
    /// Where its own store says it stands.
    fn mark(&mut self) -> impl Future<Output = Result<i64, FollowError>> + Send;
    /// Applies consecutive ranges, the first of which begins at the mark; returns the new mark.
    fn apply(
        &mut self,
        judged: &[Arc<Judged>],
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

/// What the followers of this process may hold in memory, all sources together.
#[derive(Debug, Clone)]
pub struct Memory {
    /// Bytes of judged batches that wait.
    waiting: Arc<Semaphore>,
    /// Read-backs at a time: each holds its rows twice for a moment.
    read_backs: Arc<Semaphore>,
    waiting_max: usize,
}

impl Memory {
    pub fn new(waiting_mib_max: usize) -> Self {
        let waiting_max = waiting_mib_max << 20;
        Self {
            waiting: Arc::new(Semaphore::new(waiting_max)),
            read_backs: Arc::new(Semaphore::new(1)),
            waiting_max,
        }
    }

    /// Bytes of judged batches that wait now.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_max - self.waiting.available_permits()
    }
}

/// The judge's end of the followers of one source.
pub struct Feeds {
    feeds: Vec<mpsc::Sender<Arc<Judged>>>,
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

    /// The end of one more follower.
    pub fn feed(&mut self, source: &Arc<Source>, pool: &Pool) -> Feed {
        let (sender, batches) = mpsc::channel(Self::QUEUE);
        self.feeds.push(sender);
        Feed {
            source: source.clone(),
            pool: pool.clone(),
            batches,
            waiting: VecDeque::new(),
            judged_to: self.judged_to.subscribe(),
            read_backs: self.memory.read_backs.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// Hands a committed batch on. Never waits: what does not fit into memory is read back later.
    pub fn advance(&self, mut judged: Judged) {
        let to = judged.to;
        let size = u32::try_from(judged.size()).unwrap_or(u32::MAX);
        if let Ok(permit) = self.memory.waiting.clone().try_acquire_many_owned(size) {
            judged.permit = Some(permit);
            let judged = Arc::new(judged);
            for feed in &self.feeds {
                // A full or closed queue is no loss: the follower reads the range back.
                let _read_back_later = feed.try_send(judged.clone());
            }
        }
        self.judged_to.send_replace(to);
    }
}

/// A follower's end: the next ranges after its mark, from memory or read back.
pub struct Feed {
    source: Arc<Source>,
    pool: Pool,
    batches: mpsc::Receiver<Arc<Judged>>,
    waiting: VecDeque<Arc<Judged>>,
    judged_to: watch::Receiver<i64>,
    read_backs: Arc<Semaphore>,
    metrics: ProcessorMetrics,
}

impl Feed {
    /// Events of one application at most.
    const EVENTS_MAX: usize = 50_000;
    /// Offsets of one read-back: enough to make up for the blocks of the index it reads besides,
    /// and about 30 MiB of small events.
    const READ_BACK_STEP: i64 = 20_000;

    /// Consecutive ranges that begin at `mark`; none when the judge is gone.
    async fn next(
        &mut self,
        mark: i64,
        gather: Duration,
        follower: &str,
    ) -> Result<Option<Vec<Arc<Judged>>>, FollowError> {
        if !self.wait_past(mark).await {
            return Ok(None);
        }
        self.gather_until(Instant::now() + gather).await;
        self.forget_before(mark);
        let to = *self.judged_to.borrow();
        match self.waiting.front().map(|first| first.from) {
            Some(from) if from == mark => Ok(Some(self.take_consecutive())),
            Some(from) => self.read_back(mark, from, follower).await.map(Some),
            None => self.read_back(mark, to, follower).await.map(Some),
        }
    }

    /// Waits until the judge is past the mark. A lossy queue is no reason to wait: the watch tells.
    async fn wait_past(&mut self, mark: i64) -> bool {
        self.judged_to.wait_for(|to| *to > mark).await.is_ok()
    }

    async fn gather_until(&mut self, deadline: Instant) {
        loop {
            while let Ok(judged) = self.batches.try_recv() {
                self.waiting.push_back(judged);
            }
            let events: usize = self.waiting.iter().map(|it| it.stored.len()).sum();
            if events >= Self::EVENTS_MAX {
                return;
            }
            match timeout_at(deadline, self.batches.recv()).await {
                Ok(Some(judged)) => self.waiting.push_back(judged),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Lets go of what lies before the mark, and of the front part of what the mark lies in.
    fn forget_before(&mut self, mark: i64) {
        self.waiting.retain(|judged| judged.to > mark);
        if let Some(first) = self.waiting.front_mut()
            && first.from < mark
        {
            *first = Arc::new(first.since(mark));
        }
    }

    fn take_consecutive(&mut self) -> Vec<Arc<Judged>> {
        let mut taken: Vec<Arc<Judged>> = Vec::new();
        let mut events = 0;
        while let Some(next) = self.waiting.front() {
            let adjacent = taken.last().is_none_or(|last| last.to == next.from);
            if !adjacent || (events > 0 && events + next.stored.len() > Self::EVENTS_MAX) {
                break;
            }
            events += next.stored.len();
            taken.extend(self.waiting.pop_front());
        }
        taken
    }

    async fn read_back(
        &self,
        from: i64,
        to: i64,
        follower: &str,
    ) -> Result<Vec<Arc<Judged>>, FollowError> {
        let to = to.min(from + Self::READ_BACK_STEP);
        debug!(source = %self.source.partition, follower, from, to, "reading back");
        self.metrics.read_back_total.with_label_values(&[follower]).inc();
        let _one_at_a_time = self.read_backs.acquire().await.expect("never closed");
        let client = self.pool.get().await?;
        let judged = read_back::read(client, &self.source, from, to).await?;
        Ok(vec![Arc::new(judged)])
    }

    fn report_lag(&self, follower: &str, mark: i64) {
        let lag = (*self.judged_to.borrow() - mark).max(0);
        let partition = self.source.partition.partition.to_string();
        let labels = [follower, &self.source.partition.topic, &partition];
        self.metrics.follower_lag_offsets.with_label_values(&labels).set(lag);
    }
}

/// Drives one follower of one source until the judge is gone and everything judged is applied, or
/// until it is told to stop.
pub async fn follow<F: Follower>(
    mut follower: F,
    mut feed: Feed,
    stop: CancellationToken,
) -> Result<(), FollowError> {
    let source = feed.source.clone();
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
                warn!(source = %source.partition, "{} waits: {cause:#}", F::NAME);
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

async fn advance<F: Follower>(follower: &mut F, feed: &mut Feed) -> Result<(), FollowError> {
    let mut mark = follower.mark().await?;
    let ledger = *feed.judged_to.borrow();
    if mark > ledger {
        return Err(FollowError::Ahead { mark, ledger });
    }
    feed.report_lag(F::NAME, mark);
    while let Some(judged) = feed.next(mark, follower.gather(), F::NAME).await? {
        mark = follower.apply(&judged).await?;
        feed.report_lag(F::NAME, mark);
    }
    Ok(())
}
