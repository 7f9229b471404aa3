//! How far an import is, for whoever shows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Written by the import, read by whoever shows it.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    bytes: u64,
    /// Of the file as it lies there, compressed or not.
    pub(super) read_bytes: Arc<AtomicU64>,
    pub(super) hashed_bytes: Arc<AtomicU64>,
    is_hashing: AtomicBool,
    accepted: AtomicU64,
    rejected: AtomicU64,
    /// What was done before this process, so that the rate is that of this one.
    rows_before: u64,
    read_before: AtomicU64,
}

/// One look at it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    pub phase: &'static str,
    pub rows: u64,
    pub accepted: u64,
    pub rejected: u64,
    /// Rows a second.
    pub rate: u64,
    /// Seconds that are left, if the rest goes as fast.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<u64>,
    pub bytes: u64,
    pub bytes_read: u64,
}

impl Progress {
    pub fn new(bytes: u64, accepted_before: u64, rejected_before: u64) -> Self {
        Self {
            began: Instant::now(),
            bytes,
            read_bytes: Arc::default(),
            hashed_bytes: Arc::default(),
            is_hashing: AtomicBool::new(false),
            accepted: AtomicU64::new(accepted_before),
            rejected: AtomicU64::new(rejected_before),
            rows_before: accepted_before + rejected_before,
            read_before: AtomicU64::new(0),
        }
    }

    pub(super) fn hashing(&self, is: bool) {
        self.is_hashing.store(is, Ordering::Relaxed);
    }

    /// Reading begins there, where it ended before.
    pub(super) fn resumed(&self) {
        self.read_before.store(self.read_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    pub(super) fn settled(&self, accepted: u64, rejected: u64) {
        self.accepted.fetch_add(accepted, Ordering::Relaxed);
        self.rejected.fetch_add(rejected, Ordering::Relaxed);
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn snapshot(&self) -> Snapshot {
        let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let is_hashing = self.is_hashing.load(Ordering::Relaxed);
        let (accepted, rejected) = (get(&self.accepted), get(&self.rejected));
        let rows = accepted + rejected;
        let seconds = self.began.elapsed().as_secs_f64();
        let per_second = |done: u64| if seconds > 0.0 { done as f64 / seconds } else { 0.0 };
        let read = if is_hashing { get(&self.hashed_bytes) } else { get(&self.read_bytes) };
        let before = if is_hashing { 0 } else { get(&self.read_before) };
        let speed = per_second(read.saturating_sub(before));
        let left = self.bytes.saturating_sub(read) as f64;
        Snapshot {
            phase: if is_hashing { "hashing" } else { "importing" },
            rows,
            accepted,
            rejected,
            rate: per_second(rows - self.rows_before) as u64,
            eta: (speed > 0.0).then(|| (left / speed).ceil() as u64),
            bytes: self.bytes,
            bytes_read: read,
        }
    }
}
