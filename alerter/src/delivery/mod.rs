//! What becomes of what the alerter tells: ordinary subscribers of its topics.

pub mod history;
pub mod subscriber;

use tokio_postgres::error::SqlState;

/// Class 22 (data exception) and 23 (a constraint) concern what we sent; all else the server.
pub fn is_about_the_rows(error: &tokio_postgres::Error) -> bool {
    let class = |state: &SqlState| matches!(state.code().get(..2), Some("22" | "23"));
    error.code().is_some_and(class)
}
