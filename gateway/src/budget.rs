//! How many bytes of request bodies may be in memory at once: a full budget refuses, it never queues.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;

/// Shared by all requests; cheap to clone.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    all: Room,
    /// Of it, what bodies may take whose sender they alone can name: until that is known anybody may
    /// have sent them, and slowly.
    strangers: Room,
    gauge: IntGauge,
}

/// The strangers' part of all.
const STRANGERS_PART: usize = 2;

/// No room: the client should try again in a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the budget of bytes in flight is used up")]
pub struct Exhausted;

/// Bytes of which each holder gives back what it took.
#[derive(Debug)]
struct Room {
    bytes_max: usize,
    used: AtomicUsize,
}

impl Room {
    fn of(bytes_max: usize) -> Self {
        Self { bytes_max, used: AtomicUsize::new(0) }
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        let used = self.used.load(Ordering::Relaxed);
        used + bytes.min(self.bytes_max) <= self.bytes_max
    }

    /// Who holds some takes more; says how much of it counts. One alone may be larger than all: it
    /// then needs all of it.
    fn take(&self, held: usize, bytes: usize) -> Result<usize, Exhausted> {
        let more = bytes.min(self.bytes_max - held);
        let fits = |used: usize| (used + more <= self.bytes_max).then_some(used + more);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map(|_| more).map_err(|_used| Exhausted)
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Budget {
    pub fn new(bytes_max: usize, gauge: IntGauge) -> Self {
        let (all, strangers) = (Room::of(bytes_max), Room::of(bytes_max / STRANGERS_PART));
        Self(Arc::new(Shared { all, strangers, gauge }))
    }

    /// A share without bytes yet.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), held: 0, held_as_stranger: None }
    }

    /// That of one who is not known yet.
    pub fn share_of_stranger(&self) -> Share {
        Share { budget: self.clone(), held: 0, held_as_stranger: Some(0) }
    }
}

/// What one request holds; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    held: usize,
    held_as_stranger: Option<usize>,
}

impl Share {
    /// Whether this many bytes would find room now: asked before a body is read.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        let shared = &*self.budget.0;
        shared.all.has_room_for(bytes)
            && (self.held_as_stranger.is_none() || shared.strangers.has_room_for(bytes))
    }

    /// Takes more.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let shared = &*self.budget.0;
        let more = shared.all.take(self.held, bytes)?;
        if let Some(held) = &mut self.held_as_stranger {
            match shared.strangers.take(*held, bytes) {
                Ok(more) => *held += more,
                Err(exhausted) => {
                    shared.all.give_back(more);
                    return Err(exhausted);
                }
            }
        }
        self.held += more;
        shared.gauge.add(more as i64);
        Ok(())
    }

    /// From now on it is known whose it is.
    pub fn introduce(&mut self) {
        let held = self.held_as_stranger.take().unwrap_or_default();
        self.budget.0.strangers.give_back(held);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.introduce();
        let shared = &*self.budget.0;
        shared.all.give_back(self.held);
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
        assert!(budget.share().has_room_for(25));
        let mut large = budget.share();
        large.grow(9).unwrap();
        large.grow(16).unwrap();
        assert!(!budget.share().has_room_for(1));
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
        assert!(budget.share().has_room_for(7));
    }

    #[test]
    fn strangers_leave_room_for_others_and_are_none_once_they_are_known() {
        let budget = budget(40);
        let mut slow = budget.share_of_stranger();
        slow.grow(18).unwrap();
        let mut second = budget.share_of_stranger();
        assert!(!second.has_room_for(3) && second.has_room_for(2));
        assert_eq!(second.grow(3), Err(Exhausted));
        assert_eq!(budget.0.all.used.load(Ordering::Relaxed), 18, "nothing is held of what failed");
        budget.share().grow(22).unwrap();
        slow.introduce();
        second.grow(20).unwrap();
        drop((slow, second));
        assert!(budget.share_of_stranger().has_room_for(40));
    }
}
