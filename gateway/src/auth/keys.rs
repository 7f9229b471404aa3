//! All keys in force, in memory: the hot path asks nobody, and Postgres may be away for a while.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use common::admin::Readiness;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::store::{self, KeyStore, SecretHash, StoredKey};
use super::{AuthError, Caller, Identity};
use crate::metrics::GatewayMetrics;

/// A revoked key is refused within 5 s: this, and the time of one query.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);

/// `last_used_at` is written once in so many refreshes.
const REFRESHES_PER_NOTE: u32 = 5;

/// How long a request waits for Postgres to tell whether its key is a new one.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(1);

/// How long the refresh waits: a server that hangs must be told from one that has nothing new.
const REFRESH_TIME_MAX: Duration = Duration::from_secs(2);

/// Look-ups at the same time: a flood of wrong keys must not take all connections.
const LOOKUPS_MAX: usize = 4;

/// Wrong keys remembered until the next refresh.
const UNKNOWN_MAX: usize = 10_000;

pub struct Keys {
    store: KeyStore,
    known: RwLock<Arc<HashMap<SecretHash, Arc<Key>>>>,
    unknown: Mutex<HashSet<SecretHash>>,
    lookups: Semaphore,
    metrics: GatewayMetrics,
}

struct Key {
    stored: StoredKey,
    /// Seconds since 1970; 0 until it is used.
    used_at: AtomicI64,
    /// What of that Postgres knows.
    noted_at: AtomicI64,
}

impl Keys {
    /// Fails unless Postgres is there: without keys nobody could do anything here.
    pub async fn load(store: KeyStore, metrics: &GatewayMetrics) -> anyhow::Result<Self> {
        store.require_current_schema().await?;
        let keys = Self {
            store,
            known: RwLock::default(),
            unknown: Mutex::default(),
            lookups: Semaphore::new(LOOKUPS_MAX),
            metrics: metrics.clone(),
        };
        keys.refresh().await.context("read the API keys")?;
        let count = keys.known().len();
        info!(count, "API keys read");
        if count == 0 {
            warn!("there is no API key; `gateway keys create --name me --rights write` makes one");
        }
        Ok(keys)
    }

    /// The caller whose secret this is. That a key is revoked, expired or never was is one answer.
    pub async fn caller(&self, secret: &str) -> Result<Caller, AuthError> {
        let key = self.find(&store::hash(secret)).await?;
        let now = Timestamp::now();
        if key.stored.expires_at.is_some_and(|at| at <= now) {
            return Err(AuthError::Unknown);
        }
        key.used_at.store(now.as_second(), Ordering::Relaxed);
        Ok(key.caller())
    }

    pub fn store(&self) -> &KeyStore {
        &self.store
    }

