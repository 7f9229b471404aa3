//! A JSON Web Key Set as keys that check signatures, each bound to one algorithm (pure).

use anyhow::Context;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// More than any issuer publishes; a token without `kid` is tried with all of its algorithm.
const KEYS_MAX: usize = 32;

#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
    /// Counts the sets in force so far.
    pub generation: u64,
}

#[derive(Debug)]
pub struct VerificationKey {
    kid: Option<String>,
    pub algorithm: Algorithm,
    pub key: DecodingKey,
}

impl KeySet {
    /// Keys of other kinds and for other uses are left out, whatever they look like.
    pub fn read(json: &[u8], generation: u64) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document = serde_json::from_slice(json).context("this is no JWK set")?;
        let known = document.keys.into_iter().filter_map(VerificationKey::of);
        Ok(Self { keys: known.take(KEYS_MAX).collect(), generation })
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether a signature that no key confirms is wrong, or may be by a key newer than this set.
    pub fn knows(&self, kid: Option<&str>) -> bool {
        kid.is_some() && self.keys.iter().any(|key| key.kid.as_deref() == kid)
    }

    pub fn candidates(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &VerificationKey> {
        let fits = move |key: &&VerificationKey| {
            key.algorithm == algorithm && (kid.is_none() || key.kid.as_deref() == kid)
        };
        self.keys.iter().filter(fits)
    }
}

impl VerificationKey {
    fn of(json: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(json).ok()?;
        let common = &jwk.common;
        let is_for_signatures =
            common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature)
                && common
                    .key_operations
                    .as_ref()
                    .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        let (algorithm, name) = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
            AlgorithmParameters::EllipticCurve(it) if it.curve == EllipticCurve::P256 => {
                (Algorithm::ES256, KeyAlgorithm::ES256)
            }
            AlgorithmParameters::OctetKeyPair(it) if it.curve == EllipticCurve::Ed25519 => {
                (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
            }
            // A secret that is published is none: `oct` keys never check anything.
            _ => return None,
        };
        if !is_for_signatures || common.key_algorithm.is_some_and(|it| it != name) {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { kid: jwk.common.key_id, algorithm, key })
    }
}
