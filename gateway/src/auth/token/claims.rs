//! What a token says of its bearer (pure).

use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};

use super::recent::TokenHash;
use crate::auth::{AuthError, Caller, Identity, Right, Rights};

/// What a user id may be in an event.
const USER_ID_BYTES_MAX: usize = 256;

#[derive(Debug, Deserialize)]
pub struct Claims {
    sub: Option<String>,
    iss: Option<String>,
    /// Seconds since 1970, by RFC 7519 perhaps with a fraction. That it is there, the rules see to.
    #[serde(default)]
    pub exp: f64,
    #[serde(default, deserialize_with = "rights")]
    rights: Option<Rights>,
}

/// Who bears a good token.
#[derive(Debug, Clone)]
pub struct Bearer {
    identity: Identity,
    /// `None`: the token claims none, so it speaks for its own user alone.
    rights: Option<Rights>,
    /// `sub`, where it can be a user of an event.
    user: Option<Arc<str>>,
}

impl Bearer {
    pub fn new(claims: &Claims, token: &TokenHash) -> Self {
        let is_user =
            |sub: &&str| (1..=USER_ID_BYTES_MAX).contains(&sub.len()) && !sub.contains('\0');
        Self {
            identity: identity(claims, token),
            rights: claims.rights,
            user: claims.sub.as_deref().filter(is_user).map(Arc::from),
        }
    }

    /// What the token grants; without the claim `rights` its user may write, as itself.
    pub fn caller(self, needed: Right) -> Result<Caller, AuthError> {
        let speaks_for_itself = needed == Right::Write && self.rights.is_none();
        self.granted(needed, speaks_for_itself)
    }

    /// Every user may hear what is for them.
    pub fn listener(self) -> Result<Caller, AuthError> {
        self.granted(Right::Read, true)
    }

    fn granted(self, needed: Right, speaks_for_itself: bool) -> Result<Caller, AuthError> {
        let rights = self.rights.unwrap_or_default();
        let confined_to = match self.user {
            _ if rights.includes(needed) => None,
            Some(user) if speaks_for_itself => Some(user),
            _ => return Err(AuthError::LacksRight { needed, has: rights }),
        };
        Ok(Caller { identity: self.identity, rights, confined_to, limit_per_min: None })
    }
}

/// Issuer and `sub`, each with its length, so that no two pairs meet; the token itself if it names
/// nobody.
fn identity(claims: &Claims, token: &TokenHash) -> Identity {
    let mut hash = Sha256::new();
    match &claims.sub {
        Some(sub) => {
            let issuer = claims.iss.as_deref().unwrap_or_default();
            hash.update((issuer.len() as u64).to_be_bytes());
            hash.update(issuer);
            hash.update(sub);
        }
        None => hash.update(token),
    }
    let hash: [u8; 32] = hash.finalize().into();
    Identity::Token(std::array::from_fn(|at| hash[at]))
}

/// An array of names, or names in one text with spaces between. Those of other systems are ignored.
fn rights<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Rights>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Names {
        Several(Vec<String>),
        Text(String),
    }
    let known =
        |names: &mut dyn Iterator<Item = &str>| names.flat_map(str::parse::<Right>).collect();
    Ok(Option::<Names>::deserialize(deserializer)?.map(|names| match names {
        Names::Several(names) => known(&mut names.iter().map(String::as_str)),
        Names::Text(text) => known(&mut text.split_whitespace()),
    }))
}
