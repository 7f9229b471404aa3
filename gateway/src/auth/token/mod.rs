//! JWTs: whose a token is and what it grants, once its signature, its time and its addressee are right.

mod claims;
mod jwks;
mod keyset;
mod recent;
mod signature;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use anyhow::{Context, ensure};
use common::admin::Readiness;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub use self::claims::Bearer;
use self::claims::Claims;
use self::jwks::Jwks;
use self::keyset::KeySet;
use self::recent::Recent;
use super::AuthError;
use crate::config::AuthConfig;

/// RFC 7518: a key for HS256 is as long as its hash. A shorter one is guessed from a single token.
const SECRET_BYTES_MIN: usize = 32;

pub struct Tokens {
    secret: Option<DecodingKey>,
    jwks: Option<Jwks>,
    rules: Validation,
    recent: Recent,
}

impl Tokens {
    /// `None` when no setting says how tokens are checked.
    pub async fn connect(config: &AuthConfig) -> anyhow::Result<Option<Self>> {
        let secret = config.jwt_secret.as_ref().map(|it| it.reveal()).filter(|it| !it.is_empty());
        let url = config.jwt_jwks_url.as_deref().filter(|it| !it.is_empty());
        if secret.is_none() && url.is_none() {
            return Ok(None);
        }
        ensure!(
            secret.is_none_or(|it| it.len() >= SECRET_BYTES_MIN),
            "JWT_SECRET has less than {SECRET_BYTES_MIN} bytes, so it could be guessed from a token; \
             `openssl rand -hex 32` makes a good one"
        );
        ensure!(
            secret.is_none_or(|it| !it.starts_with("change-me")),
            "JWT_SECRET is that of .env.example, by which anybody can sign what they like; \
             `openssl rand -hex 32` makes one of your own"
        );
        let jwks = match url {
            Some(url) => {
                Some(Jwks::open(url, config.jwks_refresh()).await.context("JWT_JWKS_URL")?)
            }
            None => None,
        };
        Ok(Some(Self::new(secret, jwks, config)))
    }

    fn new(secret: Option<&str>, jwks: Option<Jwks>, config: &AuthConfig) -> Self {
        signature::install();
        let secret = secret.map(|it| DecodingKey::from_secret(it.as_bytes()));
        Self { secret, jwks, rules: rules(config), recent: Recent::default() }
    }

    /// Whose token this is. One that was good a moment ago is not checked again: a signature costs
    /// more than the rest of the request.
    pub async fn bearer(&self, token: &str) -> Result<Bearer, AuthError> {
        let hash = Sha256::digest(token).into();
        let generation = self.jwks.as_ref().map_or(0, |jwks| jwks.keys().generation);
        if let Some(bearer) = self.recent.get(&hash, generation) {
            return Ok(bearer);
        }
        let claims = self.verified(token).await?;
        let bearer = Bearer::new(&claims, &hash);
        self.recent.insert(hash, bearer.clone(), claims.exp, generation);
        Ok(bearer)
    }

    async fn verified(&self, token: &str) -> Result<Claims, AuthError> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| reaction(&error))?;
        if header.crit.is_some() {
            return Err(AuthError::InvalidToken); // It demands what we do not know (RFC 7515, 4.1.11).
        }
        // The token only chooses among the keys; what each may be used for, the key itself says.
        match (header.alg, &self.secret, &self.jwks) {
            (Algorithm::HS256, Some(secret), _) => self.decode(token, Algorithm::HS256, secret),
            (Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA, _, Some(jwks)) => {
                self.verified_by(jwks, token, &header).await
            }
            _ => Err(AuthError::InvalidToken),
        }
    }

    async fn verified_by(
        &self,
        jwks: &Jwks,
        token: &str,
        header: &Header,
    ) -> Result<Claims, AuthError> {
        let known = jwks.keys();
        let refused = match self.decode_by(&known, token, header) {
            Err(AuthError::InvalidToken) if !known.knows(header.kid.as_deref()) => {
                AuthError::InvalidToken
            }
            decided => return decided,
        };
        let fresh = jwks.fetch_again(&known).await?;
        if Arc::ptr_eq(&known, &fresh) {
            return Err(refused);
        }
        self.decode_by(&fresh, token, header)
    }

    /// By the keys of this id and this algorithm; without an id, by all of the algorithm.
    fn decode_by(&self, keys: &KeySet, token: &str, header: &Header) -> Result<Claims, AuthError> {
        for key in keys.candidates(header.kid.as_deref(), header.alg) {
            match self.decode(token, key.algorithm, &key.key) {
                Err(AuthError::InvalidToken) => {}
                decided => return decided,
            }
        }
        Err(AuthError::InvalidToken)
    }

    fn decode(
        &self,
        token: &str,
        algorithm: Algorithm,
        key: &DecodingKey,
    ) -> Result<Claims, AuthError> {
        let rules = Validation { algorithms: vec![algorithm], ..self.rules.clone() };
        jsonwebtoken::decode::<Claims>(token, key, &rules)
            .map(|token| token.claims)
            .map_err(|error| reaction(&error))
    }

    /// Reads the key set again and again, so that a key its issuer withdrew is soon refused.
    pub async fn keep_fresh(&self, readiness: &Readiness, stop: CancellationToken) {
        if let Some(jwks) = &self.jwks {
            jwks.keep_fresh(readiness, stop).await;
        }
    }
}

/// All rules but the algorithm, which each key brings.
fn rules(config: &AuthConfig) -> Validation {
    let mut rules = Validation::default();
    let mut required = vec!["exp"];
    rules.leeway = config.jwt_leeway_seconds;
    rules.validate_nbf = true;
    rules.validate_aud = !config.jwt_audience.is_empty();
    if rules.validate_aud {
        rules.set_audience(&config.jwt_audience);
        required.push("aud");
    }
    if !config.jwt_issuer.is_empty() {
        rules.set_issuer(&config.jwt_issuer);
        required.push("iss");
    }
    rules.set_required_spec_claims(&required);
    rules
}

/// Only of a token whose signature is right it is told what else is wrong with it.
fn reaction(error: &Error) -> AuthError {
    debug!(reason = ?error.kind(), "a token is refused");
    match error.kind() {
        ErrorKind::ExpiredSignature => AuthError::ExpiredToken,
        ErrorKind::ImmatureSignature => AuthError::ImmatureToken,
        ErrorKind::InvalidAudience | ErrorKind::InvalidIssuer => AuthError::ForeignToken,
        ErrorKind::MissingRequiredClaim(claim) if claim != "exp" => AuthError::ForeignToken,
        ErrorKind::MissingRequiredClaim(_) => AuthError::EndlessToken,
        _ => AuthError::InvalidToken,
    }
}
