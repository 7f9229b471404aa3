//! Rows as events, or the reason why not: the same parser and the same canonical form as over HTTP.

use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use common::event::{self, Arrival, EVENT_BYTES_MAX, Event, InvalidEvent, REWRITE_BYTES_MAX};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::keeper::Reject;
use super::plan::{Format, Plan};
use super::progress::Progress;
use super::rows::{Chunk, Position, RowRef};

/// `source` of events that name none.
const SOURCE: &str = "import";

const CANONICAL_BYTES_MAX: usize = EVENT_BYTES_MAX + REWRITE_BYTES_MAX;

/// A chunk's rows, each with its verdict.
pub struct Parsed {
    pub ready: Vec<Ready>,
    /// The canonical forms, one behind the other.
    pub canonical: Vec<u8>,
    pub rejects: Vec<Reject>,
    pub end: Position,
}

pub struct Ready {
    pub event: Event,
    pub canonical: Range<usize>,
}

/// Parses chunks, several at the same time.
pub struct Parser {
    pub plan: Arc<Plan>,
    /// When the import began: a resumed one gives the same time to events that bring none.
    pub started_at: Timestamp,
    pub hash: FileHash,
}

impl Parser {
    pub fn parse(&self, chunk: &Chunk) -> io::Result<Parsed> {
        let mut parsed = Parsed {
            ready: Vec::with_capacity(chunk.rows().len()),
            canonical: Vec::new(),
            rejects: Vec::new(),
            end: chunk.end,
        };
        let mut json = Vec::new();
        for row in chunk.rows() {
            let begin = parsed.canonical.len();
            match self.event(row, &mut json)? {
                Ok(event) => {
                    event.write_json(None, &mut parsed.canonical);
                    let bytes = parsed.canonical.len() - begin;
                    if bytes > CANONICAL_BYTES_MAX {
                        parsed.canonical.truncate(begin);
                        let bytes_max = CANONICAL_BYTES_MAX;
                        let invalid = InvalidEvent::TooLarge { bytes, bytes_max };
                        parsed.rejects.push(self.invalid(row, &invalid));
                        continue;
                    }
                    parsed.ready.push(Ready { event, canonical: begin..parsed.canonical.len() });
                }
                Err(reject) => parsed.rejects.push(*reject),
            }
        }
        Ok(parsed)
    }

    fn event(&self, row: RowRef<'_>, json: &mut Vec<u8>) -> io::Result<Result<Event, Box<Reject>>> {
        if row.is_too_long() {
            let detail = "the row is longer than any event may be; is a quote not closed?";
            return Ok(Err(Box::new(Reject::of(row, "too_large", None, detail))));
        }
        let bytes = match &self.plan.format {
            Format::Ndjson => row.raw(),
            Format::Csv { columns, .. } => {
                json.clear();
                if let Err(error) = columns.write_json(row.cells(), json) {
                    let detail = error.to_string();
                    return Ok(Err(Box::new(Reject::of(row, error.code(), None, &detail))));
                }
                json
            }
        };
        let mut unhashed = None;
        // As a line over HTTP is read: a CloudEvent may be among them.
        let format = match &self.plan.format {
            Format::Ndjson => event::Format::Auto,
            Format::Csv { .. } => event::Format::Native,
        };
        let event = event::parse_as(format, bytes, &self.arrival(), || match self.hash.get() {
            Ok(hash) => format!("{hash}-{}", row.number()),
            Err(error) => {
                unhashed = Some(error);
                String::new()
            }
        });
        if let Some(error) = unhashed {
            return Err(error);
        }
        Ok(match event {
            Ok(event) if self.plan.user.as_ref().is_some_and(|only| *only != event.user_id) => {
                let detail = "the token is for another user";
                Err(Box::new(Reject::of(row, "user_mismatch", Some("/userId".into()), detail)))
            }
            Ok(event) => Ok(event),
            Err(invalid) => Err(Box::new(self.invalid(row, &invalid))),
        })
    }

    fn arrival(&self) -> Arrival<'_> {
        Arrival {
            received_at: self.started_at,
            now: Timestamp::now(),
            source: SOURCE,
            user: self.plan.user.as_deref(),
            bytes_max: EVENT_BYTES_MAX,
        }
    }

    fn invalid(&self, row: RowRef<'_>, invalid: &InvalidEvent) -> Reject {
        let pointer = invalid.pointer();
        let mut reject = Reject::of(row, invalid.code(), None, &invalid.to_string());
        if let Format::Csv { columns, .. } = &self.plan.format {
            reject.column = columns.column_at(&pointer).map(str::to_owned);
        }
        reject.pointer = Some(pointer);
        reject
    }
}

/// The hash of the whole file: read when the first row is met that has neither an id nor a time, for which it and
/// the row's number are the id.
pub struct FileHash {
    known: OnceLock<Result<String, String>>,
    plan: Arc<Plan>,
    progress: Arc<Progress>,
    stop: CancellationToken,
}

impl FileHash {
    pub fn new(
        known: Option<String>,
        plan: Arc<Plan>,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Self {
        let known = known.map_or_else(OnceLock::new, |hash| OnceLock::from(Ok(hash)));
        Self { known, plan, progress, stop }
    }

    pub fn known(&self) -> Option<&String> {
        self.known.get()?.as_ref().ok()
    }

    /// Whoever asks meanwhile waits for the first.
    fn get(&self) -> io::Result<&str> {
        let hash = self.known.get_or_init(|| {
            self.progress.hashing(true);
            let hash = self.plan.source.hash(&self.progress.hashed_bytes, &self.stop);
            self.progress.hashing(false);
            hash.map_err(|error| error.to_string())
        });
        hash.as_deref().map_err(|reason| io::Error::other(reason.clone()))
    }
}
