//! Tokens that were good a moment ago, by their hash: bounded, and never longer than they are valid.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use jiff::Timestamp;

use super::Bearer;

/// SHA-256 of the whole token: who would make another token of the same hash could sign one.
pub type TokenHash = [u8; 32];

const TOKENS_MAX: usize = 10_000;

/// Also how long a change of the settings of an issuer that keeps its keys may go unnoticed.
const SECONDS_MAX: f64 = 60.0;

#[derive(Default)]
pub struct Recent(RwLock<HashMap<TokenHash, Entry>>);

struct Entry {
    bearer: Bearer,
    /// Seconds since 1970.
    until: f64,
    /// The key set it was good by.
    generation: u64,
}

impl Recent {
    pub fn get(&self, token: &TokenHash, generation: u64) -> Option<Bearer> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(token)?;
        (entry.generation == generation && now() < entry.until).then(|| entry.bearer.clone())
    }

    pub fn insert(&self, token: TokenHash, bearer: Bearer, expires_at: f64, generation: u64) {
        let now = now();
        let until = expires_at.min(now + SECONDS_MAX);
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= TOKENS_MAX {
            entries.retain(|_, entry| entry.generation == generation && now < entry.until);
        }
        if entries.len() >= TOKENS_MAX {
            entries.clear(); // Checking all of them again once a minute is affordable.
        }
        entries.insert(token, Entry { bearer, until, generation });
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

fn now() -> f64 {
    Timestamp::now().as_duration().as_secs_f64()
}
