//! The issuer's key set, held in memory: fetched again from time to time and when a key is missing.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use axum::body::Bytes;
use common::admin::Readiness;
use http_body_util::{BodyExt, Limited};
use reqwest::redirect::Policy;
use reqwest::{Body, Client, StatusCode, Url, header};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::keyset::KeySet;
use crate::auth::AuthError;

/// From the connection to the last byte.
const FETCH_TIME_MAX: Duration = Duration::from_secs(3);

/// Tokens with invented key ids make us ask the issuer no more often than this.
const DEMAND_INTERVAL_MIN: Duration = Duration::from_secs(5);

/// While the set could not be fetched, it is tried again this soon.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

const DOCUMENT_BYTES_MAX: usize = 256 << 10;

pub struct Jwks {
    issuer: Issuer,
    refresh_interval: Duration,
    keys: RwLock<Arc<KeySet>>,
    /// Who fetches holds it; the others wait and find what was fetched.
    fetches: Mutex<Fetches>,
}

#[derive(Default)]
struct Fetches {
    demanded_at: Option<Instant>,
    /// What the keys in force were read from.
    document: Bytes,
    failed: bool,
}

impl Jwks {
    /// The issuer may be away: until it answers, nobody's token can be called good or bad.
    pub async fn open(url: &str, refresh_interval: Duration) -> anyhow::Result<Self> {
        let jwks = Self {
            issuer: Issuer::new(url)?,
            refresh_interval,
            keys: RwLock::default(),
            fetches: Mutex::default(),
        };
        match jwks.fetch(&mut *jwks.fetches.lock().await).await {
            Ok(()) => info!(url, keys = jwks.keys().len(), "keys for tokens read"),
            Err(error) => warn!(url, "no keys for tokens yet: {error:#}"),
        }
        Ok(jwks)
    }

    pub fn keys(&self) -> Arc<KeySet> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Because `known` lacks a key. The set in force, perhaps still the same; an error when it is
    /// not known whether the issuer has a newer one.
    pub async fn fetch_again(&self, known: &Arc<KeySet>) -> Result<Arc<KeySet>, AuthError> {
        let mut fetches = self.fetches.lock().await;
        let has_changed = !Arc::ptr_eq(known, &self.keys());
        let is_early = fetches.demanded_at.is_some_and(|at| at.elapsed() < DEMAND_INTERVAL_MIN);
        if !has_changed && !is_early {
            fetches.demanded_at = Some(Instant::now());
            if let Err(error) = self.fetch(&mut fetches).await {
                warn!("the keys for tokens could not be fetched: {error:#}");
            }
        }
        if fetches.failed { Err(AuthError::Unavailable) } else { Ok(self.keys()) }
    }

    /// Until `stop`. While the issuer is away the keys known so far stay good.
    pub async fn keep_fresh(&self, readiness: &Readiness, stop: CancellationToken) {
        let mut was_away = self.fetches.lock().await.failed;
        loop {
            let state = if was_away { Err("the key set cannot be fetched".into()) } else { Ok(()) };
            readiness.report("jwks", state);
            let pause = if was_away {
                RETRY_INTERVAL.min(self.refresh_interval)
            } else {
                self.refresh_interval
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            match self.fetch(&mut *self.fetches.lock().await).await {
                Ok(()) if was_away => {
                    info!("the issuer of tokens is back, its keys are fresh again");
                }
                Err(error) if !was_away => {
                    warn!("the keys for tokens known so far stay: {error:#}");
                }
                _ => {}
            }
            was_away = self.fetches.lock().await.failed;
        }
    }

    async fn fetch(&self, fetches: &mut Fetches) -> anyhow::Result<()> {
        let got = self.issuer.get().await;
        let fetched = got.and_then(|document| self.put_in_force(document, fetches));
        fetches.failed = fetched.is_err();
        fetched
    }

    fn put_in_force(&self, document: Bytes, fetches: &mut Fetches) -> anyhow::Result<()> {
        if document == fetches.document {
            return Ok(());
        }
        let fresh = KeySet::read(&document, self.keys().generation + 1)?;
        if fresh.len() == 0 {
            warn!("the key set has no RS256, ES256 or EdDSA key: its tokens are refused");
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        fetches.document = document;
        Ok(())
    }
}

/// Where the set is published.
struct Issuer {
    url: Url,
    client: Client,
}

impl Issuer {
    fn new(url: &str) -> anyhow::Result<Self> {
        let url: Url = url.parse().context("this is no URL")?;
        ensure!(url.has_host(), "the URL has no host; https://issuer.example/jwks.json has");
        // Plain HTTP is for a private network, or this machine.
        ensure!(
            matches!(url.scheme(), "https" | "http"),
            "the URL begins with {}; it must be https or http",
            url.scheme()
        );
        let client = Client::builder()
            // They could lead away from HTTPS.
            .redirect(Policy::none())
            .timeout(FETCH_TIME_MAX)
            .build()
            .context("read the system's root certificates")?;
        Ok(Self { url, client })
    }

    async fn get(&self) -> anyhow::Result<Bytes> {
        let request = self.client.get(self.url.clone()).header(header::ACCEPT, "application/json");
        let response = request.send().await.context("ask for the key set")?;
        let status = response.status();
        ensure!(status == StatusCode::OK, "the key set was answered with {status}");
        let body = Limited::new(Body::from(response), DOCUMENT_BYTES_MAX).collect().await;
        Ok(body.map_err(|error| anyhow::anyhow!(error)).context("read the key set")?.to_bytes())
    }
}
