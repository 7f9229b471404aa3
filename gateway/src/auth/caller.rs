//! Who a request comes from, once its credential is known, and what that one may do.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::Right;

/// Who asks. Made by `Access` alone; a request without one has no rights.
#[derive(Debug, Clone)]
pub struct Caller {
    pub identity: Identity,
    pub rights: Rights,
    /// The only user this caller may act for, or see; `None`: any.
    pub confined_to: Option<Arc<str>>,
    /// The limit set on the key, if it has one.
    pub limit_per_min: Option<u32>,
}

impl Caller {
    /// Whoever it is, allowed to write without a credential.
    pub(super) fn anonymous() -> Self {
        Self {
            identity: Identity::Anonymous,
            rights: Rights::from_iter([Right::Write]),
            confined_to: None,
            limit_per_min: None,
        }
    }

    /// Requests without an API key fall under the limit of their address.
    pub fn has_key(&self) -> bool {
        matches!(self.identity, Identity::Key(_))
    }

    pub fn may_act_for(&self, user_id: &str) -> bool {
        self.confined_to.as_deref().is_none_or(|own| own == user_id)
    }
}

/// The same for every request of one client, whatever its secret or token is at the moment: quotas
/// and stored answers go by it. `Display` is short, unique and holds nothing secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A rotated key keeps the id of the first.
    Key(Uuid),
    /// A hash of issuer and `sub`: both are texts of any length and name a person.
    Token([u8; 16]),
    Anonymous,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(id) => write!(f, "key:{}", id.simple()),
            Self::Token(hash) => write!(f, "token:{:032x}", u128::from_be_bytes(*hash)),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}

/// A set of rights; `Admin` includes the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights(u8);

impl Rights {
    pub fn includes(self, needed: Right) -> bool {
        let has = |right: Right| self.0 & bit(right) != 0;
        has(needed) || has(Right::Admin)
    }
}

fn bit(right: Right) -> u8 {
    1 << right as u8
}

impl FromIterator<Right> for Rights {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        Self(rights.into_iter().fold(0, |bits, right| bits | bit(right)))
    }
}

impl From<Right> for Rights {
    fn from(right: Right) -> Self {
        Self(bit(right))
    }
}

/// The names, for people: `read, write`.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = |right: &Right| self.0 & bit(*right) != 0;
        let names: Vec<_> = Right::ALL.into_iter().filter(has).map(Right::name).collect();
        if names.is_empty() {
            return f.write_str("none");
        }
        f.write_str(&names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::Right::{Admin, Read, Write};
    use super::*;

    #[test]
    fn admin_includes_the_others_and_write_never_reads() {
        for (has, needed, allowed) in [
            (Admin, Read, true),
            (Admin, Write, true),
            (Admin, Admin, true),
            (Write, Write, true),
            (Write, Read, false),
            (Read, Write, false),
            (Read, Admin, false),
        ] {
            assert_eq!(Rights::from(has).includes(needed), allowed, "{has} for {needed}");
        }
        let both = Rights::from_iter([Write, Read]);
        assert!(both.includes(Read) && both.includes(Write) && !both.includes(Admin));
        assert_eq!(
            (both.to_string(), Rights::default().to_string()),
            ("read, write".into(), "none".into())
        );
    }

    #[test]
    fn an_identity_has_one_short_name() {
        assert_eq!(Identity::Token([1; 16]).to_string(), format!("token:{}", "01".repeat(16)));
        assert_eq!(Identity::Key(Uuid::nil()).to_string(), format!("key:{}", "0".repeat(32)));
    }
}
