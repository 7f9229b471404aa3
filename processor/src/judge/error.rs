//! Why a batch was not committed, by what is to be done about it.

use deadpool_postgres::PoolError;
use tokio_postgres::Error as PgError;
use tokio_postgres::error::SqlState;

/// What the caller of the judge has to react to.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// Somebody else owns the source: stop.
    #[error("another owner judges this source")]
    Fenced,
    /// Wait and give the same batch again.
    #[error("postgres is unavailable")]
    Unavailable(#[source] anyhow::Error),
    /// No retry mends this: say it loudly; an operator has to act.
    #[error("postgres refuses to store anything")]
    Stuck(#[source] PgError),
}

/// What the judge itself can react to.
#[derive(Debug)]
pub(super) enum Refusal {
    /// An optimistic COPY met a key that is stored.
    KeyConflict,
    /// The caches spoke under another generation than this transaction's.
    StaleCaches,
    /// Some row cannot be stored.
    Row(PgError),
    /// The leaf of today does not exist.
    NoLeaf,
    Judge(JudgeError),
}

/// Raised by `advance_ledger`.
const FENCED: &str = "TM001";

impl From<PgError> for Refusal {
    fn from(error: PgError) -> Self {
        let Some(db) = error.as_db_error() else { return Self::Judge(error.into()) };
        let code = db.code();
        if *code == SqlState::UNIQUE_VIOLATION && db.table() == Some("event_keys") {
            return Self::KeyConflict;
        }
        // "no partition of relation found for row" comes as a check violation without a constraint.
        if *code == SqlState::CHECK_VIOLATION && db.constraint().is_none() {
            return Self::NoLeaf;
        }
        // Data exceptions, constraint violations, cardinality and program limits: a row is to blame.
        match code.code().get(..2) {
            Some("21" | "22" | "23" | "54") => Self::Row(error),
            _ => Self::Judge(error.into()),
        }
    }
}

impl From<JudgeError> for Refusal {
    fn from(error: JudgeError) -> Self {
        Self::Judge(error)
    }
}

impl From<PgError> for JudgeError {
    fn from(error: PgError) -> Self {
        let Some(db) = error.as_db_error() else { return Self::Unavailable(error.into()) };
        let code = db.code().code();
        if code == FENCED {
            return Self::Fenced;
        }
        // Connection, transaction rollback, resources, lock, operator intervention, read-only
        // server (a standby), system error: all pass.
        match code.get(..2) {
            Some("08" | "25" | "40" | "53" | "55" | "57" | "58") => Self::Unavailable(error.into()),
            _ => Self::Stuck(error),
        }
    }
}

impl From<PoolError> for JudgeError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            other => Self::Unavailable(other.into()),
        }
    }
}

/// What Postgres said, for a dead letter.
pub(super) fn describe(error: &PgError) -> String {
    match error.as_db_error() {
        Some(db) => format!("{}: {}", db.code().code(), db.message()),
        None => error.to_string(),
    }
}