    /// Takes a key out at once; the other gateways find out at their next refresh.
    pub fn forget(&self, id: Uuid) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut known).retain(|_, key| key.stored.id != id);
    }

    async fn find(&self, hash: &SecretHash) -> Result<Arc<Key>, AuthError> {
        if let Some(key) = self.known().get(hash) {
            return Ok(key.clone());
        }
        if self.unknown().contains(hash) {
            return Err(AuthError::Unknown);
        }
        tokio::time::timeout(LOOKUP_TIME_MAX, Box::pin(self.look_up(hash)))
            .await
            .unwrap_or(Err(AuthError::Unavailable))
    }

    /// A key made a moment ago works at once: the cache has not seen it, Postgres has.
    async fn look_up(&self, hash: &SecretHash) -> Result<Arc<Key>, AuthError> {
        let _turn = self.lookups.acquire().await.expect("the semaphore is never closed");
        self.metrics.key_lookups_total.inc();
        match self.store.find(hash).await {
            Ok(Some(found)) => Ok(self.add(found)),
            Ok(None) => {
                let mut unknown = self.unknown();
                if unknown.len() < UNKNOWN_MAX {
                    unknown.insert(*hash);
                }
                Err(AuthError::Unknown)
            }
            Err(error) => {
                tracing::debug!("a key could not be looked up: {error:#}");
                Err(AuthError::Unavailable)
            }
        }
    }

    fn add(&self, found: StoredKey) -> Arc<Key> {
        let hash = found.hash;
        let key = Arc::new(Key::from(found));
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut known).insert(hash, key.clone());
        key
    }

    /// Reads the keys again and again, so that a revoked one is soon refused, and writes down when
    /// keys were used. While Postgres is away the known keys stay good.
    pub async fn keep_fresh(
        &self,
        readiness: &Readiness,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        readiness.report("postgres", Ok(())); // `load` was there a moment ago.
        let mut was_away = false;
        for round in 1_u32.. {
            let stopping = tokio::select! {
                () = stop.cancelled() => true,
                () = tokio::time::sleep(REFRESH_INTERVAL) => false,
            };
            let noting = stopping || round.is_multiple_of(REFRESHES_PER_NOTE);
            let state = tokio::time::timeout(REFRESH_TIME_MAX, self.synchronise(noting))
                .await
                .unwrap_or_else(|_elapsed| Err(anyhow::anyhow!("Postgres does not answer")));
            if stopping {
                break;
            }
            match &state {
                Err(error) if !was_away => warn!("the keys known so far stay in force: {error:#}"),
                Ok(()) if was_away => info!("Postgres is back, the keys are fresh again"),
                _ => {}
            }
            was_away = state.is_err();
            readiness.report("postgres", state.map_err(|error| format!("{error:#}")));
        }
        Ok(())
    }

    async fn synchronise(&self, noting: bool) -> anyhow::Result<()> {
        self.refresh().await?;
        if noting { self.note_use().await } else { Ok(()) }
    }

    async fn refresh(&self) -> anyhow::Result<()> {
        // Forgotten first: while Postgres is away, who is not known cannot be called wrong.
        self.unknown().clear();
        let stored = self.store.in_force().await?;
        let before = self.known();
        let fresh = stored.into_iter().map(|stored| {
            let hash = stored.hash;
            let same = before.get(&hash).filter(|key| key.stored == stored);
            (hash, same.cloned().unwrap_or_else(|| Arc::new(Key::from(stored))))
        });
        let fresh = Arc::new(fresh.collect());
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        self.metrics.keys_refreshed_at_seconds.set(Timestamp::now().as_second());
        Ok(())
    }

    async fn note_use(&self) -> anyhow::Result<()> {
        let used: Vec<_> = self
            .known()
            .values()
            .map(|key| (key.clone(), key.used_at.load(Ordering::Relaxed)))
            .filter(|(key, used_at)| *used_at > key.noted_at.load(Ordering::Relaxed))
            .collect();
        if used.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = used.iter().map(|(key, _)| key.stored.id).collect();
        let times = used.iter().map(|(_, at)| Timestamp::from_second(*at));
        self.store.note_use(&ids, &times.collect::<Result<Vec<_>, _>>()?).await?;
        for (key, used_at) in used {
            key.noted_at.store(used_at, Ordering::Relaxed);
        }
        Ok(())
    }

    fn known(&self) -> Arc<HashMap<SecretHash, Arc<Key>>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn unknown(&self) -> std::sync::MutexGuard<'_, HashSet<SecretHash>> {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Key {
    fn caller(&self) -> Caller {
        Caller {
            identity: Identity::Key(self.stored.origin_id),
            rights: self.stored.rights.into(),
            confined_to: None,
            limit_per_min: self.stored.limit_per_min,
        }
    }
}

impl From<StoredKey> for Key {
    fn from(stored: StoredKey) -> Self {
        let (used_at, noted_at) = (AtomicI64::new(0), AtomicI64::new(0));
        Self { stored, used_at, noted_at }
    }
}
