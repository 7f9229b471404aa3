//! One batch, all the way: the steps, in order.

use std::sync::Arc;
use std::time::Instant;

use common::kafka::RecordBatch;
use jiff::Timestamp;

use crate::batch::{Batch, Source};
use crate::dedup::{Dedup, Novelty};
use crate::follow::Feeds;
use crate::judge::{Judge, JudgeError};
use crate::metrics::ProcessorMetrics;

/// The way of one source's batches.
pub struct Pipeline {
    pub source: Arc<Source>,
    /// Event keys are hashed with it.
    pub seed: u64,
    pub dedup: Arc<Dedup>,
    pub judge: Judge,
    pub feeds: Feeds,
    pub metrics: ProcessorMetrics,
}

impl Pipeline {
    /// Reads what the records say; each is counted here, once, at receipt.
    pub fn receive(&self, records: RecordBatch) -> Batch {
        let batch = Batch::decode(records, &self.source, self.seed, Timestamp::now());
        self.metrics.events_consumed_total.inc_by(batch.consumed as u64);
        self.metrics.offsets_skipped_total.inc_by(batch.skipped().unsigned_abs());
        let tier = self.metrics.duplicates_total.with_label_values(&["batch"]);
        tier.inc_by(batch.copies.len() as u64);
        batch
    }

    /// Takes one batch all the way. Only the middle line decides; stop before or after any line
    /// and start again with the same batch: nothing is lost, nothing is counted twice.
    pub async fn process(&mut self, batch: &mut Batch) -> Result<(), JudgeError> {
        let started = Instant::now();
        let novelty = match self.judge.is_in_doubt() {
            // Perhaps Postgres holds this very batch: its own rows must not pass for duplicates.
            true => Novelty::Doubtful,
            false => self.dedup.drop_seen(batch).await, // may only drop what Postgres holds
        };
        let verdict = self.judge.commit(batch, novelty).await?; // ledger, keys, rows, dead letters: one transaction
        self.dedup.learn(verdict.judged.generation, &verdict.known); // a marker only after the commit
        self.feeds.advance(verdict.judged).await; // counters, rollups, relay: each at its own ratchet
        self.metrics.batch_seconds.observe(started.elapsed().as_secs_f64());
        Ok(())
    }
}
