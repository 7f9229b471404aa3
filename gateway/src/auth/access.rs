//! The one door: from a request's credential to its caller, or the reason why it may not.

use axum::http::request::Parts;
use common::admin::Readiness;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::credential::{self, Credential};
use super::keys::Keys;
use super::token::{Bearer, Tokens};
use super::{AuthError, Caller, KeyStore, Right};
use crate::config::AuthConfig;
use crate::metrics::GatewayMetrics;

pub struct Access {
    keys: Keys,
    tokens: Option<Tokens>,
    anonymous_writes: bool,
    metrics: GatewayMetrics,
}

impl Access {
    pub async fn connect(
        config: &AuthConfig,
        store: KeyStore,
        metrics: &GatewayMetrics,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            keys: Keys::load(store, metrics).await?,
            tokens: Tokens::connect(config).await?,
            anonymous_writes: config.allow_anonymous_write,
            metrics: metrics.clone(),
        })
    }

    /// The caller of a request that needs this right. A token without the claim `rights` may write,
    /// but only as its own `sub`: see `Caller::confined_to`.
    pub async fn authorize(&self, head: &Parts, needed: Right) -> Result<Caller, AuthError> {
        self.counted(match credential::find(head) {
            Some(credential) => self.check(credential, needed).await,
            None => Err(AuthError::Missing),
        })
    }

    /// The same for the paths on which `ALLOW_ANONYMOUS_WRITE` lets in who sends no credential. A
    /// wrong one is refused nevertheless: its owner believes to be known.
    pub async fn authorize_writer(&self, head: &Parts) -> Result<Caller, AuthError> {
        self.counted(match credential::find(head) {
            Some(credential) => self.check(credential, Right::Write).await,
            None if self.anonymous_writes => Ok(Caller::anonymous()),
            None => Err(AuthError::Missing),
        })
    }

    /// Who may follow notifications: a key that reads sees all of them, a token without that right
    /// those of its own `sub`.
    pub async fn authorize_listener(&self, head: &Parts) -> Result<Caller, AuthError> {
        self.counted(match credential::find(head) {
            Some(Credential::Token(token)) => self.bearer(token).await.and_then(Bearer::listener),
            Some(key) => self.check(key, Right::Read).await,
            None => Err(AuthError::Missing),
        })
    }

    /// For compatibility paths whose clients put the key into the body.
    pub async fn authorize_secret(&self, secret: &str, needed: Right) -> Result<Caller, AuthError> {
        self.counted(self.check(Credential::Key(secret.into()), needed).await)
    }

    pub fn store(&self) -> &KeyStore {
        self.keys.store()
    }

    /// Refuses a key from now on, which the store refuses already.
    pub fn forget(&self, key: Uuid) {
        self.keys.forget(key);
    }

    /// Whether the headers hold a credential; if not, the body of a compatibility path may, and only
    /// then the query counts.
    pub fn is_named_in(head: &Parts) -> bool {
        credential::in_headers(head).is_some()
    }

    /// Keeps what the door knows fresh until `stop`.
    pub async fn keep_fresh(
        &self,
        readiness: &Readiness,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let tokens = async {
            match &self.tokens {
                Some(tokens) => tokens.keep_fresh(readiness, stop.clone()).await,
                None => stop.cancelled().await,
            }
        };
        tokio::join!(self.keys.keep_fresh(readiness, stop.clone()), tokens).0
    }

    async fn check(&self, credential: Credential<'_>, needed: Right) -> Result<Caller, AuthError> {
        let caller = match credential {
            Credential::Key(secret) => self.keys.caller(&secret).await?,
            Credential::Token(token) => return self.bearer(token).await?.caller(needed),
        };
        if !caller.rights.includes(needed) {
            return Err(AuthError::LacksRight { needed, has: caller.rights });
        }
        Ok(caller)
    }

    async fn bearer(&self, token: &str) -> Result<Bearer, AuthError> {
        let tokens = self.tokens.as_ref().ok_or(AuthError::TokensNotConfigured)?;
        Box::pin(tokens.bearer(token)).await
    }

    fn counted(&self, checked: Result<Caller, AuthError>) -> Result<Caller, AuthError> {
        let outcome = checked.as_ref().err().map_or("allowed", |error| error.outcome());
        self.metrics.credentials_checked_total.with_label_values(&[outcome]).inc();
        checked
    }
}
