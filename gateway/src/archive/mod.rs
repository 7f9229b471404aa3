//! Stored events: pages of them, newest first, and exports of any size.

mod csv;
mod cursor;
mod export;
mod page;

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use self::cursor::Cursor;
pub use self::export::Form;
use crate::config::StatsConfig;
use crate::http::ApiError;
use crate::stats::{FILTERS, Filter, LIMIT_DEFAULT, LIMIT_MAX, Params, Period, RANGE};

/// Exports at a time: each holds a connection to Postgres for as long as its client reads.
const EXPORTS_MAX: usize = 4;

pub struct Archive {
    pool: Pool,
    patience: Duration,
    exports: Arc<Semaphore>,
}

/// Which events are asked for.
#[derive(Debug)]
pub struct Wanted {
    from: Timestamp,
    to: Timestamp,
    filter: Filter,
    limit: Option<usize>,
    cursor: Option<Cursor>,
}

impl Archive {
    pub fn new(config: StatsConfig, pool: Pool) -> Self {
        let patience = Duration::from_millis(config.stats_answer_ms_max.into());
        Self { pool, patience, exports: Arc::new(Semaphore::new(EXPORTS_MAX)) }
    }
}

impl Wanted {
    /// Without a range: everything.
    pub fn read(query: &str, now: Timestamp) -> Result<Self, ApiError> {
        let params = Params::read(query, &[&RANGE, &["limit", "cursor"], &FILTERS])?;
        let period = Period::read_or_all(&params, now)?;
        let limit = params.text("limit").map(|_| params.count("limit", LIMIT_DEFAULT, LIMIT_MAX));
        Ok(Self {
            from: period.from.timestamp(),
            to: period.to.timestamp(),
            filter: Filter::read(&params)?,
            limit: limit.transpose()?,
            cursor: params.text("cursor").map(Cursor::decode).transpose()?,
        })
    }

    /// Behind an earlier page.
    pub fn is_continued(&self) -> bool {
        self.cursor.is_some()
    }
}
