//! Who may do what: a credential in the request, the caller it stands for, the right the route needs.

mod access;
mod caller;
mod credential;
mod duration;
mod keys;
mod store;
mod token;

use serde::{Deserialize, Serialize};

pub use self::access::Access;
pub use self::caller::{Caller, Identity, Rights};
pub use self::credential::Sent;
pub use self::duration::parse as parse_duration;
pub use self::store::{KeyRecord, KeyStore, KeyTerms, NewKey, Revocation};

/// Parameters of a query that carry a credential, or look as if they did: no other reader minds them.
pub const QUERY_CREDENTIALS: [&str; 3] = ["api_key", "access_token", "writeKey"];

/// What a caller may do; `Admin` includes the others, `Write` never reads.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    Read,
    Write,
    Admin,
}

impl Right {
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Admin];

    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Right {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|right| right.name() == name)
            .ok_or_else(|| anyhow::anyhow!("no right is called {name:?}"))
    }
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a request may not do what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error(
        "no API key was sent; put it into the header `X-API-Key` (or `Authorization: Bearer`, or \
         Basic as the user); `gateway keys create` makes one"
    )]
    Missing,
    #[error(
        "this API key is not known here, or was revoked; `gateway keys list` shows those in force"
    )]
    Unknown,
    #[error(
        "a JWT was sent, but this gateway is not set up for tokens; send an API key, or set \
         JWT_SECRET or JWT_JWKS_URL"
    )]
    TokensNotConfigured,
    #[error("this token was not signed with a key that counts here; get one from the right issuer")]
    InvalidToken,
    #[error("the token has expired (`exp`); get a new one")]
    ExpiredToken,
    #[error("the token is not valid yet (`nbf`); wait, or check the issuer's clock")]
    ImmatureToken,
    #[error("the token is meant for others; `iss` and `aud` must be what this gateway expects")]
    ForeignToken,
    #[error("the token never expires; its issuer must set `exp`")]
    EndlessToken,
    #[error("this needs the right `{needed}`, the credential has `{has}`; use one that has it")]
    LacksRight { needed: Right, has: Rights },
    #[error("this credential cannot be checked at the moment; send the same again shortly")]
    Unavailable,
}

impl AuthError {
    /// The code of the problem document.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "missing_credential",
            Self::Unknown => "unknown_credential",
            Self::TokensNotConfigured => "tokens_not_configured",
            Self::ExpiredToken => "expired_token",
            Self::InvalidToken => "invalid_token",
            // Nothing that a client could mend but by another token: one code.
            Self::ImmatureToken | Self::ForeignToken | Self::EndlessToken => "invalid_token",
            Self::LacksRight { .. } => "missing_right",
            Self::Unavailable => "credential_check_unavailable",
        }
    }

    /// The challenge of RFC 6750 that a 401 carries.
    pub fn challenge(self) -> &'static str {
        match self {
            Self::Missing => "Bearer realm=\"tallyman\"",
            _ => "Bearer realm=\"tallyman\", error=\"invalid_token\"",
        }
    }

    /// The label in the metrics.
    fn outcome(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unknown | Self::TokensNotConfigured => "unknown",
            Self::InvalidToken
            | Self::ExpiredToken
            | Self::ImmatureToken
            | Self::ForeignToken
            | Self::EndlessToken => "unknown",
            Self::LacksRight { .. } => "lacks_right",
            Self::Unavailable => "unavailable",
        }
    }
}
