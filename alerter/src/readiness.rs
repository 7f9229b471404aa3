//! Ready means: in the group, and every partition it gave us is restored and being watched.

use std::sync::{Arc, Mutex, PoisonError};

use common::admin::Readiness;

/// Counts the partitions that are being taken.
#[derive(Debug, Clone)]
pub struct Taking {
    readiness: Readiness,
    /// What the partitions are of.
    of: &'static str,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    being_taken: usize,
    has_joined: bool,
}

/// Lives while a partition is being taken.
pub struct Begun(Taking);

impl Taking {
    /// Not ready before the group has spoken.
    pub fn new(readiness: Readiness, of: &'static str) -> Self {
        let this = Self { readiness, of, state: Arc::default() };
        this.tell(&this.lock());
        this
    }

    /// The group has told which partitions are ours; there may be none.
    pub fn joined(&self) {
        let mut state = self.lock();
        state.has_joined = true;
        self.tell(&state);
    }

    pub fn begin(&self) -> Begun {
        let mut state = self.lock();
        state.being_taken += 1;
        self.tell(&state);
        drop(state);
        Begun(self.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, state: &State) {
        let said = match state {
            State { has_joined: false, .. } => Err("waiting for the consumer group".to_owned()),
            State { being_taken: 0, .. } => Ok(()),
            State { being_taken, .. } => Err(format!("{being_taken} are being restored")),
        };
        self.readiness.set(self.of, said);
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.being_taken -= 1;
        self.0.tell(&state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_who_has_taken_all_that_was_given() {
        let readiness = Readiness::default();
        let taking = Taking::new(readiness.clone(), "partitions");
        assert!(!readiness.is_ready());
        taking.joined();
        assert!(readiness.is_ready());
        let (first, second) = (taking.begin(), taking.begin());
        drop(first);
        assert!(!readiness.is_ready());
        drop(second);
        assert!(readiness.is_ready());
    }
}
