//! How many bytes of request bodies may be in memory at once: a full budget refuses, it never queues.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;

/// Shared by all requests; cheap to clone.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes_max: usize,
    used: AtomicUsize,
    gauge: IntGauge,
}

/// No room: the client should try again in a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the budget of bytes in flight is used up")]
pub struct Exhausted;

impl Budget {
    pub fn new(bytes_max: usize, gauge: IntGauge) -> Self {
        Self(Arc::new(Shared { bytes_max, used: AtomicUsize::new(0), gauge }))
    }

    /// Whether this many bytes would find room now: asked before a body is read.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        let used = self.0.used.load(Ordering::Relaxed);
        used + bytes.min(self.0.bytes_max) <= self.0.bytes_max
    }

    /// A share without bytes yet.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), held: 0 }
    }
}

/// What one request holds; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    held: usize,
}

impl Share {
    /// Takes more. A single request may be larger than the whole budget: it then needs all of it.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let shared = &*self.budget.0;
        let more = bytes.min(shared.bytes_max - self.held);
        let fits = |used: usize| (used + more <= shared.bytes_max).then_some(used + more);
        shared
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .map_err(|_used| Exhausted)?;
        self.held += more;
        shared.gauge.add(more as i64);
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let shared = &*self.budget.0;
        shared.used.fetch_sub(self.held, Ordering::Relaxed);
        shared.gauge.sub(self.held as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(bytes_max: usize) -> Budget {
        Budget::new(bytes_max, IntGauge::new("inflight_bytes", "bytes").unwrap())
    }

    #[test]
    fn what_is_dropped_is_free_again() {
        let budget = budget(10);
        let mut first = budget.share();
        first.grow(8).unwrap();
        assert_eq!(budget.share().grow(3), Err(Exhausted));
        drop(first);
        assert_eq!(budget.share().grow(3), Ok(()));
        assert_eq!(budget.0.gauge.get(), 0);
    }

    #[test]
    fn a_request_larger_than_the_budget_passes_alone() {
        let budget = budget(10);
        assert!(budget.has_room_for(25));
        let mut large = budget.share();
        large.grow(9).unwrap();
        large.grow(16).unwrap();
        assert!(!budget.has_room_for(1));
        assert_eq!(budget.share().grow(1), Err(Exhausted));
        drop(large);
        budget.share().grow(10).unwrap();
    }

    #[test]
    fn a_refused_share_keeps_what_it_had() {
        let budget = budget(10);
        let mut share = budget.share();
        share.grow(6).unwrap();
        let mut other = budget.share();
        other.grow(3).unwrap();
        assert_eq!(share.grow(2), Err(Exhausted));
        drop(share);
        assert!(budget.has_room_for(7));
    }
}
