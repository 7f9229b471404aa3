//! What one instance holds of a subject's budget in the current window (pure).

use std::time::{Duration, Instant};

/// How long a window is; it begins with the first request in it.
pub const WINDOW: Duration = Duration::from_secs(60);

/// A lease is this part of the budget: so much may lie unused with an instance at most.
const LEASES_PER_BUDGET: u32 = 10;

/// Units this instance may still spend without asking anybody.
#[derive(Debug)]
pub struct Lease {
    budget: u32,
    ends: Instant,
    left: u32,
    /// What nobody had leased yet when we last asked in this window; more it is not since then.
    unleased: Option<u32>,
    /// What this instance got in this window, by whatever way.
    received: u32,
    /// The part of that Redis does not know of.
    unreported: u32,
}

/// What became of a request for units.
#[derive(Debug, PartialEq, Eq)]
pub enum Take {
    Taken(Standing),
    Refused(Standing),
    /// Nobody can say without asking.
    Ask(Request),
}

/// How a subject stands: what the headers of an answer tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub budget: u32,
    pub remaining: u32,
    pub resets_in: Duration,
}

/// What is asked of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub budget: u32,
    pub needed: u32,
    pub wanted: u32,
    pub unreported: u32,
    /// Whether this is the first lease of a window.
    pub is_first: bool,
}

/// What Redis answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    pub granted: u32,
    pub unleased: u32,
    pub ends_in: Duration,
}

impl Lease {
    /// Of a subject that nothing is known of.
    pub fn new(now: Instant) -> Self {
        Self { budget: 0, ends: now, left: 0, unleased: None, received: 0, unreported: 0 }
    }

    /// Takes all of the units or none.
    pub fn take(&mut self, now: Instant, budget: u32, units: u32) -> Take {
        if now >= self.ends || budget != self.budget {
            *self = Self { budget, ..Self::new(now) };
        }
        if self.left >= units {
            self.left -= units;
            return Take::Taken(self.standing(now));
        }
        let needed = units - self.left;
        if self.unleased.is_some_and(|unleased| unleased < needed) {
            return Take::Refused(self.standing(now));
        }
        let wanted = (budget / LEASES_PER_BUDGET).max(1);
        let is_first = self.unleased.is_none();
        Take::Ask(Request { budget, needed, wanted, unreported: self.unreported, is_first })
    }

    /// Enters what Redis granted; then the request that made us ask has its answer.
    pub fn enter(&mut self, asked_at: Instant, grant: Grant) {
        self.ends = asked_at + grant.ends_in;
        self.left += grant.granted;
        self.received += grant.granted;
        self.unleased = Some(grant.unleased);
        self.unreported = 0;
    }

    /// Redis is away: this instance goes by the whole budget, less what it had in this window.
    pub fn enter_unasked(&mut self, now: Instant, request: Request) {
        if now >= self.ends {
            self.ends = now + WINDOW;
        }
        let available = self.budget.saturating_sub(self.received);
        let granted = if available < request.needed {
            0
        } else {
            request.needed.max(request.wanted).min(available)
        };
        self.left += granted;
        self.received += granted;
        self.unreported += granted;
        self.unleased = Some(available - granted);
    }

    /// Whether it is known that nothing is left, here or elsewhere.
    pub fn is_exhausted(&self, now: Instant, budget: u32) -> bool {
        now < self.ends && budget == self.budget && self.left == 0 && self.unleased == Some(0)
    }

    fn standing(&self, now: Instant) -> Standing {
        Standing {
            budget: self.budget,
            remaining: self.left + self.unleased.unwrap_or(0),
            resets_in: self.ends.saturating_duration_since(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(lease: &mut Lease, now: Instant, budget: u32, units: u32) -> Request {
        match lease.take(now, budget, units) {
            Take::Ask(request) => request,
            other => panic!("{other:?}"),
        }
    }

    fn is_taken(lease: &mut Lease, now: Instant, budget: u32, units: u32) -> bool {
        matches!(lease.take(now, budget, units), Take::Taken(_))
    }

    #[test]
    fn a_lease_is_spent_before_anybody_is_asked_again() {
        let now = Instant::now();
        let mut lease = Lease::new(now);
        let request = ask(&mut lease, now, 100, 1);
        assert_eq!((request.needed, request.wanted, request.is_first), (1, 10, true));
        lease.enter(now, Grant { granted: 3, unleased: 97, ends_in: WINDOW });
        for remaining in [99, 98, 97] {
            let Take::Taken(standing) = lease.take(now, 100, 1) else { panic!("there is a lease") };
            assert_eq!((standing.remaining, standing.resets_in), (remaining, WINDOW));
        }
        assert!(!ask(&mut lease, now, 100, 1).is_first);
    }

    #[test]
    fn what_nobody_has_left_is_refused_without_asking_until_the_window_ends() {
        let now = Instant::now();
        let mut lease = Lease::new(now);
        ask(&mut lease, now, 10, 1);
        lease.enter(now, Grant { granted: 2, unleased: 1, ends_in: WINDOW });
        assert!(matches!(lease.take(now, 10, 4), Take::Refused(_)), "more than is left anywhere");
        assert_eq!(ask(&mut lease, now, 10, 3).needed, 1, "what it holds counts");
        assert!(is_taken(&mut lease, now, 10, 2), "a refusal takes nothing");
        lease.enter(now, Grant { granted: 0, unleased: 0, ends_in: WINDOW });
        let Take::Refused(standing) = lease.take(now, 10, 1) else { panic!("nothing is left") };
        assert_eq!((standing.remaining, standing.resets_in), (0, WINDOW));
        assert!(ask(&mut lease, now + WINDOW, 10, 1).is_first);
    }

    #[test]
    fn without_redis_the_whole_budget_counts_less_what_was_had() {
        let now = Instant::now();
        let mut lease = Lease::new(now);
        ask(&mut lease, now, 20, 1);
        lease.enter(now, Grant { granted: 5, unleased: 3, ends_in: WINDOW });
        assert!(is_taken(&mut lease, now, 20, 5));
        let mut taken = 0;
        loop {
            match lease.take(now, 20, 1) {
                Take::Taken(_) => taken += 1,
                Take::Ask(request) => lease.enter_unasked(now, request),
                Take::Refused(_) => break,
            }
        }
        assert_eq!(taken, 15);
    }

    #[test]
    fn what_was_spent_without_redis_is_reported_to_it() {
        let now = Instant::now();
        let mut lease = Lease::new(now);
        let request = ask(&mut lease, now, 20, 4);
        lease.enter_unasked(now, request);
        assert!(is_taken(&mut lease, now, 20, 4));
        assert_eq!(ask(&mut lease, now, 20, 1).unreported, 4);
        lease.enter(now, Grant { granted: 1, unleased: 15, ends_in: WINDOW });
        assert!(is_taken(&mut lease, now, 20, 1));
        assert_eq!(ask(&mut lease, now, 20, 1).unreported, 0);
    }

    #[test]
    fn another_budget_is_asked_for_anew() {
        let now = Instant::now();
        let mut lease = Lease::new(now);
        ask(&mut lease, now, 2, 1);
        lease.enter(now, Grant { granted: 0, unleased: 0, ends_in: WINDOW });
        assert!(matches!(lease.take(now, 2, 1), Take::Refused(_)));
        assert_eq!(ask(&mut lease, now, 20, 1).budget, 20);
    }
}
